"""The table of a study's trials: typed settings, the order of trials, the Pareto front, and Optuna's view of it."""

import math

import pytest
from made import run, table
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from sweep.errors import SweepError
from sweep.record.tags import COPY_TAG

DIMENSIONS = {
    "lr": FloatDistribution(1e-4, 1.0, log=True),
    "widths.length": IntDistribution(1, 2),
    "widths.0": IntDistribution(1, 64),
    "widths.1": IntDistribution(1, 64),
    "act": CategoricalDistribution(["relu", "tanh"]),
}


def test_settings_have_the_types_of_what_was_searched_and_only_those_that_the_trial_has() -> None:
    params = {"lr": "0.01", "widths.0": "16", "act": "relu", "seed": "3"}
    (row,) = table([run(0, 0.9, params=params)], DIMENSIONS).rows
    assert row.settings == {"lr": 0.01, "widths.length": 1, "widths.0": 16, "act": "relu"}
    assert isinstance(row.settings["widths.0"], int)
    assert row.params["seed"] == "3"


def test_what_lies_outside_of_its_dimension_is_no_setting_of_it() -> None:
    (row,) = table([run(0, 0.9, params={"lr": "7", "act": "gelu"})], DIMENSIONS).rows
    assert row.settings.keys() & {"lr", "act"} == set()


def test_trials_are_ranked_by_the_first_objective_the_first_of_equals_above_the_unfinished_last() -> None:
    runs = [run(0, 0.91), run(1, 0.99, "FAILED"), run(2, 0.95), run(3, 0.95), run(4, 0.97, "KILLED")]
    for objective, direction in (("test/accuracy", "maximize"), ("test/loss", "minimize")):
        found = table(runs, objectives=objective, directions=direction)
        assert [row.number for row in found.ranked[:3]] == [2, 3, 0]
        assert {row.number for row in found.ranked[3:]} == {1, 4}
        assert [row.number for row in found.front] == [2]
        assert found.best.number == 2


def test_only_what_finished_by_itself_with_a_number_can_be_the_best() -> None:
    copy = run(1, 0.99, tags={COPY_TAG: "0"})
    nan = run(2, math.nan)
    found = table([run(0, 0.9), copy, nan, run(3, 0.98, "KILLED"), run(4, {"test/loss": 0.0})])
    assert [row.number for row in found.front] == [0]
    assert [row.number for row in found.scored] == [0, 3]
    with pytest.raises(SweepError, match=r"^study=mine: none of its 1 trials has finished, so there is no best one$"):
        _ = table([nan]).best


def test_the_front_is_what_a_comparison_of_all_pairs_finds() -> None:
    values = [(i * 37 % 101 / 100, float(i * 53 % 97)) for i in range(80)]
    values += values[:5]  # of equals the first only
    runs = [run(i, {"test/accuracy": a, "model/size": s}) for i, (a, s) in enumerate(values)]
    found = table(runs, objectives="test/accuracy,model/size", directions="maximize,minimize")

    def beats(i: int, j: int) -> bool:
        (a, s), (b, t) = values[i], values[j]
        return a >= b and s <= t and ((a, s) != (b, t) or i < j)

    expected = [j for j in range(len(values)) if not any(beats(i, j) for i in range(len(values)) if i != j)]
    assert [row.number for row in found.front] == expected
    assert len(expected) > 3
    assert found.best.number == max(expected, key=lambda i: values[i][0])


def test_optuna_s_study_has_every_trial_with_its_state_its_values_and_its_curve() -> None:
    runs = [run(0, 0.9, params={"lr": 0.1}), run(1, 0.5, "KILLED", params={"lr": 0.2}), run(2, 0.1, "FAILED")]
    runs += [run(3, {}, "RUNNING"), run(4, 0.8, params={"lr": 0.3, "act": "tanh"})]
    found = table(runs, DIMENSIONS)
    made = found.to_optuna({1: [(1, 0.4), (2, 0.5)]})
    states = [trial.state for trial in made.trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING, TrialState.COMPLETE]
    assert made.trials[1].intermediate_values == {1: 0.4, 2: 0.5}
    assert made.trials[4].params == {"lr": 0.3, "act": "tanh"}
    assert made.best_trial.number == found.best.number == 0
    by_order = found.scored_in_optuna()
    assert [trial.value for trial in by_order.trials] == [0.9, 0.5, 0.8]
    assert {trial.state for trial in by_order.trials} == {TrialState.COMPLETE}
