from typing import Any

from made import run, table
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweep.results.importance import FEWEST_TRIALS, importances

DIMENSIONS = {
    "lr": FloatDistribution(1e-4, 1e-1, log=True),
    "width": IntDistribution(1, 1000),
    "act": CategoricalDistribution(("relu", "tanh")),
}


def shares(trials: list[tuple[dict[str, Any], float]], direction: str = "maximize") -> dict[str, float]:
    runs = [run(i, {"test/loss": value}, params=settings) for i, (settings, value) in enumerate(trials)]
    return importances(table(runs, DIMENSIONS, objectives="test/loss", directions=direction))


def trials(number: int) -> list[tuple[dict[str, Any], float]]:
    settings: list[dict[str, Any]] = [
        {
            "lr": 10 ** (-4 + 3 * ((i * 37) % number) / number),
            "width": 1 + (i * 61) % 1000,
            "act": ("relu", "tanh")[i % 2],
        }
        for i in range(number)
    ]
    return [(one, one["lr"]) for one in settings]


def test_what_alone_sets_the_value_is_the_most_important_and_the_shares_add_up_to_1() -> None:
    for direction in ("maximize", "minimize"):
        found = shares(trials(60), direction)
        assert next(iter(found)) == "lr"
        assert found["lr"] > 0.5
        assert sum(found.values()) <= 1 + 1e-9
        assert list(found.values()) == sorted(found.values(), reverse=True)


def test_a_setting_that_only_some_trials_have_counts_among_them() -> None:
    some = [(one if i % 3 else {"lr": one["lr"]}, value) for i, (one, value) in enumerate(trials(60))]
    assert {"lr"} < set(shares(some))


def test_too_few_trials_say_nothing() -> None:
    assert shares(trials(FEWEST_TRIALS - 1)) == {}


def test_a_pruned_trial_counts_with_its_last_value() -> None:
    settings = trials(60)
    runs = [
        run(i, {"test/loss": value}, "KILLED" if i % 2 else "FINISHED", params=one)
        for i, (one, value) in enumerate(settings)
    ]
    found = importances(table(runs, DIMENSIONS, objectives="test/loss", directions="minimize"))
    assert found == shares(settings, "minimize")
