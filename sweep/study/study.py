"""A study in Optuna's storage, shared by all who work on it: this process, its jobs, other processes and machines.

The process that asks for a trial is its owner. An owner that has died leaves its trials RUNNING; the others, or whoever
goes on with the study, see that it is dead, fail these trials and queue their settings again.
"""

import math
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import optuna
from filelock import FileLock
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState

from sweep.errors import SweepError, concerns_record
from sweep.outcome import INTERRUPTED as STOPPED_FROM_OUTSIDE
from sweep.study.owner import Owner
from sweep.study.storage import open_storage
from sweep.study.trials import COPY_OF, ERROR, INTERRUPTED, OUTCOME, OWNER, RETRY_OF, counts, was_interrupted

T = TypeVar("T")

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_START = 30


class Claim(NamedTuple):
    """A trial that this process owns."""

    number: int
    params: dict[str, Any]
    """The trial's value for each dimension."""
    job: Any
    """The result of the claim's `suggest` for the trial: the overrides of its job."""


class Study:
    """A study in its storage, and this process as one of those that work on it.

    Args:
        address: Address of the study's storage; None for this process's memory.
        name: Name of the study.
        directions: Direction in which each objective improves, "maximize" or "minimize".
        n_trials: How many trials the study has in all, whichever process runs them.
        folder: Folder of the study's files; owners on one machine keep their locks in it.
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
        self._owner = Owner(self.optuna, folder)
        self._asking = threading.RLock()
        # Where all who ask see the same file, they take turns; a database elsewhere has them look twice, see `claim`.
        self._turn: AbstractContextManager[Any] = nullcontext()
        if address is not None and "://" not in address:
            self._turn = FileLock(f"{Path(address).absolute()}.ask.lock")

    def close(self) -> None:
        """Stop working on the study, so that other processes may take over its trials."""
        self._owner.leave()

    def discard_unused(self) -> None:
        """Remove a study that this process has made, unless a trial was begun: its command was refused."""
        if not self.is_new or self.has_other_owners or any(one.state != TrialState.WAITING for one in self.trials()):
            return
        self.close()
        optuna.delete_study(study_name=self.name, storage=self.storage)
        if isinstance(self.storage, JournalStorage) and not self.storage.get_all_studies():
            for ending in ("", ".lock", ".ask.lock"):
                Path(f"{self.address}{ending}").unlink(missing_ok=True)
            open_storage.cache_clear()  # a study made there by this process later on has a file of its own

    @property
    def has_other_owners(self) -> bool:
        """Whether another process works on the study now."""
        return any(
            self._owner.is_alive(key)
            for key, value in self.optuna.user_attrs.items()
            if key.startswith(OWNER) and value and key != self._owner.key
        )

    @property
    def has_finished(self) -> bool:
        """Whether any trial has finished."""
        return any(trial.state == TrialState.COMPLETE for trial in self.trials())

    @property
    def is_complete(self) -> bool:
        """Whether the study has all its trials, and none runs."""
        trials = self.trials()
        running = any(trial.state == TrialState.RUNNING for trial in trials)
        return not running and sum(map(counts, trials)) >= self.n_trials

    def set_up(self, facts: Mapping[str, Any], points: Sequence[dict[str, Any]]) -> None:
        """Keep `facts` with the study and queue `points` as its first trials, unless its maker has done so.

        If the maker died in the middle of this, the rest is done now.
        """
        if self.recall("ready"):
            return
        self.remember(facts)
        for point in points[len(self.trials()) :]:  # until it is ready there are no trials but these, in their order
            self.optuna.enqueue_trial(point)
        self.remember({"ready": True})

    def remember(self, facts: Mapping[str, Any]) -> None:
        """Keep `facts` with the study, for whoever goes on with it."""
        for key, value in facts.items():
            self.optuna.set_user_attr(f"sweep.{key}", value)

    def recall(self, key: str) -> Any:
        """Return a fact that was kept, None if there is none; the study's maker is given the time to keep it."""
        patience = SECONDS_TO_START if not self.is_new and self.has_other_owners else 0
        deadline = time.monotonic() + patience
        while (found := self.optuna.user_attrs.get(f"sweep.{key}")) is None and time.monotonic() < deadline:
            time.sleep(SECONDS_BETWEEN_LOOKS / 5)
        return found

    def trials(self) -> list[FrozenTrial]:
        """Return all trials of the study, which must not be changed."""
        return self.optuna.get_trials(deepcopy=False)

    def num_counted(self) -> int:
        """Return how many trials count towards `n_trials`: running, or ended and not interrupted."""
        return sum(map(counts, self.trials()))

    def claim(self, suggest: Callable[[optuna.Trial], T], stopped: Callable[[], bool]) -> Claim | None:
        """Take the next trial, which this process owns from now on.

        Returns:
            None if `stopped` says so, or if no trial is left and none can come back.

        It waits while other processes' trials run: should their owner die, their settings are tried again here.
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

    def _suggested(self, trial: optuna.Trial, suggest: Callable[[optuna.Trial], T]) -> Claim:
        try:
            job = suggest(trial)
        except BaseException as error:
            if isinstance(error, Exception) and not concerns_record(error):
                self.fail(trial.number, str(error) or type(error).__name__)
            else:
                self.interrupt(trial.number)
            raise
        return Claim(trial.number, trial.params, job)

    def _is_of_others(self, trial: FrozenTrial) -> bool:
        return trial.state == TrialState.RUNNING and trial.user_attrs.get(OWNER) != self._owner.key

    def settle_dead(self) -> None:
        """Fail the trials that dead owners left RUNNING, and queue the settings of interrupted trials again."""
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
        """End a trial that was stopped by no fault of its own, and queue its settings again."""
        with self._asking, self._turn:
            self._interrupt(self.trial(number))
            self._queue_interrupted()

    def interrupt_own(self) -> None:
        """End the trials that this process left RUNNING, and queue their settings again."""
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
        """Return whether the job of a trial came to its end, even if the trial has been ended otherwise since."""
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
        """End a trial with the outcome that its job has left, or else with `values`.

        Raises:
            SweepError: The job has left no outcome, and `values` is not one finite number for each objective.
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
        """End a trial as failed, with the `reason`."""
        with suppress(UpdateFinishedTrialError):  # somebody else was faster
            self.storage.set_trial_user_attr(self._trial_id(number), ERROR, reason)
            self.optuna.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def copy(self, number: int, twin: FrozenTrial) -> None:
        """End a trial with the outcome of its `twin`, which has the same settings."""
        trial_id = self._trial_id(number)
        self.storage.set_trial_user_attr(trial_id, COPY_OF, twin.number)
        for step, value in twin.intermediate_values.items():
            self.storage.set_trial_intermediate_value(trial_id, step, value)
        values = twin.values if twin.state == TrialState.COMPLETE else None
        self.optuna.tell(number, values, state=twin.state, skip_if_finished=True)

    def twin_of(self, claim: Claim) -> FrozenTrial | None:
        """Return the first finished or pruned trial with the settings of `claim`, None if there is none."""
        return next(
            (
                other
                for other in self.trials()
                if other.state in (TrialState.COMPLETE, TrialState.PRUNED)
                and other.params == claim.params
                and COPY_OF not in other.user_attrs
            ),
            None,
        )

    def trial(self, number: int) -> FrozenTrial:
        """Return the trial number `number`, which must not be changed."""
        return self.storage.get_trial(self._trial_id(number))

    def _trial_id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self._id, number)
