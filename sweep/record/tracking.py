"""The record in MLflow: open a run, log to it, find it again. Only registry.py imports mlflow besides.

Without MLFLOW_TRACKING_URI, runs go to mlflow.db and mlruns/ in the project's root, which is where a bare
`mlflow ui` started there looks.
"""

import contextlib
import functools
import inspect
import json
import logging
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar
from urllib.parse import urlsplit

import mlflow
from filelock import FileLock
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Experiment, RunTag
from mlflow.entities import Run as RunEntity
from mlflow.environment_variables import MLFLOW_ALLOW_FILE_STORE
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient
from mlflow.tracking.context.registry import resolve_tags
from mlflow.tracking.registry import UnsupportedModelRegistryStoreURIException
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS, MLFLOW_PARENT_RUN_ID, MLFLOW_SOURCE_TYPE
from requests.exceptions import RequestException
from sqlalchemy.exc import OperationalError

from sweep import ROOT, environment
from sweep.arguments import training_command
from sweep.errors import RecordError, SweepError, concerns_record, in_one_line, printable, require, without_password
from sweep.files import as_folder, is_name
from sweep.outcome import FINISHED, INTERRUPTED, Outcome, State, outcome_of

P = ParamSpec("P")
T = TypeVar("T")

STUDY_TAG = "sweep.study"
KIND_TAG = "sweep.kind"
TRIAL_TAG = "sweep.trial"
OBJECTIVE_TAG = "sweep.objective"
DIRECTION_TAG = "sweep.direction"
ERROR_TAG = "sweep.error"
STOPPED_TAG = "sweep.stopped"
STATE_TAG = "sweep.state"
"""How a run that has ended has ended, in the words of `Outcome`."""
COPY_TAG = "sweep.copy_of"
RERUN_TAG = "sweep.rerun_of"
COMMIT_TAG = "mlflow.source.git.commit"
DIRTY_TAG = "sweep.git_dirty"
DEVICE_TAG = "sweep.device"
PROCESSOR_TAG = "sweep.processor"
PRECISION_TAG = "sweep.precision"
THREADS_TAG = "sweep.num_threads"
TORCH_TAG = "sweep.torch"
PARAMETERS_TAG = "sweep.parameters"
"""How many numbers of the model are trained."""
OVERRIDES_TAG = "sweep.overrides"
CONFIRMS_TAG = "sweep.confirms"
"""The study whose best trials a study trains again."""
GRID_TAG = "sweep.grid"
"""Set of a study that is a grid: nothing searches in it, and its trials may be as bad as they come."""
FOLDER_TAG = "sweep.folder"
"""Where the files of a study lie on the machine that ran it."""
RUN_FILE = ".sweep.run"
"""The file in that folder with the id of the study's run, by which the folder is known to be the study's."""
MOST_NAMES = 10
"""Studies that are named to somebody who asks for one that is not there."""
SECONDS_TO_ANSWER = 5
SECONDS_OF_PATIENCE = 600
"""How long a database that others have locked, or whose server is away, is waited for."""
SECONDS_BETWEEN_TRIES = 1.0

NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow says of a name or an id that it does not have, or that nothing can have."""
NOT_KNOWN = ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR")
"""What it says where it could not look."""

SECONDS_OF_CLOCK_SET = 1
"""How far the clock must have been set while a run was open to tell the run's end by the time that has passed."""

_CONNECTING = threading.Lock()  # slots are threads
_CONNECTED: set[str] = set()
_TELLING = threading.Lock()
_TOLD: list[str] = []

RUN_CONTEXT = "MLFLOW_RUN_CONTEXT"
"""The environment variable with the tags, as JSON, of every run that a process starts."""

STATUS: dict[State, str] = {
    "finished": "FINISHED",
    "pruned": "KILLED",
    "stopped": "KILLED",
    "interrupted": "FAILED",
    "failed": "FAILED",
}
"""MLflow's word for how a run ended."""

MOST_PARAMS = 100
"""How many params MLflow takes in one call."""
MOST_CHARACTERS = 6000
"""How long the value of a param may be."""

DEFAULT_URI = f"sqlite:///{ROOT / 'mlflow.db'}"


def failures_told(write: Callable[P, T]) -> Callable[P, T]:
    """`write` with what MLflow's store, its server or a disk raises as a RecordError."""

    @functools.wraps(write)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return write(*args, **kwargs)
        except (MlflowException, OSError) as error:
            if getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE":  # what is written, not where to
                raise
            raise RecordError(
                f"MLflow's record cannot be written ({in_one_line(error, 300)}); what has finished is kept, and the "
                "same command goes on"
            ) from error

    return told


