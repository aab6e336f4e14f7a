"""Real trials of the default study on MNIST, recorded once into trials.csv for search_quality.py to search in.

Spread evenly over the search space of conf/search by a Sobol sequence, each with its test accuracy and loss after every
epoch. The first few are trained with other seeds too, which tells what the seed alone does.

python benchmarks/record_trials.py                  what is missing of 160 trials, 6 s each; goes on if stopped
python benchmarks/record_trials.py --trials 512
"""

import argparse
import csv
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.stats import qmc

from sweep.digits import train as digits
from sweep.digits.job import DIGITS
from sweep.goal import Goal
from sweep.plugin.sweeper import register_plugin
from sweep.record.run import NoRun
from sweep.running import carry_out
from sweep.study import reading
from sweep.study.space import Space
from sweep.trial import Trial

ROOT = Path(__file__).resolve().parents[1]

TABLE = Path(__file__).parent / "trials.csv"
SETTINGS = (
    "model.widths.length", "model.widths.0", "model.widths.1", "model.widths.2",
    "model.dropout", "optimizer.lr", "data.batch_size",
)  # fmt: skip
EPOCHS = 4
COLUMNS = (
    "seed", *SETTINGS,
    *(f"test/accuracy.{epoch}" for epoch in range(1, EPOCHS + 1)),
    *(f"test/loss.{epoch}" for epoch in range(1, EPOCHS + 1)),
)  # fmt: skip
NUM_REPEATED, SEEDS = 12, (1, 2, 3)


class Point(NamedTuple):
    """One trial to record."""

    seed: int
    params: dict[str, Any]
    """A value for each dimension that the trial has."""


class Curve(NoRun):
    """A run of which the metrics of each epoch are kept here."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        assert step == len(self.epochs) + 1
        self.epochs.append(dict(metrics))


def value_at(dimension: BaseDistribution, place: float) -> Any:
    """The value of `dimension` at `place`, 0 to 1, on its own scale."""
    if isinstance(dimension, CategoricalDistribution):
        return dimension.choices[int(place * len(dimension.choices))]
    assert isinstance(dimension, IntDistribution | FloatDistribution)
    is_int = isinstance(dimension, IntDistribution)
    low, high = (dimension.low - 0.5, dimension.high + 0.5) if is_int else (dimension.low, dimension.high)
    value = low * (high / low) ** place if dimension.log else low + place * (high - low)
    return min(max(round(value), dimension.low), dimension.high) if is_int else float(f"{value:.4g}")


def settings_at(searched: Space, places: Iterable[float]) -> dict[str, Any]:
    """The settings at a place, 0 to 1, in each of SETTINGS, without those of layers that are not there."""
    drawn = {key: value_at(searched.dimensions[key], place) for key, place in zip(SETTINGS, places, strict=True)}
    active = searched.active({"model.widths": drawn["model.widths.length"]})
    return {key: value for key, value in drawn.items() if key in active}


def points(searched: Space, num_trials: int) -> Iterator[Point]:
    """The settings of `num_trials` trials, and of the repeats after the first of them."""
    sobol = qmc.Sobol(len(SETTINGS), seed=0).random_base2(math.ceil(math.log2(num_trials)))
    for i, places in enumerate(sobol[:num_trials]):
        params = settings_at(searched, places)
        for seed in (0, *SEEDS) if i < NUM_REPEATED else (0,):
            yield Point(seed, params)


def train(searched: Space, point: Point, folder: Path) -> list[dict[str, float]]:
    """The metrics of every epoch of the trial, trained as a study does it, on one thread."""
    loader = GlobalHydra.instance().config_loader()
    overrides = [*searched.overrides(point.params), f"seed={point.seed}", "num_threads=1", "tracking.enabled=false"]
    composed = loader.load_sweep_config(compose_sweep(), overrides)
    assert composed.epochs == EPOCHS
    curve = Curve()
    goal = Goal(["test/accuracy"], ["maximize"], "digits", is_recorded=False)
    carry_out(Trial(DIGITS, goal, folder, run=curve), digits.train, composed)
    return curve.epochs


def compose_sweep() -> DictConfig:
    """The default study as Hydra composes it, within `initialize_config_dir`."""
    return compose("config", ["hydra/sweeper=optuna"], return_hydra_config=True)


def read_space() -> Space:
    """What the default study searches."""
    register_plugin()
    with initialize_config_dir(str(ROOT / "conf")):
        sweep = compose_sweep()
        searched = reading.read_space(sweep.search, [], GlobalHydra.instance().config_loader(), sweep)
    assert set(searched.dimensions) == set(SETTINGS)
    return searched


def main() -> None:
    """Record what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=160)
    options = parser.parse_args()
    torch.set_num_threads(1)
    searched = read_space()
    with initialize_config_dir(str(ROOT / "conf")), tempfile.TemporaryDirectory() as folder:
        done = len(TABLE.read_text().splitlines()) - 1 if TABLE.exists() else 0
        with TABLE.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if done < 0 or file.tell() == 0:
                writer.writeheader()
            for point in list(points(searched, options.trials))[max(done, 0) :]:
                curve = train(searched, point, Path(folder))
                measured = {
                    f"{metric}.{epoch}": f"{metrics[metric]:.5g}"
                    for epoch, metrics in enumerate(curve, 1)
                    for metric in ("test/accuracy", "test/loss")
                }
                writer.writerow({"seed": point.seed} | point.params | measured)
                file.flush()
                print(point, *(measured[f"test/accuracy.{epoch}"] for epoch in range(1, EPOCHS + 1)), flush=True)


if __name__ == "__main__":
    main()
