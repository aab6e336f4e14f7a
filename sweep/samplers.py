"""Optuna's GP sampler, taught to learn from pruned trials."""

import copy
import math
import statistics
from collections.abc import Container, Sequence
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler
from optuna.trial import FrozenTrial, TrialState


def learning_from_pruned(sampler: BaseSampler) -> BaseSampler:
    """`sampler`, or, if that is Optuna's of Gaussian processes, one that learns from pruned trials as well.

    On its own that one sees finished trials only. Where half of the trials are pruned it is blind to half of
    what was trained, and still draws at random at the end of a study of 20.
    """
    return _LearningFromPruned(sampler) if isinstance(sampler, GPSampler) else sampler


def with_pruned_finished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """`trials` with those that were pruned as though finished: they gain what others gained from that epoch on.

    That is the median over the finished trials, of which some must have reported at the same epoch; else a
    pruned trial stays as it is.
    """
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return [_finished(trial, finished) if trial.state == TrialState.PRUNED else trial for trial in trials]


def _finished(pruned: FrozenTrial, finished: Sequence[FrozenTrial]) -> FrozenTrial:
    epoch = pruned.last_step
    if epoch is None:
        return pruned
    ends = [(trial.value, trial.intermediate_values[epoch]) for trial in finished if epoch in trial.intermediate_values]
    gains = [end - then for end, then in ends if end is not None]
    value = pruned.intermediate_values[epoch] + statistics.median(gains) if gains else math.nan
    if not math.isfinite(value):
        return pruned
    made = copy.copy(pruned)
    made.state, made.values = TrialState.COMPLETE, [value]
    return made


class _WithPrunedFinished:
    """A study as a sampler sees it, with its pruned trials as though finished."""

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