class Run(ABC):
    """An open run, as a trial sees it."""

    run_id: str | None

    @abstractmethod
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings, once each."""

    @abstractmethod
    def log_params_once(self, params: Mapping[str, Any]) -> None:
        """Record settings where none of these keys is recorded yet; MLflow cannot change one."""

    @abstractmethod
    def log_note(self, text: str) -> None:
        """Put `text`, in Markdown, at the head of the run's page, in place of what was there."""

    @abstractmethod
    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Record facts that are not settings, by which runs can be found and compared."""

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Record `metrics` after epoch `step`."""

    @abstractmethod
    def log_dataset(self, name: str, digest: str, origin: str) -> None:
        """Record which data set was used, and the address it comes from."""

    @abstractmethod
    def log_file(self, path: Path) -> None:
        """Keep a copy of the file at `path`."""

    @abstractmethod
    def log_text(self, text: str, file: str) -> None:
        """Keep `text` as a file named `file`."""

    @abstractmethod
    def log_folder(self, folder: Path) -> None:
        """Keep a copy of all files in `folder`, under their names there."""

    @abstractmethod
    def log_table(self, columns: Mapping[str, Sequence[Any]], file: str) -> None:
        """Keep a table as `file`, a .json that MLflow's pages show as one, in place of what was there."""


class NoRun(Run):
    """A run of which nothing is kept."""

    run_id = None

    def log_params(self, params: Mapping[str, Any]) -> None: ...
    def log_params_once(self, params: Mapping[str, Any]) -> None: ...
    def log_note(self, text: str) -> None: ...
    def log_tags(self, tags: Mapping[str, str]) -> None: ...
    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None: ...
    def log_dataset(self, name: str, digest: str, origin: str) -> None: ...
    def log_file(self, path: Path) -> None: ...
    def log_text(self, text: str, file: str) -> None: ...
    def log_folder(self, folder: Path) -> None: ...
    def log_table(self, columns: Mapping[str, Sequence[Any]], file: str) -> None: ...


class MLflowRun(Run):
    """A run in MLflow."""

    def __init__(self, run_id: str) -> None:
        self.run_id: str = run_id

    @failures_told
    def log_params(self, params: Mapping[str, Any]) -> None:
        texts = [(re.sub(r"[^\w\-. :/]", "_", key), str(value)[:MOST_CHARACTERS]) for key, value in params.items()]
        for start in range(0, len(texts), MOST_PARAMS):
            mlflow.log_params(dict(texts[start : start + MOST_PARAMS]), run_id=self.run_id)

    @failures_told
    def log_params_once(self, params: Mapping[str, Any]) -> None:
        if not params.keys() & find_run(self.run_id).params.keys():
            self.log_params(params)

    @failures_told
    def log_note(self, text: str) -> None:
        MlflowClient().set_tag(self.run_id, "mlflow.note.content", text)

    @failures_told
    def log_tags(self, tags: Mapping[str, str]) -> None:
        MlflowClient().log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    @failures_told
    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        mlflow.log_metrics(dict(metrics), step=step, run_id=self.run_id)

    @failures_told
    def log_dataset(self, name: str, digest: str, origin: str) -> None:
        dataset = _Dataset(HTTPDatasetSource(origin), name=name, digest=digest)
        try:
            mlflow.log_input(dataset, context="training")
        except MlflowException:  # two trials that are the first to log it at once; the one that failed finds it made
            mlflow.log_input(dataset, context="training")

    @failures_told
    def log_file(self, path: Path) -> None:
        mlflow.log_artifact(str(path), run_id=self.run_id)

    @failures_told
    def log_text(self, text: str, file: str) -> None:
        mlflow.log_text(text, file, run_id=self.run_id)

    @failures_told
    def log_folder(self, folder: Path) -> None:
        mlflow.log_artifacts(str(folder), run_id=self.run_id)

    @failures_told
    def log_table(self, columns: Mapping[str, Sequence[Any]], file: str) -> None:
        # In the form of mlflow.log_table, which adds to the rows that are there already.
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        mlflow.log_text(json.dumps({"columns": list(columns), "data": rows}), file, run_id=self.run_id)
        MlflowClient().set_tag(self.run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([{"path": file, "type": "table"}]))


class _Dataset(MetaDataset):
    profile = None


