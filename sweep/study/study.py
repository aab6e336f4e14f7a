"""A study in Optuna's storage, shared by all who work on it: this process, its jobs, other processes and machines.

Whoever asks for a trial owns it. An owner that has died leaves its trials RUNNING; the others, or who takes the
study up again, see that it is gone, fail what it left and queue its settings once more.
"""

import functools
import math
import os
import random
import re
import socket
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import make_url
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

from sweep.errors import RecordError, SweepError, TakenOver, concerns_record, require, without_password
from sweep.files import expanded
from sweep.outcome import INTERRUPTED as STOPPED_FROM_OUTSIDE
from sweep.outcome import Outcome
from sweep.study.journal import Journal

T = TypeVar("T")

OWNER = "sweep.owner"
WORKER = "sweep.worker"
OUTCOME = "sweep.outcome"
ERROR = "sweep.error"
INTERRUPTED = "sweep.interrupted"
RETRY_OF = "sweep.retry_of"
COPY_OF = "sweep.copy_of"

TAKEN_OVER = "taken over: the study was stopped, or went on without this job"

SECONDS_BETWEEN_BEATS = 20
SECONDS_TO_LIVE = 120
"""An owner on another machine that has not been heard of for so long is taken for dead."""
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_START = 30
TRIES_TO_MAKE_TABLES = 5

PATIENCE = {
    "pysqlite": ("timeout", 60),
    "psycopg": ("connect_timeout", 5),
    "psycopg2": ("connect_timeout", 5),
    "pymysql": ("connect_timeout", 5),
    "mysqldb": ("connect_timeout", 5),
    "mysqlconnector": ("connection_timeout", 5),
}
"""How each driver is told how many seconds to wait: for SQLite's lock, or for a server to answer."""
DRIVERS = {
    "postgresql": ("postgresql+psycopg", "-e '.[postgres]'"),
    "mysql": ("mysql+pymysql", "pymysql"),
    "mariadb": ("mariadb+pymysql", "pymysql"),
}
"""The URL to write for a kind of database, and what to install for it."""
URLS = "no database's URL; one is sqlite:///PATH, postgresql+psycopg://USER@HOST/NAME or mysql+pymysql://USER@HOST/NAME"
CALLED_BY_CACHE = ("_create_new_trial", "_get_trials", "_set_trial_param", "_get_best_trial_id")
"""Besides its public methods, what Optuna's cache before a database calls of it."""

optuna.logging.set_verbosity(optuna.logging.WARNING)


class GridSampler(optuna.samplers.GridSampler):
    """Optuna's, but for its last trial's end, at which it would stop a loop that is not there and raise an error."""

    def after_trial(self, *_: Any) -> None: ...


def absolute(address: str | None) -> str | None:
    """`address` with a relative path in it read from where the command was typed, so that a job elsewhere finds it.

    Raises:
        SweepError: It is neither a path nor a database's URL, or of a database that other processes cannot see.
    """
    if address is None:
        return None
    key = "hydra.sweeper.storage"
    kind = re.match(r"(sqlite|postgres|postgresql|mysql|mariadb|oracle|mssql)(\+\w+)?:(?!//)", address)
    require(kind is None, key, without_password(address), f"a URL has // after {kind and kind[0]}")
    require(bool(address.strip()), key, "", "give a path or a URL, or null to keep no record")
    if "://" not in address:
        return str(expanded(address).absolute())
    try:
        url = make_url(address)
    except (ArgumentError, ValueError) as error:
        raise SweepError(f"{key}={without_password(address)}: {URLS}") from error
    if url.get_backend_name() != "sqlite" or url.host:
        return address
    prefix, path = re.fullmatch(r"(file:)?(.*)", url.database or "").groups()  # type: ignore[union-attr]
    require(path not in ("", ":memory:"), key, address, "jobs cannot see it; give a file, as in sqlite:///study.db")
    return url.set(database=f"{prefix or ''}{expanded(path).absolute()}").render_as_string(hide_password=False)


