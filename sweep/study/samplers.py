"""Optuna's samplers, with their settings checked beforehand, and a GP sampler that learns from pruned trials.

The NSGA samplers are made by functions of the hydra-optuna-sweeper plugin, which configs name by this module.
"""

import copy
import inspect
import logging
import math
import os
import statistics
from collections.abc import Callable, Container, Sequence
from typing import Any

import numpy as np
import optuna
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from sweep.errors import require
from sweep.study.borrowed import create_nsgaii_sampler, create_nsgaiii_sampler
from sweep.study.pruners import explained
from sweep.study.space import Space
from sweep.study.study import Study as SharedStudy

__all__ = ["GridSampler", "InOrder", "create_nsgaii_sampler", "create_nsgaiii_sampler"]
"""Samplers of ours, for configs."""

ALLOWED = ("optuna.samplers.*", "sweep.study.samplers.*", "hydra_plugins.hydra_optuna_sweeper.*")
"""Import paths that a sampler's settings may name; anything else might do what no sampler does."""

IN_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "None": "null"}

MOST_TRIED = 60
"""Most trials to try a sampler with: NSGA's start to breed after 50."""

# It warns where an interrupted combination is tried again, which is meant.
logging.getLogger("optuna.samplers._grid").setLevel(logging.ERROR)


class GridSampler(optuna.samplers.GridSampler):
    """Optuna's grid sampler, without its end of a loop that is not there, which would raise an error."""

    def after_trial(self, *_: Any) -> None:
        """Do nothing; Optuna's own stops `study.optimize` after the last combination."""


class InOrder(RandomSampler):
    """The sampler of a grid, all of whose combinations are queued in their order, so nothing is sampled."""


def is_grid(sampler: Any) -> bool:
    """Return whether `sampler` tries every combination: Optuna's grid sampler, or the class that makes one."""
    return isinstance(sampler, optuna.samplers.GridSampler) or (
        getattr(sampler, "func", None) is optuna.samplers.GridSampler
    )


def build_sampler(settings: DictConfig, **changes: Any) -> Any:
    """Build the sampler of `settings`, with these `changes`, as Hydra builds it.

    A grid sampler needs the values, so for a grid its factory is returned.

    Raises:
        SweepError: The sampler does not take these settings.
    """
    changed = OmegaConf.merge(settings, changes) if changes else settings
    with explained("sampler"):
        sampler = instantiate(changed, _execution_whitelist_=ALLOWED)
    return sampler  # noqa: RET504 -- inside, mypy would take it for skipped


def for_study(sampler: BaseSampler, settings: DictConfig, study: SharedStudy) -> BaseSampler:
    """Return `sampler`, made of `settings`; reseeded where `study` goes on, so that draws differ."""
    seed = settings.get("seed")
    if study.is_new or seed is None or isinstance(sampler, optuna.samplers.GridSampler | optuna.samplers.QMCSampler):
        return sampler  # those two find in the study where they were
    drawn = [seed, len(study.trials())]
    if study.has_other_owners:  # who may be drawing from the same seed now
        drawn.append(int.from_bytes(os.urandom(4)))
    return build_sampler(settings, seed=int(np.random.SeedSequence(drawn).generate_state(1)[0]))


def build_custom_search_space(name: str | None) -> Callable[[DictConfig, optuna.Trial], None] | None:
    """Import the function at `name`, which adds dimensions to a trial; None if none is named.

    Raises:
        SweepError: The function cannot be imported.
    """
    if not name:
        return None
    with explained("custom_search_space"):
        function = instantiate({"_target_": name, "_partial_": True})
    return function  # noqa: RET504 -- inside, mypy would take it for skipped