def connect() -> None:
    """Choose the tracking server or database, make it if it is the project's own, and see that it answers.

    A database file that another process has locked is waited for.

    Raises:
        RecordError: It does not answer, or cannot be opened.
        SweepError: It is no address that MLflow takes.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs what it also raises
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # with the password, once for each run
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # 14 s; then it is said that a server is waited for
    environment.settle()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    _require_address(uri)
    mlflow.set_tracking_uri(uri)
    path = environment.sqlite_path(uri)
    try:
        with _CONNECTING:
            if uri in _CONNECTED:
                return
            # Two processes that make the same database at once break it.
            with FileLock(f"{path}.lock") if path else contextlib.nullcontext(), _answering_soon():
                # The first client opens the database, which may be locked as well.
                look = _patient(lambda: MlflowClient().search_experiments(max_results=1), None if path else 0)
                look()
            _make_store_patient()
            _CONNECTED.add(uri)
    except UnsupportedModelRegistryStoreURIException as error:
        known = ", ".join(sorted(scheme for scheme in error.supported_uri_schemes if scheme not in ("", "file")))
        raise SweepError(f"MLFLOW_TRACKING_URI={uri}: no address that MLflow takes; one begins with {known}") from error
    except Exception as error:  # whatever the store behind the address raises
        reason = _reason(error.__cause__ if isinstance(error, RecordError) and error.__cause__ else error)
        raise RecordError(
            f"MLFLOW_TRACKING_URI={uri}: cannot be reached ({reason}); start the server, "
            "or unset MLFLOW_TRACKING_URI to record in mlflow.db here"
        ) from error


def _require_address(uri: str) -> None:
    """Raise a SweepError where MLflow would keep no record at `uri`, or one that only this process can see."""
    allowed = "give a database, as in sqlite:////FOLDER/mlflow.db, or a server, as in http://HOST:5000"
    is_folder = os.path.isabs(uri) or uri.startswith("file:")
    if is_folder and not MLFLOW_ALLOW_FILE_STORE.get():
        raise SweepError(
            f"MLFLOW_TRACKING_URI={uri}: MLflow keeps no record in a plain folder now; {allowed}; "
            "`mlflow migrate-filestore` moves what is there"
        )
    is_no_file = uri.startswith("sqlite") and environment.sqlite_path(uri) is None
    require(not is_no_file, "MLFLOW_TRACKING_URI", uri, f"it names no database file; {allowed}")


def _patient(call: Callable[..., Any], patience: float | None = None) -> Callable[..., Any]:
    """`call`, asking again for so many seconds while its database is held up, and saying what it waits for."""

    @functools.wraps(call)
    def patient(*args: Any, **kwargs: Any) -> Any:
        seconds = SECONDS_OF_PATIENCE if patience is None else patience
        deadline = time.monotonic() + seconds
        while True:
            try:
                answer = call(*args, **kwargs)
                _tell_once("")
                return answer
            except (MlflowException, OperationalError) as error:
                if _is_held_up(error) and time.monotonic() < deadline:
                    _tell_once(f"waiting up to {seconds / 60:.0f} minutes for MLflow's record: {_reason(error)}")
                elif isinstance(error, OperationalError) or error.error_code in NOT_KNOWN:
                    uri = mlflow.get_tracking_uri()
                    raise RecordError(
                        f"MLFLOW_TRACKING_URI={uri}: does not answer ({_reason(error)}); what has finished is kept, "
                        "and a study goes on with the same command"
                    ) from error
                else:
                    raise
            time.sleep(SECONDS_BETWEEN_TRIES)

    return patient


def _make_store_patient() -> None:
    """Have also wait what MLflow reads and writes by itself, as when it logs a model or how busy the machine is."""
    store = MlflowClient()._tracking_client.store  # the one that every client and mlflow's own functions share
    for name in dir(type(store)):
        if not name.startswith("_") and inspect.isfunction(getattr(type(store), name)):
            setattr(store, name, _patient(getattr(store, name)))


def _is_held_up(error: Exception) -> bool:
    """Whether a database was locked by another process, or a server away: asking again may find it well."""
    if isinstance(error.__context__, RequestException):
        return True
    cause = error if isinstance(error, OperationalError) else error.__cause__
    if not isinstance(cause, OperationalError):
        return False
    code = getattr(cause.orig, "sqlite_errorcode", None)
    return code is None or code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _reason(error: BaseException) -> str:
    cause = error if isinstance(error, OperationalError) else error.__cause__
    return in_one_line(cause.orig if isinstance(cause, OperationalError) and cause.orig else error, 200)


def _tell_once(line: str) -> None:
    """Print what is waited for, if nothing is yet; with no `line` that it is there again, if it was waited for."""
    with _TELLING:
        if line and not _TOLD:
            _TOLD.append(line)
            print(f"{line} (process {os.getpid()})", file=sys.stderr, flush=True)
        elif _TOLD and not line:
            _TOLD.clear()
            print("MLflow's record answers again", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _answering_soon() -> Iterator[None]:
    """Ask once and wait SECONDS_TO_ANSWER, where MLflow by itself asks for minutes on end."""
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(SECONDS_TO_ANSWER)}
    before = {name: os.environ.get(name) for name in patience}
    os.environ.update(patience)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def open_run(
    experiment: str,
    name: str,
    *,
    tags: Mapping[str, str],
    parent: "RunRecord | None" = None,
    run_id: str | None = None,
    watch_machine: bool = False,
    outcome: Outcome = FINISHED,
    active: bool = True,
) -> Iterator[MLflowRun]:
    """A run named `name`, closed with `outcome` when it is left.

    Where an error comes out, it is closed as FAILED with the error in a tag, or as KILLED with the reason
    where that is Stopped.

    Args:
        experiment: Made if it does not exist; that of `parent`, or of a run that `mlflow run` made, goes first.
        name: What the run is called in MLflow's pages.
        tags: Set from the start, besides the state of the git repository.
        parent: The run under which this one is shown.
        run_id: The run to go on with, in place of a new one.
        watch_machine: Whether to record every ten seconds how busy processor, memory and GPUs are.
        outcome: How it ends where no error comes out.
        active: Whether it is MLflow's active run meanwhile, to which `mlflow.log_metric` and the like add.
    """
    if parent is None:
        run_id = _outermost(run_id)
    settings = _RunSettings(
        run_id=run_id,
        experiment_id=None if run_id else parent.experiment_id if parent else _experiment_id(experiment),
        run_name=name,
        tags={**_git_tags(), **tags},
        parent_run_id=parent.run_id if parent and not run_id else None,
        log_system_metrics=watch_machine,
    )
    opened, end = _open_active(settings) if active else _open_aside(settings)
    began, began_by_clock = time.monotonic(), time.time()
    try:
        yield MLflowRun(opened)
    except BaseException as error:
        outcome = outcome_of(error)
        if parent is not None and concerns_record(error):  # then it is no fault of the trial's
            outcome = Outcome("interrupted", INTERRUPTED)
        raise
    finally:
        # Where the record is what broke, the error itself matters more.
        with contextlib.suppress(Exception) if outcome.reason else contextlib.nullcontext():
            end(outcome)
            # MLflow takes both times from the clock, which may have been set meanwhile.
            elapsed = time.monotonic() - began
            if abs(time.time() - began_by_clock - elapsed) > SECONDS_OF_CLOCK_SET:
                ended = int(1000 * (began_by_clock + elapsed))
                MlflowClient().set_terminated(opened, STATUS[outcome.state], end_time=ended)


class _RunSettings(NamedTuple):
    """What `mlflow.start_run` takes."""

    run_id: str | None
    experiment_id: str | None
    run_name: str
    tags: dict[str, str]
    parent_run_id: str | None
    log_system_metrics: bool


@failures_told
def _open_active(settings: _RunSettings) -> tuple[str, Callable[[Outcome], None]]:
    """The id of a run that is MLflow's active one, and what ends it."""
    # The study's run is open in the same process under Hydra's basic launcher.
    run_id = mlflow.start_run(**settings._asdict(), nested=True).info.run_id

    def end(outcome: Outcome) -> None:
        mlflow.set_tags(ending_tags(outcome))
        mlflow.end_run(STATUS[outcome.state])

    return run_id, end


