"""A job's handle of its trial in a study: it reports values to the pruner, and learns whether to go on."""

import functools
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from sweep.errors import RecordError, TakenOver, without_password
from sweep.outcome import Outcome
from sweep.study.storage import has_study, open_storage
from sweep.study.trials import NOTES, OUTCOME, WORKER

TAKEN_OVER = "taken over: the study was stopped, or went on without this job"


class Handle(ABC):
    """The side of a trial that its job sees: values go to the pruner, and the answer is whether to go on."""

    @abstractmethod
    def report(self, value: float, step: int) -> None:
        """Report the objective's `value` after `step` to the pruner."""

    @abstractmethod
    def reason_to_stop(self, when: str = "") -> Outcome | None:
        """Return the outcome with which the job should end now, None if it should go on.

        A pruned trial counts as finished from here on. `when` completes the reason: " after step 2 of 4".

        Raises:
            TakenOver: Another process has ended the trial.
        """

    @abstractmethod
    def finish(self, values: Sequence[float]) -> None:
        """Store the objectives' final values; from here on the trial counts as finished, whatever process dies.

        Raises:
            TakenOver: Another process has ended the trial.
        """

    def recall(self, key: str) -> Any:  # noqa: ARG002 -- of no study there is none
        """Return a fact that is kept with the study, None if there is none."""
        return None

    def note(self, text: str) -> None:  # noqa: ARG002 -- without a study there is nobody to tell
        """Leave a sentence for the person who started the study."""
        return


class NoHandle(Handle):
    """The handle of a job without a study, or with one in another process's memory: nothing stops the job."""

    def report(self, value: float, step: int) -> None:
        """Do nothing, as there is no pruner."""

    def reason_to_stop(self, _when: str = "") -> Outcome | None:
        """Return None, as nothing stops the job."""
        return None

    def finish(self, values: Sequence[float]) -> None:
        """Do nothing, as there is no study to keep the values."""


@functools.cache
def _load(address: str | None, name: str) -> optuna.Study:
    """Return the study, opened once for all jobs of this process, so that finished trials are read once."""
    try:
        # The sampler is not asked for anything here; this one is the cheapest to make.
        return optuna.load_study(study_name=name, storage=open_storage(address), sampler=RandomSampler())
    except KeyError as error:
        told = f"hydra.sweeper.storage={without_password(str(address))}"
        raise RecordError(f"{told}: holds no study {name} any more, or is another one for jobs than here") from error


class StoredHandle(Handle):
    """The handle of a trial in a storage that this process can reach."""

    def __init__(self, address: str | None, study: str, number: int, pruner: BasePruner | None = None) -> None:
        self._study = loaded = _load(address, study)
        loaded.pruner = pruner or NopPruner()
        self._storage = open_storage(address)
        self._is_pruned = pruner is not None and len(loaded.directions) == 1  # Optuna prunes by one objective only
        study_id = self._storage.get_study_id_from_name(study)
        self._trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
        self._trial = optuna.Trial(loaded, self._trial_id)
        self._notes: list[str] = []
        with suppress(UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(self._trial_id, WORKER, f"{socket.gethostname()} {os.getpid()}")

    def report(self, value: float, step: int) -> None:
        """Report the objective's `value` after `step` to the pruner."""
        if self._is_pruned:
            with suppress(UpdateFinishedTrialError):
                self._trial.report(value, step)

    def reason_to_stop(self, when: str = "") -> Outcome | None:
        """Return the outcome with which the job should end now, None if it should go on."""
        if self._storage.get_trial(self._trial_id).state != TrialState.RUNNING:
            raise TakenOver(TAKEN_OVER + when)
        if not self._is_pruned or not self._trial.should_prune():
            return None
        outcome = Outcome("pruned", "pruned" + when)
        self._leave(TrialState.PRUNED, outcome)
        return outcome

    def finish(self, values: Sequence[float]) -> None:
        """Store the objectives' final values."""
        self._leave(TrialState.COMPLETE, Outcome("finished", values=tuple(values)))

    def recall(self, key: str) -> Any:
        """Return a fact that is kept with the study, None if there is none."""
        return self._study.user_attrs.get(f"sweep.{key}")

    def note(self, text: str) -> None:
        """Leave a sentence for the person who started the study."""
        with suppress(UpdateFinishedTrialError):
            self._notes.append(text)
            self._storage.set_trial_user_attr(self._trial_id, NOTES, self._notes)

    def _leave(self, state: TrialState, outcome: Outcome) -> None:
        left: dict[str, Any] = {"state": state.name, "values": list(outcome.values) or None}
        if outcome.reason:
            left["reason"] = outcome.reason
        try:
            self._storage.set_trial_user_attr(self._trial_id, OUTCOME, left)
        except UpdateFinishedTrialError as error:
            raise TakenOver(TAKEN_OVER) from error


def handle_of(address: str | None, study: str, number: int, pruner: BasePruner | None = None) -> Handle:
    """Return the handle of a study's trial, for the job that runs it.

    Args:
        address: Address of the study's storage; None if that is the memory of the process that made the study.
        study: Name of the study.
        number: Number of the trial.
        pruner: Decides whether the trial goes on; None if nothing stops it.
    """
    if address is None and not has_study(None, study):
        return NoHandle()
    return StoredHandle(address, study, number, pruner)
