"""How far a number can be trusted: against closed forms, and against simulations in which the truth is known."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from sweep.results.trust import MOST_CANDIDATES
from sweep.results.uncertainty import LEVEL, compare_means, interval, interval_of_mean, selection_bias

NUM_EXAMPLES = 2000
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)


@pytest.mark.parametrize(("accuracy", "num_images"), [(0.9866, 10_000), (0.5, 10), (7 / 360, 360)])
def test_the_ends_of_the_interval_solve_wilson_s_equation(accuracy: float, num_images: int) -> None:
    # Its definition: the true accuracies p from which the observed one is Z standard deviations away.
    for p in interval(accuracy, num_images):
        assert abs(accuracy - p) == pytest.approx(Z * math.sqrt(p * (1 - p) / num_images), rel=1e-9)


def test_the_interval_of_a_perfect_score_ends_below_it_and_never_leaves_0_to_1() -> None:
    low, high = interval(1.0, 100)
    assert (low, high) == pytest.approx((100 / (100 + Z**2), 1.0))
    assert high <= 1.0
    low, high = interval(0.0, 100)
    assert (low, high) == pytest.approx((0, Z**2 / (100 + Z**2)))


def test_the_interval_holds_the_true_accuracy_about_95_times_in_100() -> None:
    random = np.random.default_rng(0)
    observed = random.binomial(10_000, 0.985, size=4000) / 10_000
    held = [low <= 0.985 <= high for low, high in (interval(float(one), 10_000) for one in observed)]
    assert 0.94 <= np.mean(held) <= 0.96


def independent(random: np.random.Generator, accuracies: NDArray[np.float64]) -> NDArray[np.bool_]:
    return random.random((len(accuracies), NUM_EXAMPLES)) < accuracies[:, None]


@pytest.mark.parametrize(
    ("num_models", "expected"),
    # The mean of the highest of so many standard normals: 1/sqrt(pi), 3/(2 sqrt(pi)), and Tippett's table (1925).
    [(2, 1 / math.sqrt(math.pi)), (3, 1.5 / math.sqrt(math.pi)), (20, 1.86748)],
)
def test_the_best_of_equally_good_models_that_err_independently_has_the_bias_that_order_statistics_say(
    num_models: int, expected: float
) -> None:
    random = np.random.default_rng(1)
    accuracies = np.full(num_models, 0.9)
    standard_error = math.sqrt(0.9 * 0.1 / NUM_EXAMPLES)
    estimates = [selection_bias(independent(random, accuracies), num_resamples=100) for _ in range(60)]
    # 60 estimates with a standard deviation of 0.3 each: their mean is known to 0.04.
    assert np.mean(estimates) / standard_error == pytest.approx(expected, abs=0.15)


def test_the_best_of_models_of_different_worth_has_the_bias_that_a_simulation_finds() -> None:
    random = np.random.default_rng(2)
    accuracies = np.linspace(0.88, 0.9, 10)
    estimates, truths = [], []
    for _ in range(60):
        correct = independent(random, accuracies)
        estimates.append(selection_bias(correct, num_resamples=100))
        observed = correct.mean(axis=1)
        best = int(observed.argmax())
        truths.append(observed[best] - accuracies[best])
    difference_error = math.sqrt((np.var(estimates) + np.var(truths)) / 60)
    assert abs(np.mean(estimates) - np.mean(truths)) < 3 * difference_error


def test_models_that_err_on_the_same_examples_have_less_selection_bias_and_identical_ones_none() -> None:
    random = np.random.default_rng(3)
    independent_ones = independent(random, np.full(10, 0.9))
    alike = np.where(random.random((10, NUM_EXAMPLES)) < 0.1, independent_ones, independent_ones[0])
    assert 0 < selection_bias(alike) < selection_bias(independent_ones) * 0.7
    assert selection_bias(np.repeat(independent_ones[:1], 10, axis=0)) == 0
    assert selection_bias(independent_ones[:1]) == 0


def test_the_choice_of_a_model_that_is_far_better_has_no_bias() -> None:
    assert selection_bias(independent(np.random.default_rng(4), np.array([0.99, 0.8, 0.8]))) == 0


def test_the_same_outcomes_give_the_same_selection_bias() -> None:
    correct = independent(np.random.default_rng(5), np.full(5, 0.9))
    assert selection_bias(correct) == selection_bias(correct)


def test_two_groups_are_compared_as_student_s_t_test_does() -> None:
    from scipy.stats import t

    a, b = [98.1, 98.3, 98.2, 98.4], [98.6, 98.5, 98.8, 98.7]
    (found,) = compare_means({"a": a, "b": b})
    # With two groups Tukey's test is the t-test with a common spread.
    pooled = (np.var(a, ddof=1) + np.var(b, ddof=1)) / 2
    half = t.ppf(0.975, df=6) * math.sqrt(pooled * (1 / 4 + 1 / 4))
    difference = np.mean(a) - np.mean(b)
    assert (found.one, found.other) == ("a", "b")
    assert found.difference == pytest.approx(difference)
    assert (found.low, found.high) == pytest.approx((difference - half, difference + half), rel=1e-3)
    assert found.differ


def test_three_groups_are_compared_by_the_studentized_range_of_the_tables() -> None:
    groups = {"a": [1.0, 2.0, 3.0], "b": [2.0, 4.0, 3.0], "c": [7.0, 8.0, 9.0]}  # each with a variance of 1
    half = 4.339 * math.sqrt(1 / 3)  # q(0.05; 3 groups, 6 degrees of freedom) in Tukey's table
    found = {(pair.one, pair.other): pair for pair in compare_means(groups)}
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
    for pair in found.values():
        assert pair.high - pair.difference == pytest.approx(half, rel=1e-3)
    assert [pair.differ for pair in found.values()] == [False, True, True]


def test_one_group_has_nothing_to_be_compared_with_and_from_no_spread_nothing_is_learnt() -> None:
    assert compare_means({"a": [1.0, 2.0]}) == []
    (found,) = compare_means({"a": [0.5, 0.5], "b": [0.4, 0.4]})  # two seeds that coincide by chance
    assert found.difference == pytest.approx(0.1)
    assert not found.differ


def test_the_bias_on_a_handful_of_examples_is_a_number() -> None:
    correct = np.array([[True, True, False], [True, False, True]])
    assert 0 <= selection_bias(correct) <= 1


def test_where_low_scores_are_good_the_bias_is_that_of_their_negatives() -> None:
    errors = np.random.default_rng(6).exponential(size=(8, NUM_EXAMPLES))
    assert selection_bias(errors, "minimize") == selection_bias(-errors) > 0


def test_a_mean_that_is_no_share_has_student_s_interval() -> None:
    scores = np.array([1.0, 2.0, 3.0])
    low, high = interval_of_mean(scores)
    assert (low + high) / 2 == pytest.approx(2.0)
    assert (high - low) / 2 == pytest.approx(4.302653 * 1 / math.sqrt(3), rel=1e-6)  # t(0.975, 2) of the tables
    assert interval_of_mean(scores[:1]) == (-math.inf, math.inf)


def test_of_many_trials_the_best_hundred_tell_nearly_all_of_the_selection_bias() -> None:
    correct = independent(np.random.default_rng(0), np.full(500, 0.9))
    ranked = correct[np.argsort(-correct.mean(axis=1))]
    of_all = selection_bias(ranked, num_resamples=300)
    assert 0.95 * of_all < selection_bias(ranked[:MOST_CANDIDATES], num_resamples=300) <= of_all