@failures_told
def _open_aside(settings: _RunSettings) -> tuple[str, Callable[[Outcome], None]]:
    """The id of a run that is not MLflow's active one, and what ends it and what was started meanwhile."""
    client = MlflowClient()
    tags = settings.tags | ({MLFLOW_PARENT_RUN_ID: settings.parent_run_id} if settings.parent_run_id else {})
    if settings.run_id is None:
        assert settings.experiment_id is not None
        made = client.create_run(settings.experiment_id, tags=resolve_tags(tags), run_name=settings.run_name)
        run_id = str(made.info.run_id)
    else:
        run_id = settings.run_id
        client.update_run(run_id, status="RUNNING")
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    monitor = None
    if settings.log_system_metrics:
        monitor = SystemMetricsMonitor(run_id, resume_logging=settings.run_id is not None)
        monitor.start()

    def end(outcome: Outcome) -> None:
        if monitor is not None:
            monitor.finish()
        while mlflow.active_run() is not None:
            mlflow.end_run(STATUS[outcome.state])
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in ending_tags(outcome).items()])
        client.set_terminated(run_id, STATUS[outcome.state])

    return run_id, end


@contextlib.contextmanager
def adopting(run_id: str | None) -> Iterator[None]:
    """Within, every run that this process or one of its children starts is a child of the run."""
    before = os.environ.get(RUN_CONTEXT)
    if run_id is not None:
        os.environ[RUN_CONTEXT] = json.dumps({MLFLOW_PARENT_RUN_ID: run_id})
    try:
        yield
    finally:
        os.environ.pop(RUN_CONTEXT, None)
        if before is not None:
            os.environ[RUN_CONTEXT] = before


def ending_tags(outcome: Outcome) -> dict[str, str]:
    """The tags of a run that ended with `outcome`."""
    tags: dict[str, str] = {STATE_TAG: outcome.state}
    if outcome.reason:
        tags[ERROR_TAG if STATUS[outcome.state] == "FAILED" else STOPPED_TAG] = outcome.reason[:1000]
    return tags


def objective_tags(objectives: Iterable[str], directions: Iterable[str]) -> dict[str, str]:
    """The tags that say what a run is after."""
    return {OBJECTIVE_TAG: ",".join(objectives), DIRECTION_TAG: ",".join(directions)}


def require_place(experiment: str) -> None:
    """See that a new run in `experiment` can be made and has a place for its files, before anything is recorded.

    Raises:
        SweepError: The experiment was deleted, its place cannot be written, or the environment names a run, or
            something else of MLflow's, that is not this command's.
    """
    run_id = _outermost(None)
    if run_id is None:
        _find_experiment(experiment)