@functools.cache
def open_storage(address: str | None) -> BaseStorage:
    """The storage at `address`: a database's URL, the path of a journal file, or None for this process's memory.

    Raises:
        RecordError: It cannot be opened.
    """
    if address is None:
        return InMemoryStorage()
    try:
        if "://" not in address:
            return JournalStorage(Journal(Path(address).absolute()))
        return _open_database(address)
    except RecordError:
        raise
    except Exception as error:  # whatever the database raises
        told = f"hydra.sweeper.storage={without_password(address)}: cannot be opened"
        raise RecordError(f"{told} ({_reason(error, address)})") from error


def _reason(error: Exception, address: str) -> str:
    if isinstance(error, NoSuchModuleError):
        return URLS
    if not isinstance(error, ImportError):
        return without_password(str(error.__cause__ or error).strip().splitlines()[0])
    missing = getattr(error.__cause__, "name", None) or "its driver"
    backend = address.partition(":")[0].partition("+")[0]
    url, package = DRIVERS.get(backend, ("", missing))
    return f"{missing} is not installed; pip install {package}{f', and write {url}://...' if url else ''}"


def is_server(address: str | None) -> bool:
    """Whether `address` is of a database that a server keeps."""
    return address is not None and "://" in address and not address.startswith("sqlite")


def _open_database(address: str) -> RDBStorage:
    url = make_url(address)
    name, seconds = PATIENCE.get(url.get_driver_name(), ("", 0))
    settings: dict[str, Any] = {name: seconds} if name and name not in url.query else {}
    storage = _with_tables(address, {"pool_pre_ping": True, "connect_args": settings})
    # Judged by where it is raised and not by its module: a job may have a database of its own.
    for method in (*filter(lambda name: not name.startswith("__"), dir(BaseStorage)), *CALLED_BY_CACHE):
        if callable(made := getattr(storage, method)):
            setattr(storage, method, _failures_told(made, address))
    return storage


def _with_tables(address: str, settings: dict[str, Any]) -> RDBStorage:
    """The storage with its tables; of two processes that make them at once, one fails and finds them a moment later."""
    for _ in range(TRIES_TO_MAKE_TABLES - 1):
        try:
            return RDBStorage(address, engine_kwargs=settings)
        except (IntegrityError, OperationalError, ProgrammingError) as error:
            if not re.search("already exists|duplicate key|UNIQUE constraint", str(error)):
                raise
            time.sleep(SECONDS_BETWEEN_LOOKS)
    return RDBStorage(address, engine_kwargs=settings)


def _failures_told(method: Callable[..., T], address: str) -> Callable[..., T]:
    @functools.wraps(method)
    def told(*args: Any, **kwargs: Any) -> T:
        try:
            return method(*args, **kwargs)
        except (SQLAlchemyError, StorageInternalError) as error:
            raise RecordError(
                f"hydra.sweeper.storage={without_password(address)}: cannot be reached any more "
                f"({_reason(error, address)}); what has finished is kept, and the same command goes on"
            ) from error

    return told


def find(address: str | None, name: str) -> optuna.Study | None:
    """The study called `name`, None if there is none yet.

    Raises:
        SweepError: The storage cannot be opened.
    """
    if address is None or ("://" not in address and not os.path.lexists(address)):
        return None  # looking must not make the file
    try:
        return optuna.load_study(study_name=name, storage=open_storage(address), sampler=RandomSampler())
    except KeyError:
        return None


def names_in(address: str | None) -> list[str]:
    """The names of all studies in the storage, in the order they were made.

    Raises:
        RecordError: The storage cannot be opened.
    """
    if address is None or ("://" not in address and not os.path.lexists(address)):
        return []
    return [study.study_name for study in open_storage(address).get_all_studies()]


class Trial(NamedTuple):
    """A trial that has been claimed."""

    number: int
    params: dict[str, Any]
    job: Any
    """What the claim's `suggest` made of it."""


