"""What a study keeps with each of its trials besides what Optuna does, and how a trial ended by it."""

from optuna.trial import FrozenTrial, TrialState

from sweep.outcome import INTERRUPTED as STOPPED_FROM_OUTSIDE
from sweep.outcome import Outcome

OWNER = "sweep.owner"
"""The owner that has claimed the trial; with an id behind it, an attribute of the study for each of its owners."""
WORKER = "sweep.worker"
"""Host and process that the trial's job runs in."""
OUTCOME = "sweep.outcome"
"""How its job ended, left by the job itself."""
ERROR = "sweep.error"
"""Why it failed."""
INTERRUPTED = "sweep.interrupted"
"""Set if it was stopped by no fault of its own."""
RETRY_OF = "sweep.retry_of"
"""Number of the interrupted trial whose settings it tries again."""
COPY_OF = "sweep.copy_of"
"""Number of the trial whose end it was given, since it has the same settings."""

NOTES = "sweep.notes"
"""What its job did that is better done otherwise, in sentences for the person who started the study."""


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial counts towards the study's total; one that waits or was interrupted does not."""
    return trial.state != TrialState.WAITING and not was_interrupted(trial)


def was_interrupted(trial: FrozenTrial) -> bool:
    """Whether a trial's owner was stopped or died; its settings are tried again when the study goes on."""
    return trial.state == TrialState.FAIL and INTERRUPTED in trial.user_attrs


def outcome_of(trial: FrozenTrial, step: str = "step") -> Outcome:
    """How a trial ended.

    Args:
        trial: A trial that neither runs nor waits.
        step: What the job's steps are called, for a pruned trial whose job has left no reason.
    """
    if trial.state == TrialState.COMPLETE:
        return Outcome("finished", values=tuple(trial.values))
    if trial.state == TrialState.PRUNED:
        left = trial.user_attrs.get(OUTCOME, {}).get("reason")
        return Outcome("pruned", left or f"pruned after {step} {trial.last_step}")
    if was_interrupted(trial):
        return Outcome("interrupted", STOPPED_FROM_OUTSIDE)
    return Outcome("failed", trial.user_attrs.get(ERROR, "no reason given"))