def _require_writable(what: str, location: str | None) -> None:
    """Raise a SweepError if `location` is a folder of this machine that cannot be made or written."""
    if location is None or urlsplit(location).scheme not in ("", "file"):
        return
    path = Path(local_file_uri_to_path(location))
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise SweepError(
            f"{what}: MLflow keeps its files in {path}, which cannot be written here ({error.strerror}); "
            "have that folder made, or choose another experiment"
        ) from error


def _outermost(run_id: str | None) -> str | None:
    """The run that the outermost one goes on with: `run_id`, or the one that `mlflow run` opened for this command.

    Raises:
        SweepError: The environment names any other run, or where runs belong.
    """
    given = dict(environment.given)
    asked = given.pop(environment.RUN_ID, None)
    if asked is None:
        for name, value in given.items():
            instead = " and give tracking.experiment=NAME" if "EXPERIMENT" in name else ""
            raise SweepError(f"{name}={value}: runs are not told by it where they belong; unset it{instead}")
        return run_id
    if asked == run_id:
        return run_id
    at, unset = f"{environment.RUN_ID}={asked}", "nothing is written to it; unset MLFLOW_RUN_ID"
    if run_id is not None:
        raise SweepError(f"{at}: the study goes on in its own run, {run_id}; {unset}")
    run = _get_run(asked)
    if run is None:
        raise SweepError(f"{at}: MLflow knows no run with this id; unset MLFLOW_RUN_ID")
    is_ours = run.data.tags.get(MLFLOW_SOURCE_TYPE) == "PROJECT" and KIND_TAG not in run.data.tags
    if not (is_ours and run.info.status == "RUNNING" and run.info.lifecycle_stage == "active"):
        state = run.info.status if run.info.lifecycle_stage == "active" else "deleted"
        raise SweepError(f"{at}: that is {printable(run.info.run_name)}, {state}, not made for this command; {unset}")
    _require_writable(at, run.info.artifact_uri)
    return asked


def _get_run(run_id: str) -> RunEntity | None:
    """MLflow's own record of a run, None if it has none; that it cannot look is an error."""
    try:
        return MlflowClient().get_run(run_id)
    except MlflowException as error:
        if error.error_code in NOT_FOUND:
            return None
        raise


def reopen(run_id: str) -> bool:
    """Whether the run is still there to go on with; how it ended before is forgotten.

    Raises:
        RecordError: MLflow could not look.
        SweepError: The place of its files cannot be written.
    """
    run = _get_run(run_id)
    if run is None or run.info.lifecycle_stage != "active":
        return False
    _require_writable(f"run={run_id}", run.info.artifact_uri)
    for tag in (ERROR_TAG, STOPPED_TAG, STATE_TAG):
        if tag in run.data.tags:
            MlflowClient().delete_tag(run_id, tag)
    return True


def keep_running(run_id: str) -> None:
    """Have a run, closed by this process, shown as RUNNING: others still work on it."""
    MlflowClient().update_run(run_id, status="RUNNING")


def close_run(run: "RunRecord", outcome: Outcome) -> None:
    """End a run whose process died, or that ended in another way, with `outcome`."""
    client = MlflowClient()
    for tag in run.tags.keys() & {ERROR_TAG, STOPPED_TAG}:
        client.delete_tag(run.run_id, tag)
    for key, value in ending_tags(outcome).items():
        client.set_tag(run.run_id, key, value)
    if run.status == "RUNNING":
        client.set_terminated(run.run_id, STATUS[outcome.state])
    else:
        client.update_run(run.run_id, STATUS[outcome.state])  # it keeps the time when it ended


def complete(run: "RunRecord", params: Mapping[str, Any], metrics: Mapping[str, float], step: int) -> None:
    """Add to an ended run what it lacks of its `params`, and of the `metrics` that it had after `step`."""
    record = MLflowRun(run.run_id)
    if missing := {key: value for key, value in params.items() if key not in run.params}:
        record.log_params(missing)
    if lacking := {key: value for key, value in metrics.items() if key not in run.metrics}:
        record.log_metrics(lacking, step=step)


def _experiment_id(name: str) -> str:
    found = _find_experiment(name)
    if found is None:
        try:
            return MlflowClient().create_experiment(name, artifact_location=_artifact_location(name))
        except MlflowException as error:
            found = _find_experiment(name)  # another process may have been faster
            if found is None:
                raise SweepError(f"experiment={name}: {in_one_line(error, 300)}") from error
    return str(found.experiment_id)


def _find_experiment(name: str) -> Experiment | None:
    """The experiment called `name`, None if there is none yet; the place of its files can be written.

    Raises:
        SweepError: It cannot, or the experiment was deleted.
    """
    found = MlflowClient().get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise SweepError(f"experiment={name}: it was deleted in MLflow; restore it, or choose another experiment")
    location = found.artifact_location if found else _artifact_location(name)
    _require_writable(f"experiment={name}", location)
    return found