class Study:
    """A study with one who works on it.

    Args:
        address: Of its storage.
        name: The study's.
        directions: "maximize" or "minimize", for each objective.
        n_trials: How many trials it comes to in all, by whomever.
        folder: Where the study's files are; owners on one machine keep their locks in it.
    """

    def __init__(
        self,
        address: str | None,
        name: str,
        directions: list[Any],
        n_trials: int,
        folder: Path,
    ) -> None:
        self.name = name
        self.address = address
        self.n_trials = n_trials
        self.storage = open_storage(address)
        try:
            self.optuna = optuna.create_study(study_name=name, storage=self.storage, directions=directions)
            self.is_new = True
        except DuplicatedStudyError:
            self.optuna = optuna.load_study(study_name=name, storage=self.storage)
            self.is_new = False
        self._id = self.storage.get_study_id_from_name(name)
        self._owner = _Owner(self.optuna, folder)
        self._asking = threading.RLock()
        # Where all who ask see the same file, they take turns; a database elsewhere has them look twice, see `claim`.
        self._turn: AbstractContextManager[Any] = nullcontext()
        if address is not None and "://" not in address:
            self._turn = FileLock(f"{Path(address).absolute()}.ask.lock")

    def close(self) -> None:
        """Say that its trials have no owner any more."""
        self._owner.leave()

    def discard_unused(self) -> None:
        """Remove a study that this process has made, if no trial was begun: its command is refused after all."""
        if not self.is_new or self.has_other_owners or any(one.state != TrialState.WAITING for one in self.trials()):
            return
        self.close()
        optuna.delete_study(study_name=self.name, storage=self.storage)
        if isinstance(self.storage, JournalStorage) and not self.storage.get_all_studies():
            for ending in ("", ".lock", ".ask.lock"):
                Path(f"{self.address}{ending}").unlink(missing_ok=True)

    @property
    def has_other_owners(self) -> bool:
        """Whether somebody else works on it now."""
        return any(
            self._owner.is_alive(key)
            for key, value in self.optuna.user_attrs.items()
            if key.startswith(OWNER) and value and key != self._owner.key
        )

    @property
    def has_finished(self) -> bool:
        """Whether any trial is through."""
        return any(trial.state == TrialState.COMPLETE for trial in self.trials())

    @property
    def is_complete(self) -> bool:
        """Whether it has all its trials, and none runs."""
        trials = self.trials()
        running = any(trial.state == TrialState.RUNNING for trial in trials)
        return not running and sum(map(counts, trials)) >= self.n_trials

    def set_up(self, facts: Mapping[str, Any], points: Sequence[dict[str, Any]]) -> None:
        """Keep `facts` with the study and have `points` tried first, unless whoever made the study has done so.

        What a process that died in the middle of this has left undone is done now.
        """
        if self.recall("ready"):
            return
        self.remember(facts)
        queued = [trial.system_attrs.get("fixed_params") for trial in self.trials()]
        for point in points:
            if point not in queued:
                self.optuna.enqueue_trial(point)
        self.remember({"ready": True})

    def remember(self, facts: Mapping[str, Any]) -> None:
        """Keep `facts` with the study, for whoever goes on with it."""
        for key, value in facts.items():
            self.optuna.set_user_attr(f"sweep.{key}", value)

    def recall(self, key: str) -> Any:
        """A fact that was kept; None if there is none, once whoever made the study has had the time to keep it."""
        patience = SECONDS_TO_START if not self.is_new and self.has_other_owners else 0
        deadline = time.monotonic() + patience
        while (found := self.optuna.user_attrs.get(f"sweep.{key}")) is None and time.monotonic() < deadline:
            time.sleep(SECONDS_BETWEEN_LOOKS / 5)
        return found

    def trials(self) -> list[FrozenTrial]:
        """All of them, not to be changed."""
        return self.optuna.get_trials(deepcopy=False)

    def num_counted(self) -> int:
        """How many trials count towards `n_trials`: running, or finished and not interrupted."""
        return sum(map(counts, self.trials()))

    def claim(self, suggest: Callable[[optuna.Trial], T], stopped: Callable[[], bool]) -> Trial | None:
        """The next trial, this process's own from now on; None if `stopped`, or none is left and none may come back.

        Waits while somebody else's trials run: should they die, their settings are tried again here.
        """
        while not stopped():
            with self._asking, self._turn:
                if self.num_counted() < self.n_trials:
                    trial = self.optuna.ask()
                    trial.set_user_attr(OWNER, self._owner.key)
                    # Another process may have asked at the same time. Each looks again once its claim can be
                    # seen, so of those that are too many the last one to look, at least, puts its trial back.
                    if self.num_counted() <= self.n_trials:
                        return self._suggested(trial, suggest)
                    trial.set_user_attr(OWNER, "")
                    self.storage.set_trial_state_values(self._trial_id(trial.number), TrialState.WAITING)
                elif not any(self._is_of_others(trial) for trial in self.trials()):
                    return None
            time.sleep(SECONDS_BETWEEN_LOOKS * random.uniform(0.2, 1))
            self.settle_dead()
        return None

    def _suggested(self, trial: optuna.Trial, suggest: Callable[[optuna.Trial], T]) -> Trial:
        try:
            job = suggest(trial)
        except BaseException as error:
            if isinstance(error, Exception) and not concerns_record(error):
                self.fail(trial.number, str(error) or type(error).__name__)
            else:
                self.interrupt(trial.number)
            raise
        return Trial(trial.number, trial.params, job)

    def _is_of_others(self, trial: FrozenTrial) -> bool:
        return trial.state == TrialState.RUNNING and trial.user_attrs.get(OWNER) != self._owner.key

    def settle_dead(self) -> None:
        """Finish what owners that have died left RUNNING, and queue again the settings of what was interrupted."""
        with self._asking, self._turn:
            dead = {"": not self.has_other_owners}
            for trial in self.trials():
                if not self._is_of_others(trial):
                    continue
                owner = trial.user_attrs.get(OWNER, "")
                if owner not in dead:
                    dead[owner] = not self._owner.is_alive(owner)
                if dead[owner]:
                    self._interrupt(trial)
            self._queue_interrupted()

    def interrupt(self, number: int) -> None:
        """Finish a trial that was stopped by no fault of its own, and queue its settings again."""
        with self._asking, self._turn:
            self._interrupt(self.trial(number))
            self._queue_interrupted()

    def interrupt_own(self) -> None:
        """Finish what this process left RUNNING, and queue its settings again, for whoever goes on."""
        with self._asking, self._turn:
            for trial in self.trials():
                if trial.state == TrialState.RUNNING and trial.user_attrs.get(OWNER) == self._owner.key:
                    self._interrupt(trial)
            self._queue_interrupted()

    def _interrupt(self, trial: FrozenTrial) -> None:
        with suppress(UpdateFinishedTrialError):  # somebody else was faster
            self.storage.set_trial_user_attr(self._trial_id(trial.number), INTERRUPTED, True)
            if self.has_outcome(trial.number):  # its job was through; only nobody was left to say so
                self.tell(trial.number)
            else:
                self.fail(trial.number, STOPPED_FROM_OUTSIDE)

    def has_outcome(self, number: int) -> bool:
        """Whether the job of a trial came to its end, whatever has become of it since."""
        return OUTCOME in self.trial(number).user_attrs

    def _queue_interrupted(self) -> None:
        trials = self.trials()
        queued = {trial.user_attrs.get(RETRY_OF) for trial in trials}
        for trial in trials:
            if was_interrupted(trial) and trial.number not in queued:
                params = trial.system_attrs.get("fixed_params", {}) | trial.params  # it may not have been given all yet
                if params:
                    self.optuna.enqueue_trial(params, user_attrs={RETRY_OF: trial.number})

    def tell(self, number: int, values: Sequence[float] | None = None) -> None:
        """Finish a trial with the outcome that its job has left, or else with `values`.

        Raises:
            SweepError: There is neither, or not one finite number for each objective.
        """
        trial = self.trial(number)
        if trial.state.is_finished():
            return
        outcome = trial.user_attrs.get(OUTCOME)
        if outcome is not None and outcome["state"] == TrialState.PRUNED.name:
            self.optuna.tell(number, state=TrialState.PRUNED, skip_if_finished=True)
            return
        values = values if outcome is None else outcome["values"]
        if values is None or len(values) != len(self.optuna.directions) or any(map(math.isnan, values)):
            raise SweepError(f"trial {number} returned {values}; a study wants a number for each objective")
        self.optuna.tell(number, list(values), skip_if_finished=True)

    def fail(self, number: int, reason: str) -> None:
        """Finish a trial as failed, with the `reason`."""
        with suppress(UpdateFinishedTrialError):  # somebody else was faster
            self.storage.set_trial_user_attr(self._trial_id(number), ERROR, reason)
            self.optuna.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def copy(self, number: int, twin: FrozenTrial) -> None:
        """Finish a trial with what its `twin`, of the same settings, came to."""
        trial_id = self._trial_id(number)
        self.storage.set_trial_user_attr(trial_id, COPY_OF, twin.number)
        for epoch, value in twin.intermediate_values.items():
            self.storage.set_trial_intermediate_value(trial_id, epoch, value)
        values = twin.values if twin.state == TrialState.COMPLETE else None
        self.optuna.tell(number, values, state=twin.state, skip_if_finished=True)

    def twin_of(self, trial: Trial) -> FrozenTrial | None:
        """A trial, finished or pruned, with the same settings, the original if it has copies."""
        return next(
            (
                other
                for other in self.trials()
                if other.state in (TrialState.COMPLETE, TrialState.PRUNED)
                and other.params == trial.params
                and COPY_OF not in other.user_attrs
            ),
            None,
        )

    def trial(self, number: int) -> FrozenTrial:
        """The trial of this number."""
        return self.storage.get_trial(self._trial_id(number))

    def _trial_id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self._id, number)


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial counts towards the study's total; one that waits or was interrupted does not."""
    return trial.state != TrialState.WAITING and not was_interrupted(trial)


