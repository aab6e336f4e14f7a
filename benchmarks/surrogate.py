"""A stand-in for training the default MLP on MNIST: what the trials in trials.csv say of any settings in their space.

A Gaussian process for each epoch, over the logarithm of the test error. Around its mean lies what the seed of a
training does, drawn from a normal distribution over the four epochs that was measured on trials recorded with several
seeds; it is drawn by the settings, so that the same settings always come to the same curve, as they do in a study.

python benchmarks/surrogate.py        how well it predicts trials that it has not seen, and its optimum
"""

import csv
import json
import math
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from record_trials import EPOCHS, SETTINGS, TABLE, read_space, settings_at
from scipy.stats import qmc, spearmanr
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from sweep.study.space import Space

warnings.filterwarnings("ignore", category=ConvergenceWarning)  # that a dimension of no effect has no finite length

WIDTHS = tuple(key for key in SETTINGS if key.startswith("model.widths.") and not key.endswith("length"))
LOG2_DRAWN = 16
NUM_FOLDS = 10


class Row(NamedTuple):
    """A recorded trial."""

    seed: int
    params: dict[str, Any]
    """By key, of the dimensions that the trial has."""
    accuracy: tuple[float, ...]
    """After each epoch, 0 to 1."""


def read(table: Path = TABLE) -> list[Row]:
    """All trials of the `table`."""
    with table.open() as file:
        return [
            Row(
                int(row["seed"]),
                {key: json.loads(row[key]) for key in SETTINGS if row[key]},
                tuple(float(row[f"test/accuracy.{epoch}"]) for epoch in range(1, EPOCHS + 1)),
            )
            for row in csv.DictReader(file)
        ]


def features(params: Mapping[str, Any]) -> list[float]:
    """`params` as numbers of about the same spread; a layer that is not there has the middle width."""
    middles = {"model.widths.0": 362, "model.widths.1": 181, "model.widths.2": 91}
    return [
        params["model.widths.length"] - 2,
        *(math.log2(params.get(key, middles[key]) / middles[key]) for key in WIDTHS),
        params["model.dropout"] / 0.1 - 1.5,
        math.log2(params["optimizer.lr"] / 0.0077),
        math.log2(params["data.batch_size"] / 512),
    ]


def log_errors(rows: Sequence[Row]) -> np.ndarray:
    """(N, EPOCHS)"""
    return np.log(1 - np.array([row.accuracy for row in rows]))


def gaussian_process() -> GaussianProcessRegressor:
    """One to be fitted, with a length for each feature."""
    kernel = ConstantKernel(1.0) * Matern([3.0] * len(SETTINGS), (0.3, 100), nu=2.5) + WhiteKernel(0.01, (1e-5, 1))
    return GaussianProcessRegressor(kernel, normalize_y=True)


MODELS: dict[str, Callable[[], Any]] = {
    "Gaussian process": gaussian_process,
    "quadratic": lambda: make_pipeline(PolynomialFeatures(2), StandardScaler(), RidgeCV(np.logspace(-3, 3, 13))),
    "randomised trees": lambda: ExtraTreesRegressor(100, random_state=0),
}
"""What a surrogate can be made of; the first is the best by cross-validation."""