def _artifact_location(experiment: str) -> str | None:
    """Where the files of a new experiment go: beside a database file, wherever else the server or MLflow puts them."""
    path = environment.sqlite_path(mlflow.get_tracking_uri())
    return (Path(path).parent / "mlruns" / as_folder(experiment)).as_uri() if path else None


@functools.cache
def _git_tags() -> dict[str, str]:
    """The commit that is checked out, and whether files differ from it; nothing outside a repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {
            COMMIT_TAG: git("rev-parse", "HEAD"),
            DIRTY_TAG: str(bool(git("status", "--porcelain"))).lower(),
        }
    except (OSError, subprocess.SubprocessError):
        return {}


class RunRecord(NamedTuple):
    """What MLflow holds of a run."""

    run_id: str
    experiment_id: str
    name: str
    status: str
    """RUNNING, FINISHED, FAILED or KILLED."""
    params: dict[str, str]
    metrics: dict[str, float]
    """The last value of each."""
    tags: dict[str, str]
    seconds: float
    """From its start to its end; 0 while it runs."""
    digest: str = ""
    """Digest of the data that it was trained on; empty if it does not say."""
    dataset: str = ""
    """Name of those data."""

    @property
    def trial_number(self) -> int:
        """Its number in its study, -1 for a run outside of one."""
        return self.whole_number(TRIAL_TAG, -1)

    def whole_number(self, tag: str, missing: int) -> int:
        """What the `tag` holds, or `missing` where there is none.

        Raises:
            SweepError: It is no whole number, so whoever recorded it is not this project.
        """
        text = self.tags.get(tag, str(missing))
        if not re.fullmatch(r"-?[0-9]{1,9}", text):
            raise SweepError(f"run={self.run_id}: its tag {tag} is damaged: {repr(text)[:80]} is no number")
        return int(text)

    @property
    def objectives(self) -> list[str]:
        """The metrics that it is after."""
        return self.tags.get(OBJECTIVE_TAG, "test/accuracy").split(",")

    @property
    def directions(self) -> list[str]:
        """Which way each of them is better.

        Raises:
            SweepError: There are not as many of them as objectives, so whoever recorded it is not this project.
        """
        found = self.tags.get(DIRECTION_TAG, "maximize").split(",")
        if len(found) != len(self.objectives) or not {"minimize", "maximize"}.issuperset(found):
            raise SweepError(
                f"run={self.run_id}: its tag {DIRECTION_TAG} is damaged: {repr(found)[:80]} "
                f"for {len(self.objectives)} objectives"
            )
        return found

    def setting(self, key: str) -> str:
        """What the override `key` came to: a value, the choice of a group, or a list; empty if it is unknown."""
        key = key.lstrip("+")
        for name in (key, f"{key}.name"):
            if name in self.params:
                return self.params[name]
        if key.endswith(".length"):
            prefix = key.removesuffix("length")
            return str(sum(name.startswith(prefix) and name.removeprefix(prefix).isdigit() for name in self.params))
        items: list[str] = []
        while (name := f"{key}.{len(items)}") in self.params:
            items.append(self.params[name])
        return f"[{','.join(items)}]" if items else self.overrides.get(key, "")

    @property
    def overrides(self) -> dict[str, str]:
        """What the command line or the sweeper changed."""
        given = read_overrides(self.tags.get(OVERRIDES_TAG, ""))
        parts = (override.lstrip("+").split("=", 1) for override in given if "=" in override)
        return {key: _unquoted(value) for key, value in parts}

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it runs."""
        if self.status == "RUNNING":
            return None
        reason = self.tags.get(ERROR_TAG if self.status == "FAILED" else STOPPED_TAG, "")
        recorded = next((state for state in STATUS if state == self.tags.get(STATE_TAG)), None)
        return Outcome(recorded or _state_of_old(self.status, reason), reason)


def _state_of_old(status: str, reason: str) -> State:
    """The state of a run by a version that wrote a sentence only."""
    if status == "KILLED":
        return "pruned" if reason.startswith("pruned") else "stopped"
    if status == "FAILED":
        return "interrupted" if reason == INTERRUPTED else "failed"
    return "finished"


def overrides_tag(overrides: Sequence[str]) -> dict[str, str]:
    """The tag that keeps the `overrides` of a job one by one; some have spaces in them."""
    return {OVERRIDES_TAG: json.dumps(list(overrides))}


def read_overrides(text: str) -> list[str]:
    """What `overrides_tag` wrote; what the versions before it wrote is split at spaces, as they did."""
    if text.startswith("["):
        with contextlib.suppress(ValueError):
            return [str(override) for override in json.loads(text)]
    return text.split(" ")


def _unquoted(value: str) -> str:
    """The text that Hydra reads in `value`, which has quotes around it if it holds spaces, say."""
    quote = value[:1]
    if len(value) > 1 and quote in "'\"" and value.endswith(quote):
        return value[1:-1].replace(f"\\{quote}", quote)
    return value