def was_interrupted(trial: FrozenTrial) -> bool:
    """Whether its owner was stopped or died; its settings are tried again when the study goes on."""
    return trial.state == TrialState.FAIL and INTERRUPTED in trial.user_attrs


def outcome_of(trial: FrozenTrial, step: str = "step") -> Outcome:
    """How a trial that has ended has ended.

    Args:
        trial: Not running, not waiting.
        step: What its job's steps are called, for trials whose job has left no reason.
    """
    if trial.state == TrialState.COMPLETE:
        return Outcome("finished", values=tuple(trial.values))
    if trial.state == TrialState.PRUNED:
        left = trial.user_attrs.get(OUTCOME, {}).get("reason")
        return Outcome("pruned", left or f"pruned after {step} {trial.last_step}")
    if was_interrupted(trial):
        return Outcome("interrupted", STOPPED_FROM_OUTSIDE)
    return Outcome("failed", trial.user_attrs.get(ERROR, "no reason given"))


class _Owner:
    """One process that works on a study, and how others see that it lives.

    By a lock on a file in its folder, which the operating system takes back from the dead; where that file cannot be
    seen, from another machine say, by how long ago it last wrote into the study.
    """

    def __init__(self, study: optuna.Study, folder: Path) -> None:
        self._study = study
        self.key = f"{OWNER}.{uuid.uuid4().hex}"
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder.resolve() / f".{self.key}.lock"
        self._lock = FileLock(self._path)
        self._lock.acquire()
        self._left = threading.Event()
        self._seen: dict[str, tuple[Any, float]] = {}
        self._beat()
        self._beating = threading.Thread(target=self._keep_beating, daemon=True)
        self._beating.start()

    def _beat(self) -> None:
        record = {"host": socket.gethostname(), "lock": str(self._path), "time": time.time()}
        self._study.set_user_attr(self.key, record)

    def _keep_beating(self) -> None:
        while not self._left.wait(SECONDS_BETWEEN_BEATS):
            with suppress(Exception):  # a database that is away for a moment; the next beat may reach it
                self._beat()

    def is_alive(self, key: str) -> bool:
        record = self._study.user_attrs.get(key)
        if not record:
            return False
        path = Path(record["lock"])
        if record["host"] != socket.gethostname() or not path.exists():
            # By this machine's clock: how long the other one's sign of life has been the same.
            beat, since = self._seen.get(key, (None, 0.0))
            if beat != record["time"]:
                self._seen[key] = (record["time"], time.monotonic())
                return True
            return time.monotonic() - since < SECONDS_TO_LIVE
        try:
            with FileLock(path, timeout=0):
                self._study.set_user_attr(key, None)
                path.unlink(missing_ok=True)
                return False
        except Timeout:
            return True

    def leave(self) -> None:
        if self._left.is_set():
            return
        self._left.set()
        self._beating.join()
        with suppress(RecordError):  # then the others see it by the lock
            self._study.set_user_attr(self.key, None)
        self._lock.release()
        self._path.unlink(missing_ok=True)