def require_types(key: str, settings: DictConfig) -> None:
    """Check that the settings of one of Optuna's samplers or pruners, under `key`, have the types that it names.

    Optuna by itself finds out when it uses a setting, which may be after many trials. Settings without a type, and
    classes that are not Optuna's, are left to whoever builds them.

    Raises:
        SweepError: A setting has another type.
    """
    name = str(settings.get("_target_")).rpartition(".")[2]
    name = {"create_nsgaii_sampler": "NSGAIISampler", "create_nsgaiii_sampler": "NSGAIIISampler"}.get(name, name)
    made = getattr(optuna.samplers, name, getattr(optuna.pruners, name, None))
    known = inspect.signature(made).parameters if made else {}
    resolved: Any = OmegaConf.to_container(settings, resolve=True)
    for setting, given in resolved.items():
        if setting not in known or known[setting].annotation is inspect.Parameter.empty:
            continue
        annotation = known[setting].annotation
        kinds = (annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)).split(" | ")
        must_be = " or ".join(IN_WORDS.get(kind, kind) for kind in kinds)
        shown = "null" if given is None else given
        require(_is_one_of(kinds, given), f"{key}.{setting}", shown, f"must be {must_be}")
        is_seed = setting != "seed" or given is None or 0 <= given < 2**32
        require(is_seed, f"{key}.{setting}", given, "must be 0 or more and below 4294967296")


def _is_one_of(kinds: Sequence[str], given: Any) -> bool:
    if isinstance(given, float):
        return "float" in kinds and math.isfinite(given)
    if isinstance(given, int) and not isinstance(given, bool):
        return "int" in kinds or "float" in kinds
    if given is None or isinstance(given, bool | str):
        return ("None" if given is None else type(given).__name__) in kinds
    return any(kind not in IN_WORDS for kind in kinds)  # a list, or settings from which something is built


def try_out(sampler: BaseSampler, directions: Sequence[Any], searched: Space, n_trials: int) -> None:
    """Have `sampler` suggest trials of a study in memory, enough to show whether it can; it is used up then.

    Raises:
        Exception: What the sampler raises of its settings, of the space or of several objectives.
    """
    study = optuna.create_study(sampler=sampler, directions=directions)
    at_random = [getattr(sampler, name, 0) for name in ("_n_startup_trials", "_population_size")]
    for number in range(min(n_trials, max(at_random) + 2, MOST_TRIED)):
        trial = study.ask()
        searched.suggest(trial)
        study.tell(trial, [float(number)] * len(directions))


def learning_from_pruned(sampler: BaseSampler) -> BaseSampler:
    """Return `sampler`; if it is Optuna's GPSampler, one that learns from pruned trials as well.

    By itself GPSampler sees finished trials only. Where half of the trials are pruned it misses half of the results,
    and still draws at random at the end of a study of 20.
    """
    return _LearningFromPruned(sampler) if isinstance(sampler, GPSampler) else sampler


def with_pruned_finished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return `trials` with pruned ones extrapolated: they gain what others gained from that step on.

    The gain is the median over the finished trials that reported at the same step; without any a pruned trial stays as
    it is.
    """
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return [_finished(trial, finished) if trial.state == TrialState.PRUNED else trial for trial in trials]


def _finished(pruned: FrozenTrial, finished: Sequence[FrozenTrial]) -> FrozenTrial:
    step = pruned.last_step
    if step is None:
        return pruned
    ends = [(trial.value, trial.intermediate_values[step]) for trial in finished if step in trial.intermediate_values]
    gains = [end - then for end, then in ends if end is not None]
    value = pruned.intermediate_values[step] + statistics.median(gains) if gains else math.nan
    if not math.isfinite(value):
        return pruned
    made = copy.copy(pruned)
    made.state, made.values = TrialState.COMPLETE, [value]
    return made


class _WithPrunedFinished:
    """A study as a sampler sees it, with its pruned trials extrapolated to their end."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        trials = with_pruned_finished(self._study._get_trials(deepcopy, use_cache=use_cache))
        return [trial for trial in trials if states is None or trial.state in states]


class _LearningFromPruned(BaseSampler):
    def __init__(self, sampler: GPSampler) -> None:
        self._sampler = sampler

    def reseed_rng(self) -> None:
        self._sampler.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._sampler.infer_relative_search_space(_seen(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._sampler.sample_relative(_seen(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._sampler.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._sampler.after_trial(study, trial, state, values)


def _seen(study: Study) -> Any:
    return _WithPrunedFinished(study) if len(study.directions) == 1 else study
