"""The record in MLflow: open a run, log to it, find it again. Only registry.py imports mlflow besides.

Without MLFLOW_TRACKING_URI, runs go to mlflow.db and mlruns/ in the project's root, which is where a bare
`mlflow ui` started there looks.
"""

import contextlib
import functools
import json
import logging
import os
import shlex
import subprocess
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import numpy as np
import torch
from filelock import FileLock
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Run as RunEntity
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS
from torch import nn

from sweep import ROOT
from sweep.errors import Stopped, SweepError, in_one_line, without_password

STUDY_TAG = "sweep.study"
KIND_TAG = "sweep.kind"
TRIAL_TAG = "sweep.trial"
OBJECTIVE_TAG = "sweep.objective"
DIRECTION_TAG = "sweep.direction"
ERROR_TAG = "sweep.error"
STOPPED_TAG = "sweep.stopped"
COPY_TAG = "sweep.copy_of"
RERUN_TAG = "sweep.rerun_of"
COMMIT_TAG = "mlflow.source.git.commit"
DIRTY_TAG = "sweep.git_dirty"
DEVICE_TAG = "sweep.device"
PROCESSOR_TAG = "sweep.processor"
PRECISION_TAG = "sweep.precision"
THREADS_TAG = "sweep.num_threads"
TORCH_TAG = "sweep.torch"
OVERRIDES_TAG = "sweep.overrides"
CONFIRMS_TAG = "sweep.confirms"
"""The study whose best trials a study trains again."""
GRID_TAG = "sweep.grid"
"""Set of a study that is a grid: nothing searches in it, and its trials may be as bad as they come."""
FOLDER_TAG = "sweep.folder"
"""Where the files of a study lie on the machine that ran it."""
INTERRUPTED = "interrupted"
"""The error of a trial whose process was stopped or died; its settings are tried again."""
SECONDS_TO_ANSWER = 5

_CONNECTING = threading.Lock()  # slots are threads
_CONNECTED: set[str] = set()

DEFAULT_URI = f"sqlite:///{ROOT / 'mlflow.db'}"


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

    @abstractmethod
    def log_model(self, model: nn.Module, example: torch.Tensor) -> None:
        """Keep `model`, in evaluation mode, so that it loads without this project.

        Args:
            model: On any device; it is saved for the CPU.
            example: Inputs (2 or more, ...) that it takes.
        """


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
    def log_model(self, model: nn.Module, example: torch.Tensor) -> None: ...


class MLflowRun(Run):
    """A run in MLflow."""

    def __init__(self, run_id: str) -> None:
        self.run_id: str = run_id

    def log_params(self, params: Mapping[str, Any]) -> None:
        mlflow.log_params(dict(params), run_id=self.run_id)

    def log_params_once(self, params: Mapping[str, Any]) -> None:
        if not params.keys() & find_run(self.run_id).params.keys():
            self.log_params(params)

    def log_note(self, text: str) -> None:
        MlflowClient().set_tag(self.run_id, "mlflow.note.content", text)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        MlflowClient().log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        mlflow.log_metrics(dict(metrics), step=step, run_id=self.run_id)

    def log_dataset(self, name: str, digest: str, origin: str) -> None:
        dataset = _Dataset(HTTPDatasetSource(origin), name=name, digest=digest)
        try:
            mlflow.log_input(dataset, context="training")
        except MlflowException:  # two trials that are the first to log it at once; the one that failed finds it made
            mlflow.log_input(dataset, context="training")

    def log_file(self, path: Path) -> None:
        mlflow.log_artifact(str(path), run_id=self.run_id)

    def log_text(self, text: str, file: str) -> None:
        mlflow.log_text(text, file, run_id=self.run_id)

    def log_folder(self, folder: Path) -> None:
        mlflow.log_artifacts(str(folder), run_id=self.run_id)

    def log_table(self, columns: Mapping[str, Sequence[Any]], file: str) -> None:
        # In the form of mlflow.log_table, which adds to the rows that are there already.
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        mlflow.log_text(json.dumps({"columns": list(columns), "data": rows}), file, run_id=self.run_id)
        MlflowClient().set_tag(self.run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([{"path": file, "type": "table"}]))

    def log_model(self, model: nn.Module, example: torch.Tensor) -> None:
        model = model.cpu().eval()
        example = example.cpu()
        with torch.inference_mode():
            output = model(example)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.export's advice on its own internals
            mlflow.pytorch.log_model(
                model,
                name="model",
                input_example=example.numpy(),
                signature=ModelSignature(Schema([_tensor_spec(example)]), Schema([_tensor_spec(output)])),
                pip_requirements=_model_requirements(),
                serialization_format="pt2",
                validate_serving_input=False,  # a quarter of the time here; a test serves a logged model instead
            )


