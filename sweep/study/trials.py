"""The attributes that a study keeps with each trial besides Optuna's own, and how a trial ended by them."""

from optuna.trial import FrozenTrial, TrialState

from sweep.outcome import INTERRUPTED as STOPPED_FROM_OUTSIDE
from sweep.outcome import Outcome

OWNER = "sweep.owner"
"""The owner that has claimed the trial; followed by an id, an attribute of the study for each of its owners."""
WORKER = "sweep.worker"
"""Host and process that the trial's job runs in."""
OUTCOME = "sweep.outcome"
"""How the trial's job ended, written by the job itself."""
ERROR = "sweep.error"
"""Why the trial failed."""
INTERRUPTED = "sweep.interrupted"
"""Set if the trial was stopped by no fault of its own."""
RETRY_OF = "sweep.retry_of"
"""Number of the interrupted trial whose settings the trial tries again."""
COPY_OF = "sweep.copy_of"
"""Number of the trial whose outcome the trial was given, since it has the same settings."""

NOTES = "sweep.notes"
"""Hints for the person who started the study on how the job could do better, in sentences."""


def counts(trial: FrozenTrial) -> bool:
    """Return whether a trial counts towards the study's total; a waiting or interrupted one does not."""
    return trial.state != TrialState.WAITING and not was_interrupted(trial)


def was_interrupted(trial: FrozenTrial) -> bool:
    """Return whether a trial's owner was stopped or died; its settings are tried again later."""
    return trial.state == TrialState.FAIL and INTERRUPTED in trial.user_attrs


def outcome_of(trial: FrozenTrial, step: str = "step") -> Outcome:
    """Return how a trial ended.

    Args:
        trial: A trial that neither runs nor waits.
        step: The job's word for a step, for a pruned trial whose job has left no reason.
    """
    if trial.state == TrialState.COMPLETE:
        return Outcome("finished", values=tuple(trial.values))
    if trial.state == TrialState.PRUNED:
        left = trial.user_attrs.get(OUTCOME, {}).get("reason")
        return Outcome("pruned", left or f"pruned after {step} {trial.last_step}")
    if was_interrupted(trial):
        return Outcome("interrupted", STOPPED_FROM_OUTSIDE)
    return Outcome("failed", trial.user_attrs.get(ERROR, "no reason given"))
