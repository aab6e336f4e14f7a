"""The checks of a study before anything is recorded: its space, its jobs, and the study that it goes on with."""

from __future__ import annotations

import logging
import shlex
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from sweep.description import Dataset, Description
from sweep.errors import SweepError, explain, in_one_line
from sweep.goal import Goal

if TYPE_CHECKING:
    import optuna
    from hydra.core.override_parser.types import Override

    from sweep.study.space import Space

log = logging.getLogger(__name__)


class Checked(NamedTuple):
    """The facts about a study's jobs that the checks have found."""

    composed: DictConfig
    """One of the composed jobs."""
    settings: dict[str, str]
    """The settings that all trials must share, by key, unless they are searched."""
    goal: Goal
    """The goal of the study."""
    dataset: Dataset | None
    """The data of all jobs; None if these differ, or the job does not say."""


def check_jobs(job: Description, loader: ConfigLoader, config: DictConfig, searched: Space) -> Checked:
    """Check that a job can be trained with each value of a space, and with the shortest of its searched lists.

    Raises:
        SweepError: A value can be trained in no combination.
    """
    from sweep.study import covering

    composed: list[DictConfig] = []
    settings: list[dict[str, str]] = []

    def attempt(combination: dict[str, str]) -> None:
        cfg = loader.load_sweep_config(config, searched.overrides(combination))
        settings.append(job.shared(cfg))
        composed.append(cfg)

    taken = covering.require_each_goes(searched.extremes(), attempt)
    if shortest := searched.shortest():
        covering.require_each_goes({key: [value] for key, value in (taken[0] | shortest).items()}, attempt)
    goals = [job.goal(cfg.hydra.sweeper, config.hydra.job.name) for cfg in composed]
    datasets = {job.dataset(job.config(cfg)) for cfg in composed}
    objectives = {",".join(goal.objectives) for goal in goals}
    if len(objectives) > 1:
        raise SweepError(f"hydra.sweeper.objective={','.join(sorted(objectives))}: a study has one; choose it")
    return Checked(job.config(composed[0]), settings[0], goals[0], datasets.pop() if len(datasets) == 1 else None)


def require_values(given: Sequence[Override], may_be_one: bool) -> None:
    """Check that the overrides `given` to a grid list values.

    Args:
        given: The overrides of the grid's settings and of the command line.
        may_be_one: Whether there may be one value for each, and so one job.

    Raises:
        SweepError: An override lists no values, or what it lists is not allowed.
    """
    if not may_be_one and not any(override.is_sweep_override() for override in given):
        raise SweepError(
            "-m: no key has several values; give one some, as in optimizer.lr=1e-3,1e-2, add hydra/sweeper=optuna "
            "for a study, or leave -m out for one run"
        )
    for override in given:
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise SweepError(
                f"{override.input_line}: a grid needs a list of values; for an interval add hydra/sweeper=optuna"
            )


def require_listed(searched: Space) -> None:
    """Raise a SweepError unless all values of every dimension can be listed."""
    if instead := searched.as_choices():
        raise SweepError(
            "hydra/sweeper/sampler=grid: it tries every combination, so each key needs choices or a value; "
            f"for example {' '.join(map(shlex.quote, instead))}"
        )


def require_sampler(
    settings: DictConfig, searched: Space, directions: Sequence[str], n_trials: int, config: DictConfig
) -> None:
    """Raise a SweepError unless the sampler of `settings` can make trials of such a study."""
    from sweep.study import samplers

    typed = [one for one in config.hydra.overrides.hydra if one.startswith("hydra.sweeper.sampler.")]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            samplers.try_out(samplers.build_sampler(settings), directions, searched, n_trials)
    except Exception as error:  # whatever it raises
        shown = " ".join(typed) or "hydra.sweeper.sampler"
        raise SweepError(f"{shown}: so the sampler cannot make a trial ({in_one_line(error, 200)})") from error


def first_points(
    searched: Space, changes: Sequence[dict[str, Any]], loader: ConfigLoader, config: DictConfig
) -> list[dict[str, Any]]:
    """Return the values that a study starts from: the job as composed, then each of the `changes` to it.

    Raises:
        SweepError: A change is not allowed, or its key is not searched.
    """
    from sweep.study import space

    points = []
    for i, change in enumerate([{}, *changes]):
        try:
            wanted = loader.load_sweep_config(config, [*searched.common, *searched.changed(change)])
            searched.require_searched(change, wanted)
            points.append(searched.point_of(wanted))
            if change:
                made = loader.load_sweep_config(config, searched.overrides(points[-1]))
                space.require_same_settings(change, wanted, made)
        except Exception as error:  # ours, or whatever Hydra raises of a key or a value
            reason = explain(error, [f"{key}={value}" for key, value in change.items()]) or str(error)
            if i > 0:
                raise SweepError(f"hydra.sweeper.starting_points: {reason}") from error
            log.info("the job as composed is not tried first: %s", reason)
    return points


def require_same_study(found: optuna.Study, directions: Sequence[str], facts: Mapping[str, Mapping[str, str]]) -> None:
    """Raise a SweepError unless the study `found` has these directions, this space and these jobs."""
    name = f"hydra.sweeper.study_name={found.study_name}"
    another = "go on as it was, or choose another name"
    had = [direction.name.lower() for direction in found.directions]
    if had != list(directions):
        raise SweepError(f"{name}: it has the directions {', '.join(had)}, not {', '.join(directions)}; {another}")
    for what, now in facts.items():
        then = found.user_attrs.get(f"sweep.{what}", now)
        changes = [
            f"{key} is {now.get(key, 'not there')}, was {then.get(key, 'not there')}"
            for key in sorted({*then, *now})
            if now.get(key) != then.get(key)
        ]
        if changes:
            raise SweepError(f"{name}: the study's {what} is another now: {'; '.join(changes)}; {another}")