class _Dataset(MetaDataset):
    profile = None


def _tensor_spec(batch: torch.Tensor) -> TensorSpec:
    return TensorSpec(np.dtype(str(batch.dtype).removeprefix("torch.")), (-1, *batch.shape[1:]))


def _model_requirements() -> list[str]:
    # Named here because MLflow otherwise finds them out by loading the model in a new process, 4 s a time.
    return [f"{package.__name__}=={package.__version__.split('+')[0]}" for package in (torch, np)]


def connect() -> None:
    """Choose the tracking server or database, make it if it is the project's own, and see that it answers.

    Raises:
        SweepError: It does not answer, or cannot be opened.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs what it also raises
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    mlflow.set_tracking_uri(uri)
    try:
        with _CONNECTING:
            if uri in _CONNECTED:
                return
            # Two processes that make the same database at once break it.
            with _lock_beside(uri), _answering_soon():
                MlflowClient().search_experiments(max_results=1)
            _CONNECTED.add(uri)
    except Exception as error:  # whatever the store behind the address raises
        reason = in_one_line(error, 200)
        raise SweepError(
            f"MLFLOW_TRACKING_URI={without_password(uri)}: cannot be reached ({reason}); start the server, "
            "or unset MLFLOW_TRACKING_URI to record in mlflow.db here"
        ) from error


def _lock_beside(uri: str) -> contextlib.AbstractContextManager[Any]:
    path = uri.removeprefix("sqlite:///")
    return FileLock(f"{path}.lock") if path != uri and path else contextlib.nullcontext()


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
) -> Iterator[MLflowRun]:
    """A run named `name`, closed as FINISHED when it is left.

    Where an error comes out, it is closed as FAILED with the error in a tag, or as KILLED with the reason
    where that is Stopped.

    Args:
        experiment: Made if it does not exist; that of `parent` goes first.
        name: What the run is called in MLflow's pages.
        tags: Set from the start, besides the state of the git repository.
        parent: The run under which this one is shown.
        run_id: The run to go on with, in place of a new one.
        watch_machine: Whether to record every ten seconds how busy processor, memory and GPUs are.
    """
    active = mlflow.start_run(
        run_id=run_id,
        experiment_id=None if run_id else parent.experiment_id if parent else _experiment_id(experiment),
        run_name=name,
        tags={**_git_tags(), **tags},
        parent_run_id=parent.run_id if parent and not run_id else None,
        log_system_metrics=watch_machine,
        nested=True,  # the study's run is open in the same process under Hydra's basic launcher
    )
    status, reason = "FINISHED", {}
    try:
        yield MLflowRun(active.info.run_id)
    except Stopped as stopped:
        status, reason = "KILLED", {STOPPED_TAG: str(stopped)}
        raise
    except KeyboardInterrupt:
        status, reason = "FAILED", {ERROR_TAG: INTERRUPTED}
        raise
    except BaseException as error:
        status, reason = "FAILED", {ERROR_TAG: in_one_line(error)}
        raise
    finally:
        # Where the record is what broke, the error itself matters more.
        with contextlib.suppress(Exception) if reason else contextlib.nullcontext():
            mlflow.set_tags(reason)
            mlflow.end_run(status)


def objective_tags(objectives: Iterable[str], directions: Iterable[str]) -> dict[str, str]:
    """The tags that say what a run is after."""
    return {OBJECTIVE_TAG: ",".join(objectives), DIRECTION_TAG: ",".join(directions)}


def reopen(run_id: str) -> bool:
    """Whether the run is still there to go on with; how it ended before is forgotten."""
    client = MlflowClient()
    try:
        run = client.get_run(run_id)
    except MlflowException:
        return False
    for tag in (ERROR_TAG, STOPPED_TAG):
        if tag in run.data.tags:
            client.delete_tag(run_id, tag)
    return run.info.lifecycle_stage == "active"


def keep_running(run_id: str) -> None:
    """Have a run, closed by this process, shown as RUNNING: others still work on it."""
    MlflowClient().update_run(run_id, status="RUNNING")


def close_run(run: "RunRecord", status: str, reason: str) -> None:
    """End a run whose process died, as FINISHED, FAILED or KILLED, with the `reason`."""
    client = MlflowClient()
    if status != "FINISHED":
        client.set_tag(run.run_id, ERROR_TAG if status == "FAILED" else STOPPED_TAG, reason[:1000])
    client.set_terminated(run.run_id, status)


def _experiment_id(name: str) -> str:
    client = MlflowClient()
    found = client.get_experiment_by_name(name)
    if found is None:
        # A server, and a database that the user names, know best where their artifacts go.
        is_ours = mlflow.get_tracking_uri() == DEFAULT_URI
        location = (ROOT / "mlruns" / name).as_uri() if is_ours else None
        with contextlib.suppress(MlflowException):  # another process was faster
            return client.create_experiment(name, artifact_location=location)
        found = client.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage == "deleted":
        raise SweepError(
            f"tracking.experiment={name}: it was deleted in MLflow; restore it, or choose another tracking.experiment"
        )
    return str(found.experiment_id)


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
    """Of the data set that it was trained on."""

    @property
    def trial_number(self) -> int:
        """Its number in its study, -1 for a run outside of one."""
        return int(self.tags.get(TRIAL_TAG, -1))

    @property
    def objectives(self) -> list[str]:
        """The metrics that it is after."""
        return self.tags.get(OBJECTIVE_TAG, "test/accuracy").split(",")

    @property
    def directions(self) -> list[str]:
        """Which way each of them is better."""
        return self.tags.get(DIRECTION_TAG, "maximize").split(",")

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
        given = self.tags.get(OVERRIDES_TAG, "").split(" ")
        return dict(override.lstrip("+").split("=", 1) for override in given if "=" in override)


def find_run(run_id: str) -> RunRecord:
    """The run with this id.

    Raises:
        SweepError: There is none.
    """
    try:
        return _record(MlflowClient().get_run(run_id))
    except MlflowException as error:
        raise SweepError(f"run={run_id}: MLflow knows no run with this id; `mlflow ui` lists them") from error


def find_study(name: str | None) -> RunRecord:
    """The parent run of the study called `name`, or of the newest that does not only confirm another.

    Raises:
        SweepError: There is none.
    """
    if name is None:
        newest = next((study for study in studies() if CONFIRMS_TAG not in study.tags), None)
        if newest is None:
            raise SweepError("no study yet; start one: python sweep/train.py -m hydra/sweeper=optuna")
        return newest
    found = []
    with contextlib.suppress(MlflowException):  # a name that its filters cannot hold, and so no study can have
        found = _search(f"tags.`{KIND_TAG}` = 'study' and tags.`{STUDY_TAG}` = '{quoted(name)}'", newest=1)
    if not found:
        raise SweepError(f"study={name}: MLflow knows no study of this name")
    return found[0]


def studies() -> list[RunRecord]:
    """The parent run of every study, newest first."""
    return _search(f"tags.`{KIND_TAG}` = 'study'")


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
        known = ", ".join(sorted(e.name for e in MlflowClient().search_experiments()))
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


def download(run: RunRecord, folder: Path, names: Iterable[str] = ("config.yaml", "weights.pt", "model")) -> None:
    """Put files of `run` into `folder`: by default all that belongs to its model, which as MLflow logged it is model/.

    Raises:
        SweepError: It has no model.
    """
    try:
        for name in names:
            mlflow.artifacts.download_artifacts(f"runs:/{run.run_id}/{name}", dst_path=str(folder))
    except (MlflowException, OSError) as error:
        raise SweepError(
            f"run={run.run_id}: {run.name} is {run.status}, and has no whole model ({in_one_line(error, 200)})"
        ) from error


def read_text(run: RunRecord, file: str) -> str | None:
    """What is in a file that `run` keeps, None if it keeps none of this name."""
    try:
        return mlflow.artifacts.load_text(f"runs:/{run.run_id}/{file}")
    except (MlflowException, OSError):
        return None


def curve_of(run: RunRecord, metric: str) -> list[tuple[int, float]]:
    """The values of `metric` after each epoch."""
    found = MlflowClient().get_metric_history(run.run_id, metric)
    return sorted({point.step: point.value for point in found}.items())


def load_model(folder: Path) -> nn.Module:
    """The MLflow model in `folder`, as plain mlflow loads it."""
    return mlflow.pytorch.load_model(str(folder))


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
        found += [_record(run) for run in page]
        token = page.token
        if newest or not token:
            return found


def _record(run: RunEntity) -> RunRecord:
    ended = run.info.end_time or run.info.start_time
    return RunRecord(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        name=run.info.run_name or run.info.run_id,
        status=run.info.status,
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        tags=dict(run.data.tags),
        seconds=(ended - run.info.start_time) / 1000,
        digest=next((used.dataset.digest for used in (run.inputs.dataset_inputs if run.inputs else [])), ""),
    )


def quoted(value: str) -> str:
    """`value` as it stands between the quotes of MLflow's filters."""
    return value.replace("'", "''")
