"""How a trial ended: one value, written by whoever ends the trial, kept by the study, and mirrored to MLflow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sweep.errors import Pruned, Stopped, TakenOver, in_one_line

INTERRUPTED = "interrupted"
"""The reason of a trial whose process was stopped or died; its settings are tried again."""

State = Literal["finished", "pruned", "stopped", "interrupted", "failed"]


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    state: State
    reason: str = ""
    """Why the trial ended early; empty if it finished."""
    values: tuple[float, ...] = ()
    """The value of each objective, if the trial finished."""


FINISHED = Outcome("finished")


class Ended(NamedTuple):
    """A trial of a study that has ended, as MLflow should record it."""

    outcome: Outcome
    params: Mapping[str, Any] = {}
    """The trial's value for each searched setting."""
    copy_of: int | None = None
    """Number of the trial whose settings and outcome this one copies, where it was not trained itself."""
    metrics: Mapping[str, float] = {}
    """The value of each objective; for a trial that has not finished, the last reported value of the first one."""
    step: int = 0
    """The last step that the trial reported, 0 where that is not known."""


def outcome_of_error(error: BaseException) -> Outcome:
    """Return the outcome of a trial that ended with `error`."""
    if isinstance(error, KeyboardInterrupt | TakenOver):
        return Outcome("interrupted", INTERRUPTED)
    if isinstance(error, Stopped):
        return Outcome("pruned" if isinstance(error, Pruned) else "stopped", str(error))
    return Outcome("failed", in_one_line(error))


def raise_as(outcome: Outcome) -> None:
    """Raise the exception with which a job ends that has this `outcome`."""
    raise (Pruned if outcome.state == "pruned" else Stopped)(outcome.reason)