class Surrogate:
    """From settings to curves of accuracy.

    Args:
        rows: Recorded trials.
        model: One of MODELS.
    """

    def __init__(self, rows: Sequence[Row], model: str = "Gaussian process") -> None:
        x, y = np.array([features(row.params) for row in rows]), log_errors(rows)
        self._models = [MODELS[model]().fit(x, y[:, epoch]) for epoch in range(EPOCHS)]
        self._noise = np.linalg.cholesky(seed_covariance(rows))

    def expected(self, settings: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """The accuracy after each epoch without what the seed does to it, (N, EPOCHS)."""
        return 1 - np.exp(self._log_errors(settings))

    def curve(self, params: Mapping[str, Any]) -> np.ndarray:
        """The accuracy after each epoch that a trial of `params` comes to, (EPOCHS,), in whole images of 10,000."""
        seed = zlib.crc32(json.dumps(params, sort_keys=True).encode())
        noise = self._noise @ np.random.default_rng(seed).standard_normal(EPOCHS)
        return np.round(1 - np.exp(self._log_errors([params])[0] + noise), 4)

    def _log_errors(self, settings: Sequence[Mapping[str, Any]]) -> np.ndarray:
        x = np.array([features(params) for params in settings])
        return np.stack([model.predict(x) for model in self._models], axis=1)


class Optimum(NamedTuple):
    """The best settings of a surrogate."""

    params: dict[str, Any]
    accuracy: float
    """Expected after the last epoch, 0 to 1."""


def optimum(surrogate: Surrogate, searched: Space) -> Optimum:
    """The best of 65,536 settings spread over the space, then of ever smaller steps around the best."""
    random = np.random.default_rng(0)
    places = qmc.Sobol(len(SETTINGS), seed=1).random_base2(LOG2_DRAWN)
    best, best_place = Optimum({}, 0.0), places[0]
    for scale in (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0):
        settings = [settings_at(searched, place) for place in places]
        accuracy = surrogate.expected(settings)[:, -1]
        i = int(accuracy.argmax())
        if accuracy[i] > best.accuracy:
            best, best_place = Optimum(settings[i], float(accuracy[i])), places[i]
        places = np.clip(best_place + scale * random.standard_normal((2_000, len(SETTINGS))), 0, 1 - 1e-9)
    return best


def seed_covariance(rows: Sequence[Row]) -> np.ndarray:
    """How log errors differ between trainings that differ in nothing but their seed, (EPOCHS, EPOCHS)."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(json.dumps(row.params), []).append(row)
    repeated = [log_errors(group) for group in groups.values() if len(group) > 1]
    deviations = np.concatenate([errors - errors.mean(axis=0) for errors in repeated])
    return deviations.T @ deviations / (len(deviations) - len(repeated))


class Quality(NamedTuple):
    """How well a model predicts the final accuracy of trials that it was not fitted to."""

    model: str
    rank_correlation: float
    """Spearman's."""
    rank_correlation_of_best: float
    """The same among the better half of the trials."""
    error: float
    """Root mean square, in percentage points of accuracy."""
    error_of_best: float
    """The same among the better half."""


def cross_validated(rows: Sequence[Row]) -> list[Quality]:
    """The quality of each of MODELS, over settings recorded with the first seed."""
    rows = [row for row in rows if row.seed == 0]
    x, y = np.array([features(row.params) for row in rows]), log_errors(rows)[:, -1]
    found = []
    for name, make in MODELS.items():
        predicted = np.zeros(len(rows))
        for train, test in KFold(NUM_FOLDS, shuffle=True, random_state=0).split(x):
            predicted[test] = make().fit(x[train], y[train]).predict(x[test])
        is_best = y <= np.median(y)
        points = 100 * (np.exp(predicted) - np.exp(y))
        found.append(
            Quality(
                name,
                float(spearmanr(predicted, y).statistic),
                float(spearmanr(predicted[is_best], y[is_best]).statistic),
                float(np.sqrt(np.mean(points**2))),
                float(np.sqrt(np.mean(points[is_best] ** 2))),
            )
        )
    return found


def main() -> None:
    """Print what is to be known of the surrogate."""
    rows = read()
    final = 100 * np.array([row.accuracy[-1] for row in rows])
    print(f"{len(rows)} trials, {final.min():.2f}% to {final.max():.2f}%, median {np.median(final):.2f}%")
    for quality in cross_validated(rows):
        print(
            *(f"{key}={value:.3f}" if isinstance(value, float) else value for key, value in quality._asdict().items())
        )
    spread = np.sqrt(np.diag(seed_covariance(rows)))
    print("a seed's standard deviation, of the log error after each epoch:", *(f"{one:.3f}" for one in spread))
    print(f"that is {100 * spread[-1] * (1 - final.max() / 100):.3f} points of the final accuracy near the best")
    best = optimum(Surrogate(rows), read_space())
    print(f"optimum: {100 * best.accuracy:.3f}% at {best.params}")


if __name__ == "__main__":
    main()
