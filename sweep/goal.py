"""The goal of a study or a single run: its objectives, their directions, and how it is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sweep.errors import SweepError, one_of, require

if TYPE_CHECKING:
    from sweep.description import Description

DIRECTIONS = ("minimize", "maximize")
OBJECTIVE = "objective"
"""Name of the number that a job returns, where nobody has named it."""


class Goal(NamedTuple):
    """The goal of a study or a single run, and how it is recorded; read from the settings under hydra.sweeper."""

    objectives: list[str]
    directions: list[str]
    """Direction in which each objective improves; empty where a single run has not said."""
    experiment: str
    """Name of the MLflow experiment."""
    is_recorded: bool
    """Whether MLflow keeps a record."""
    active_run: bool = True
    """Whether the runs opened for it are MLflow's active run while the job runs; see `Job.active_run`."""
    facts: str = ""
    """The data in the job's description, as `Job.facts` returns it; recorded with the run."""
    watch: str | None = None
    """Name of a metric that the job logs to MLflow by itself and that its trials are pruned by."""


def goal_of(job: Description, settings: Mapping[str, Any], experiment: str, in_study: bool) -> Goal:
    """Return the goal that is set under hydra.sweeper for `job`; see `Description.goal`.

    Raises:
        SweepError: The job has no such metric, or it is not known which way one is better.
    """
    watch = settings.get("watch")
    is_name = watch is None or (isinstance(watch, str) and bool(watch.strip()))
    require(is_name, "hydra.sweeper.watch", watch, "the name of a metric that the job logs to MLflow, or null")
    objectives = _names(settings.get("objective")) or list(job.metrics)[:1] or [watch or OBJECTIVE]
    for objective in objectives:
        known = not job.metrics or objective in job.metrics
        require(known, "hydra.sweeper.objective", objective, one_of(job.metrics))
    directions = _directions(job, objectives, settings.get("direction"), in_study)
    record = settings.get("record")
    return Goal(
        objectives, directions, str(settings.get("experiment") or experiment),
        True if record is None else bool(record), job.active_run, job.facts(), watch,
    )  # fmt: skip


def _directions(job: Description, objectives: Sequence[str], given: Any, in_study: bool) -> list[str]:
    """Return the direction of each objective: the job's own, else as `given`; empty where none is needed.

    Raises:
        SweepError: A direction is not known, or is `given` otherwise than the job says.
    """
    key, named = "hydra.sweeper.direction", f"objective={','.join(objectives)}"
    known = [job.metric(objective).direction for objective in objectives]
    if given is None:
        unknown = [one for one, way in zip(objectives, known, strict=True) if way is None]
        if not unknown:
            return [str(way) for way in known]
        if not in_study:
            return []
        ways = ",".join(way or "minimize" for way in known)
        raise SweepError(
            f"{key}=null: whether {', '.join(unknown)} is to be minimized or maximized is not known; "
            f"give {key}={ways if len(known) == 1 else f'[{ways}]'}, or maximize"
        )
    directions = _names(given)
    right = len(directions) == len(known) and set(directions) <= set(DIRECTIONS)
    told = ",".join(directions)
    require(right, key, told, f"give minimize or maximize for each of {named}")
    agrees = all(way in (None, one) for way, one in zip(known, directions, strict=True))
    require(agrees, key, told, f"{named} means {','.join(way or 'either' for way in known)}; leave it null")
    return directions


def _names(given: Any) -> list[str]:
    """Return the names in a setting that holds one name or several."""
    if given is None:
        return []
    several = isinstance(given, Sequence) and not isinstance(given, str)
    return [str(getattr(one, "name", one)) for one in (given if several else [given])]