class Handle(ABC):
    """A trial of a study, as its job sees it."""

    @abstractmethod
    def report(self, value: float, epoch: int) -> None:
        """Tell the pruner the objective's `value` after `epoch`."""

    @abstractmethod
    def reason_to_stop(self, when: str = "") -> Outcome | None:
        """How the job should end now, None if it should go on; a pruned trial counts as finished from here on.

        `when` completes the reason: " after epoch 2 of 4".

        Raises:
            TakenOver: Its trial has been ended by others.
        """

    @abstractmethod
    def finish(self, values: Sequence[float]) -> None:
        """Leave the objectives' final values; from here on the trial counts as finished, whatever dies.

        Raises:
            TakenOver: Its trial has been ended by others.
        """

    def recall(self, _key: str) -> Any:
        """A fact that is kept with the study; None if there is none."""
        return None


class NoHandle(Handle):
    """Of a job that belongs to no study, or to one in another process's memory."""

    def report(self, value: float, epoch: int) -> None: ...
    def reason_to_stop(self, _when: str = "") -> Outcome | None:
        return None

    def finish(self, values: Sequence[float]) -> None: ...


@functools.cache
def _load(address: str, name: str) -> optuna.Study:
    """The study, as one process's jobs share it: what it has read of finished trials is not read again."""
    try:
        # The sampler is not asked for anything here; this one is the cheapest to make.
        return optuna.load_study(study_name=name, storage=open_storage(address), sampler=RandomSampler())
    except KeyError as error:
        told = f"hydra.sweeper.storage={without_password(address)}"
        raise RecordError(f"{told}: holds no study {name} any more, or is another one for jobs than here") from error