@contextlib.contextmanager
def naming(run: RunRecord) -> Iterator[None]:
    """Within, what a SweepError says of a file is said of the file of `run`."""
    try:
        yield
    except SweepError as error:
        raise SweepError(f"run={run.run_id}: {run.name}: {error}") from error


def find_run(run_id: str) -> RunRecord:
    """The run with this id.

    Raises:
        SweepError: There is none.
    """
    run = _get_run(run_id)
    if run is None:
        raise SweepError(f"run={run_id}: MLflow knows no run with this id; `mlflow ui` lists them")
    return _record(run)


def find_study(name: str | None) -> RunRecord:
    """The parent run of the study called `name`, or of the newest that does not only confirm another.

    Raises:
        SweepError: There is none; that it cannot be looked up now is another error.
    """
    if name is None:
        newest = next((study for study in studies() if CONFIRMS_TAG not in study.tags), None)
        if newest is None:
            raise SweepError(f"no study yet; start one: {training_command('-m', 'hydra/sweeper=optuna')}")
        return newest
    found = []
    if is_name(name):
        found = _search(f"tags.`{KIND_TAG}` = 'study' and tags.`{STUDY_TAG}` = '{quoted(name)}'", newest=1)
    if not found:
        known = ", ".join(study.tags[STUDY_TAG] for study in studies()[:MOST_NAMES])
        raise SweepError(f"study={name}: MLflow knows no study of this name{f'; the newest are {known}' * bool(known)}")
    return found[0]


def studies() -> list[RunRecord]:
    """The parent run of every study, newest first."""
    found = _search(f"tags.`{KIND_TAG}` = 'study'")
    return [study for study in found if is_name(study.tags.get(STUDY_TAG, ""))]  # others were not made here


def trials_of(study: RunRecord) -> list[RunRecord]:
    """The trials of `study`, by their numbers."""
    found = _search(f"tags.`mlflow.parentRunId` = '{study.run_id}'", experiment_ids=[study.experiment_id])
    return sorted(found, key=lambda run: run.trial_number)


def runs_in(experiment: str) -> list[RunRecord]:
    """Every trial and single run in `experiment`, newest first.

    Raises:
        SweepError: There is no such experiment.
    """
    found = MlflowClient().get_experiment_by_name(experiment)
    if found is None:
        known = ", ".join(sorted(printable(e.name) for e in MlflowClient().search_experiments()))
        raise SweepError(f"experiment={experiment}: MLflow has {known}")
    return _search(f"tags.`{KIND_TAG}` = 'trial'", experiment_ids=[found.experiment_id])


def trained() -> list[RunRecord]:
    """Every single run and study's trial that has finished, newest first; not those of grids and confirmations."""
    left_out = {study.run_id for study in studies() if study.tags.keys() & {GRID_TAG, CONFIRMS_TAG}}
    found = _search(f"tags.`{KIND_TAG}` = 'trial' and attributes.status = 'FINISHED'")
    return [run for run in found if run.tags.get("mlflow.parentRunId") not in left_out and COPY_TAG not in run.tags]


def history_of(run: RunRecord) -> dict[str, dict[int, float]]:
    """The values of each metric of `run` by epoch."""
    return {metric: dict(curve_of(run, metric)) for metric in sorted(run.metrics)}


def best_of(runs: list[RunRecord], objective: str, direction: str) -> RunRecord | None:
    """The finished run with the best `objective`; the first of equals, as Optuna has it."""
    return next(iter(front_of(runs, [objective], [direction])), None)


def front_of(runs: list[RunRecord], objectives: list[str], directions: list[str]) -> list[RunRecord]:
    """The finished runs that no other beats in one objective without losing in another, the first of equals only.

    With one objective that is the best run.
    """
    signs = [1 if direction == "minimize" else -1 for direction in directions]
    finished = [
        run
        for run in runs
        if run.status == "FINISHED" and COPY_TAG not in run.tags and all(key in run.metrics for key in objectives)
    ]
    losses = {  # the lower, the better; the earlier of equals beats the later
        run.run_id: [sign * run.metrics[key] for sign, key in zip(signs, objectives, strict=True)] for run in finished
    }

    def beats(a: RunRecord, b: RunRecord) -> bool:
        pairs = list(zip(losses[a.run_id], losses[b.run_id], strict=True))
        return all(x <= y for x, y in pairs) and (any(x < y for x, y in pairs) or a.trial_number < b.trial_number)

    return [run for run in finished if not any(beats(other, run) for other in finished)]


def download(run: RunRecord, folder: Path, names: Iterable[str]) -> None:
    """Put the files of `run` that have these `names` into `folder`.

    Raises:
        RecordError: They cannot be read now.
        SweepError: It has not all of them.
    """
    names = tuple(names)
    with _reading(f"run={run.run_id}: the files of {run.name}"):
        missing = set(names) - files_of(run)
        for name in () if missing else names:
            mlflow.artifacts.download_artifacts(f"runs:/{run.run_id}/{name}", dst_path=str(folder))
    if missing:
        lacking = ", ".join(sorted(missing))
        raise SweepError(f"run={run.run_id}: {run.name} is {run.status}, and has no whole model (no {lacking})")


