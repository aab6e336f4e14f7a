"""A study here asks for what Optuna asks for: the same trials, in the same order, pruned at the same epochs."""

import math
import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pytest
from conftest import ROOT
from optuna.pruners import NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from sweep.study.samplers import learning_from_pruned

N_TRIALS = 13  # Optuna's samplers model from the eleventh on


@pytest.fixture
def surrogate_studies(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import surrogate_studies

    return surrogate_studies


def curve(params: Mapping[str, Any]) -> list[float]:
    """Something smooth with an optimum inside the space, and learning curves that cross."""
    lr = math.log(params["optimizer.lr"] / 0.008)
    width = sum(math.log2(value) for key, value in params.items() if "widths." in key) / 30
    final = 0.98 - 0.01 * lr**2 - 0.05 * (params["model.dropout"] - 0.1) ** 2 - 0.01 * (width - 0.6) ** 2
    return [final - 0.02 * abs(lr) / epoch - 0.05 / epoch**2 for epoch in (1, 2, 3)] + [final]


SAMPLERS: dict[str, Callable[[], BaseSampler]] = {
    "tpe": lambda: TPESampler(seed=3, group=True),
    "gp": lambda: learning_from_pruned(GPSampler(seed=3, warn_independent_sampling=False)),
    "cmaes": lambda: CmaEsSampler(seed=3, warn_independent_sampling=False),
    "random": lambda: RandomSampler(seed=3),
}


@pytest.mark.parametrize("pruner", ["none", "successive_halving"])
@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_a_study_tries_what_optuna_driven_directly_tries(
    surrogate_studies: ModuleType, sampler: str, pruner: str
) -> None:
    is_pruned = pruner != "none"
    first = surrogate_studies.FIRST if is_pruned else None
    ours = surrogate_studies.ours(curve, sampler, pruner, 3, N_TRIALS, first=first is not None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some of it is experimental
        as_optuna_has_it = SuccessiveHalvingPruner(min_resource=2, reduction_factor=2) if is_pruned else NopPruner()
        theirs = surrogate_studies.direct(
            curve, SAMPLERS[sampler](), as_optuna_has_it, N_TRIALS, first=first, asks_at_last=False
        )
    assert [trial.params for trial in ours] == [trial.params for trial in theirs]
    assert [trial.values for trial in ours] == [trial.values for trial in theirs]
    assert [trial.intermediate_values for trial in ours] == [trial.intermediate_values for trial in theirs]
    assert [trial.state for trial in ours] == [trial.state for trial in theirs]
    assert any(trial.state == TrialState.PRUNED for trial in ours) == is_pruned
    assert first is None or ours[0].params == first


def test_the_recorded_trials_lie_in_the_search_space_and_their_accuracies_are_real(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import record_trials
    import surrogate

    dimensions = record_trials.read_space().dimensions
    rows = surrogate.read()
    assert len({tuple(row.params.items()) for row in rows if row.seed == 0}) >= 100
    for row in rows:
        assert set(row.params) == set(dimensions) - {
            f"model.widths.{i}" for i in range(row.params["model.widths.length"], 3)
        }
        for key, value in row.params.items():
            assert dimensions[key]._contains(dimensions[key].to_internal_repr(value)), (key, value)
        assert len(row.accuracy) == record_trials.EPOCHS
        assert all(0.5 < accuracy < 1 for accuracy in row.accuracy)
