"""The uncertainty of a metric: its interval, the selection bias of the best of several, comparisons of means."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""Confidence level of every interval and comparison."""
NUM_RESAMPLES = 1000
RESAMPLES_AT_ONCE = 100  # of MNIST's 10,000 images: 4 MB


def interval(share: float, num_examples: int) -> tuple[float, float]:
    """Return the 95% interval of the share among all examples, given the share among `num_examples` of them.

    It is Wilson's score interval (E. B. Wilson, 1927, "Probable inference, the law of succession, and statistical
    inference", https://doi.org/10.1080/01621459.1927.10502953), which holds its level near 0 and 1 too
    (Brown, Cai and DasGupta, 2001, https://doi.org/10.1214/ss/1009213286).

    Args:
        share: 0 to 1; the mean of several shares is taken for the nearest whole number of examples.
        num_examples: 1 or more.
    """
    from scipy.stats import binomtest  # takes a second that the start of a study need not wait

    found = binomtest(round(share * num_examples), num_examples).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def interval_of_mean(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95% interval of the mean over all examples, given the scores (N,) of some, by Student's t.

    It is infinite if there is only one example.
    """
    from scipy.stats import t

    if len(scores) < 2:
        return -math.inf, math.inf
    half = float(t.ppf((1 + LEVEL) / 2, len(scores) - 1) * scores.std(ddof=1) / math.sqrt(len(scores)))
    return float(scores.mean()) - half, float(scores.mean()) + half


def selection_bias(
    scores: NDArray[np.bool_] | NDArray[np.float64],
    direction: str = "maximize",
    num_resamples: int = NUM_RESAMPLES,
) -> float:
    """Return the selection bias of the best of several means on the same examples: its expected optimism, 0 or more.

    The best of many is also the luckiest of many. The bias is estimated by choosing again: examples are drawn with
    replacement, the model that is best on them is scored on the examples not drawn, which had no part in the
    choice, and the overall best is scored on the same ones; the mean difference is the selection bias
    (bootstrap bias corrected selection: Tsamardinos, Greasidou and Borboudakis, 2018, "Bootstrapping the
    out-of-sample predictions for efficient and accurate cross-validation", https://doi.org/10.1007/s10994-018-5714-4).
    Models that err on the same examples, as good ones do, have less of it than independent ones; the estimate
    takes that into account.

    Args:
        scores: (num_models, num_examples), whether each model gets each example right, or its score there.
        direction: Whether the best mean is the highest, "maximize", or the lowest, "minimize".
        num_resamples: How often to choose again.
    """
    num_models, num_examples = scores.shape
    if num_models < 2:
        return 0.0
    right = scores.T.astype(np.float32)  # (num_examples, num_models); sums of ones are exact in float32
    right = -right if direction == "minimize" else right
    best = int(right.sum(axis=0).argmax())
    random = np.random.default_rng(0)
    lost = []
    for start in range(0, num_resamples, RESAMPLES_AT_ONCE):
        drawn = np.stack(
            [
                np.bincount(random.integers(num_examples, size=num_examples), minlength=num_examples)
                for _ in range(min(RESAMPLES_AT_ONCE, num_resamples - start))
            ]
        )  # (resamples, num_examples), how often each example was drawn
        chosen = (drawn.astype(np.float32) @ right).argmax(axis=1)
        left = (drawn == 0).astype(np.float32)
        has_left = left.any(axis=1)  # of a handful of examples all may be drawn
        scored = (left @ right)[has_left] / left[has_left].sum(axis=1, keepdims=True)  # on the examples not drawn
        lost.append(scored[:, best] - scored[np.arange(len(scored)), chosen[has_left]])
    differences = np.concatenate(lost)
    return max(0.0, float(differences.mean())) if len(differences) else 0.0


class Comparison(NamedTuple):
    """The comparison of the means of two groups of measurements."""

    one: str
    other: str
    difference: float
    """Mean of the group `one` minus that of `other`."""
    low: float
    """Lower end of the difference's 95% interval."""
    high: float

    @property
    def differ(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def compare_means(groups: Mapping[str, Sequence[float]]) -> list[Comparison]:
    """Compare the means of every pair of groups, with intervals that hold at 95% for all pairs together.

    Tukey's honestly significant difference, as Kramer has it for groups of unequal size (Tukey, 1949, "Comparing
    individual means in the analysis of variance", https://doi.org/10.2307/3001913; Kramer, 1956), which takes the
    spread to be the same in all groups, and so learns it from all of them: with three seeds each, one group alone
    tells little of it.

    Args:
        groups: Two or more measurements in each group, by its name.
    """
    from scipy.stats import tukey_hsd  # takes a second that the summary of a study need not wait

    names = list(groups)
    if len(names) < 2:
        return []
    if all(len(set(values)) == 1 for values in groups.values()):  # by chance: from no spread nothing can be learnt
        return [Comparison(a, b, groups[a][0] - groups[b][0], -math.inf, math.inf) for a, b in combinations(names, 2)]
    found = tukey_hsd(*groups.values())
    bounds = found.confidence_interval(LEVEL)
    return [
        Comparison(names[i], names[j], float(found.statistic[i, j]), float(bounds.low[i, j]), float(bounds.high[i, j]))
        for i, j in combinations(range(len(names)), 2)
    ]
