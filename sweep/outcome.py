"""How a trial ended: one value, written by whoever ends the trial, kept by the study and mirrored to its record."""

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
    """Why it ended before its end; empty if it finished."""
    values: tuple[float, ...] = ()
    """The value of each objective, if it finished."""


FINISHED = Outcome("finished")


class Ended(NamedTuple):
    """A trial of a study that has ended, as its record should have it."""

    outcome: Outcome
    params: Mapping[str, Any] = {}
    """The trial's values for what was searched."""
    copy_of: int | None = None
    """Number of the trial whose settings and outcome it has, where it was not trained itself."""
    metrics: Mapping[str, float] = {}
    """The value of each objective; of a trial that has not finished, what it had reported last of the first one."""
    step: int = 0
    """The last one that it reported, 0 where that is not known."""


def outcome_of(error: BaseException) -> Outcome:
    """The outcome of a trial out of which `error` came."""
    if isinstance(error, KeyboardInterrupt | TakenOver):
        return Outcome("interrupted", INTERRUPTED)
    if isinstance(error, Stopped):
        return Outcome("pruned" if isinstance(error, Pruned) else "stopped", str(error))
    return Outcome("failed", in_one_line(error))


def raise_as(outcome: Outcome) -> None:
    """Raise what a job that is told to end with `outcome` should end with."""
    raise (Pruned if outcome.state == "pruned" else Stopped)(outcome.reason)