class StoredHandle(Handle):
    """A trial in a storage that others reach too."""

    def __init__(self, address: str, study: str, number: int, pruner: BasePruner | None = None) -> None:
        self._study = loaded = _load(address, study)
        loaded.pruner = pruner or NopPruner()
        self._storage = open_storage(address)
        self._is_pruned = pruner is not None and len(loaded.directions) == 1  # Optuna prunes by one objective only
        study_id = self._storage.get_study_id_from_name(study)
        self._trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
        self._trial = optuna.Trial(loaded, self._trial_id)
        with suppress(UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(self._trial_id, WORKER, f"{socket.gethostname()} {os.getpid()}")

    def report(self, value: float, epoch: int) -> None:
        if self._is_pruned:
            with suppress(UpdateFinishedTrialError):
                self._trial.report(value, epoch)

    def reason_to_stop(self, when: str = "") -> Outcome | None:
        if self._storage.get_trial(self._trial_id).state != TrialState.RUNNING:
            raise TakenOver(TAKEN_OVER + when)
        if not self._is_pruned or not self._trial.should_prune():
            return None
        outcome = Outcome("pruned", "pruned" + when)
        self._leave(TrialState.PRUNED, outcome)
        return outcome

    def finish(self, values: Sequence[float]) -> None:
        self._leave(TrialState.COMPLETE, Outcome("finished", values=tuple(values)))

    def recall(self, _key: str) -> Any:
        return self._study.user_attrs.get(f"sweep.{_key}")

    def _leave(self, state: TrialState, outcome: Outcome) -> None:
        left: dict[str, Any] = {"state": state.name, "values": list(outcome.values) or None}
        if outcome.reason:
            left["reason"] = outcome.reason
        try:
            self._storage.set_trial_user_attr(self._trial_id, OUTCOME, left)
        except UpdateFinishedTrialError as error:
            raise TakenOver(TAKEN_OVER) from error


def handle_of(address: str | None, study: str, number: int, pruner: BasePruner | None = None) -> Handle:
    """The handle of a study's trial, for the job that trains it."""
    return NoHandle() if address is None else StoredHandle(address, study, number, pruner)