def download_model(model_id: str, folder: Path) -> None:
    """Put what MLflow keeps of the logged model with this id into `folder`, without loading it.

    Raises:
        SweepError: It is not there.
    """
    try:
        mlflow.artifacts.download_artifacts(f"models:/{model_id}", dst_path=str(folder))
    except (MlflowException, OSError) as error:
        raise SweepError(f"its logged model {model_id} cannot be read ({in_one_line(error, 200)})") from error


def read_text(run: RunRecord, file: str) -> str | None:
    """What is in a file that `run` keeps, None if it keeps none of this name.

    Raises:
        RecordError: It could not be looked up, or keeps one that cannot be read now.
        SweepError: It is no text.
    """
    with _reading(f"run={run.run_id}: the {file} of {run.name}"):
        if file not in files_of(run):
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(mlflow.artifacts.download_artifacts(f"runs:/{run.run_id}/{file}", dst_path=folder))
            try:
                return path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise SweepError(f"run={run.run_id}: {run.name}: {file}: it is damaged: it is no text") from error


def files_of(run: RunRecord) -> set[str]:
    """The names of the files and folders that `run` keeps."""
    return {file.path for file in MlflowClient().list_artifacts(run.run_id)}


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """Within, what MLflow raises of files that it has becomes one line: they are not missing, only out of reach."""
    try:
        yield
    except (MlflowException, OSError) as error:
        raise RecordError(f"{what}: cannot be read ({in_one_line(error, 200)})") from error


def curve_of(run: RunRecord, metric: str) -> list[tuple[int, float]]:
    """The values of `metric` after each epoch."""
    found = MlflowClient().get_metric_history(run.run_id, metric)
    return sorted({point.step: point.value for point in found}.items())


def save_view(study: RunRecord, params: Sequence[str]) -> None:
    """Keep with the experiment how MLflow's pages should list the trials of `study`: see `where_to_look`.

    Best first, with the objectives and these `params` as columns. It is what a person saves with MLflow's *Share*
    button; the pages by themselves show neither metrics nor params, and open on what was made for language models.
    """
    columns = [f"metrics.`{objective}`" for objective in study.objectives]
    name = study.tags[STUDY_TAG]
    view = {
        "searchFilter": f"tags.`{STUDY_TAG}` = '{quoted(name)}' and tags.`{KIND_TAG}` = 'trial'",
        "orderByKey": columns[0],
        "orderByAsc": study.directions[0] == "minimize",
        "selectedColumns": [*columns, *(f"params.`{param}`" for param in params)],
    }
    MlflowClient().set_experiment_tag(study.experiment_id, f"mlflow.sharedViewState.{name}", json.dumps(view))


def where_to_look(study: RunRecord) -> list[str]:
    """What to type, and which page to open, to see the trials of `study`."""
    uri = mlflow.get_tracking_uri()
    page = (
        f"/#/experiments/{study.experiment_id}/runs"
        f"?workflowType=machine_learning&viewStateShareKey={study.tags[STUDY_TAG]}"
    )
    if uri.startswith("http"):
        return [without_password(uri).rstrip("/") + page]
    store = "" if uri == DEFAULT_URI else f" --backend-store-uri {shlex.quote(without_password(uri))}"
    where = "in the project's root, then open" if uri == DEFAULT_URI else "then open"
    return [f"mlflow ui{store}    ({where})", f"http://127.0.0.1:5000{page}"]


def _search(filter_string: str, experiment_ids: list[str] | None = None, newest: int | None = None) -> list[RunRecord]:
    client = MlflowClient()
    if experiment_ids is None:
        experiment_ids = [str(experiment.experiment_id) for experiment in client.search_experiments()]
    found: list[RunRecord] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            experiment_ids,
            filter_string,
            max_results=newest or 1000,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        found += [_record(run) for run in page if is_name(run.info.run_id)]
        token = page.token
        if newest or not token:
            return found


def _record(run: RunEntity) -> RunRecord:
    """What MLflow holds of `run`, with nothing in its words that a terminal would act on."""
    ended = run.info.end_time or run.info.start_time
    data = next((used.dataset for used in (run.inputs.dataset_inputs if run.inputs else [])), None)
    return RunRecord(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        name=printable(run.info.run_name or run.info.run_id),
        status=run.info.status,
        params={printable(key): printable(value) for key, value in run.data.params.items()},
        metrics={printable(key): value for key, value in run.data.metrics.items()},
        tags={printable(key): printable(value) for key, value in run.data.tags.items()},
        seconds=max(0, ended - run.info.start_time) / 1000,
        digest=data.digest if data else "",
        dataset=printable(data.name) if data else "",
    )


def quoted(value: str) -> str:
    """`value` as it stands between the quotes of MLflow's filters."""
    return value.replace("'", "''")
