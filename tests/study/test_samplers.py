"""What the GP sampler makes of pruned trials."""

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import GPSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweep.study.samplers import learning_from_pruned, with_pruned_finished

DISTRIBUTIONS: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1)}


def trial_of(x: float, curve: list[float], state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    return create_trial(
        state=state,
        params={"x": x},
        distributions=DISTRIBUTIONS,
        intermediate_values=dict(enumerate(curve, 1)),
        value=curve[-1],
    )


def test_a_pruned_trial_gains_what_finished_ones_gained_from_the_same_epoch_on() -> None:
    finished = [trial_of(0.1, [0.5, 0.7, 0.8]), trial_of(0.2, [0.5, 0.6, 0.9]), trial_of(0.3, [0.5, 0.7, 0.9])]
    pruned = trial_of(0.4, [0.3, 0.4], TrialState.PRUNED)
    unlike_any = trial_of(0.5, [0.3, 0.4, 0.4, 0.4], TrialState.PRUNED)
    *others, made, left = with_pruned_finished([*finished, pruned, unlike_any])
    assert others == finished
    assert (made.state, made.params) == (TrialState.COMPLETE, {"x": 0.4})
    assert made.value == pytest.approx(0.4 + 0.2)
    assert left is unlike_any
    assert (pruned.state, pruned.value) == (TrialState.PRUNED, 0.4)  # the study's own is not changed


def test_the_gp_sampler_finds_the_optimum_between_pruned_trials() -> None:
    def next_x(sampler: optuna.samplers.BaseSampler) -> float:
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for i in range(12):
            x = i / 11
            final = 0.9 - (x - 0.5) ** 2
            is_finished = i in (2, 9)
            curve = [final - 0.1, final] if is_finished else [final - 0.1]
            study.add_trial(trial_of(x, curve, TrialState.COMPLETE if is_finished else TrialState.PRUNED))
        return study.ask().suggest_float("x", 0, 1)

    found = [next_x(learning_from_pruned(GPSampler(seed=seed))) for seed in range(3)]
    assert found == pytest.approx([0.5] * 3, abs=0.05)
    at_random = [next_x(GPSampler(seed=seed)) for seed in range(3)]
    assert not any(x == pytest.approx(0.5, abs=0.01) for x in at_random)


def test_other_samplers_stay_as_they_are() -> None:
    sampler = TPESampler(seed=0)
    assert learning_from_pruned(sampler) is sampler
