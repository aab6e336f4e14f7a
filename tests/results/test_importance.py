from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweep.results.importance import FEWEST_TRIALS, importances

DIMENSIONS = {
    "lr": FloatDistribution(1e-4, 1e-1, log=True),
    "width": IntDistribution(1, 1000),
    "act": CategoricalDistribution(("relu", "tanh")),
}


def trials(number: int) -> list[tuple[dict[str, object], float]]:
    settings = [
        {
            "lr": 10 ** (-4 + 3 * ((i * 37) % number) / number),
            "width": 1 + (i * 61) % 1000,
            "act": ("relu", "tanh")[i % 2],
        }
        for i in range(number)
    ]
    return [(one, float(one["lr"])) for one in settings]  # type: ignore[arg-type]


def test_what_alone_sets_the_value_is_the_most_important_and_the_shares_add_up_to_1() -> None:
    for direction in ("maximize", "minimize"):
        shares = importances(DIMENSIONS, trials(60), direction)
        assert next(iter(shares)) == "lr"
        assert shares["lr"] > 0.5
        assert sum(shares.values()) <= 1 + 1e-9
        assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_a_setting_that_only_some_trials_have_counts_among_them() -> None:
    some = [(one if i % 3 else {"lr": one["lr"]}, value) for i, (one, value) in enumerate(trials(60))]
    assert {"lr"} < set(importances(DIMENSIONS, some, "maximize"))


def test_too_few_trials_say_nothing() -> None:
    assert importances(DIMENSIONS, trials(FEWEST_TRIALS - 1), "maximize") == {}
