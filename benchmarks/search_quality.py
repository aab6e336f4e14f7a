"""How good a study's search is: the regret of ours beside Optuna's driven directly, for each sampler, with and without
pruning, on a surrogate of the default study made of recorded trials (surrogate.py).

python benchmarks/search_quality.py                                  all: what is not in search_quality.json yet
python benchmarks/search_quality.py --samplers gp --trials 20        of one
python benchmarks/search_quality.py --variants                       other settings of the samplers, 100 seeds
python benchmarks/search_quality.py --train                          what tpe and gp found there, trained on MNIST
python benchmarks/search_quality.py --draw                           the pictures and the tables alone
"""

import argparse
import json
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import surrogate_studies
import torch
from hydra import initialize_config_dir
from matplotlib.figure import Figure
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from record_trials import EPOCHS, Point, read_space, train
from scipy.stats import wilcoxon
from surrogate import MODELS, Surrogate, cross_validated, optimum, read, seed_covariance

from sweep.study.samplers import learning_from_pruned

ROOT = Path(__file__).resolve().parents[1]

RESULTS = Path(__file__).with_suffix(".json")
PICTURES = Path(__file__).parent / "img"
N_TRIALS = 20
SEEDS, MORE_SEEDS = 20, 100
TRAINED_SEEDS, FRESH_SEED = 12, 100

# Optuna's own defaults; what is silenced tells at every trial that some dimensions are drawn at random.
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed, warn_independent_sampling=False),
    "cmaes": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
    "random": lambda seed: RandomSampler(seed=seed),
}
VARIANTS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe, as here (group)": lambda seed: TPESampler(seed=seed, group=True),
    "tpe, Optuna's (no group)": lambda seed: TPESampler(seed=seed),
    "tpe, each dimension for itself": lambda seed: TPESampler(seed=seed, multivariate=False),
    "tpe, 5 at random first": lambda seed: TPESampler(seed=seed, group=True, n_startup_trials=5),
    "tpe, 3 at random first": lambda seed: TPESampler(seed=seed, group=True, n_startup_trials=3),
    "tpe, 5 at random first, no group": lambda seed: TPESampler(seed=seed, n_startup_trials=5),
    "tpe, 100 candidates": lambda seed: TPESampler(seed=seed, group=True, n_ei_candidates=100),
    "cmaes": SAMPLERS["cmaes"],
    "qmc": lambda seed: QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False),
    "random": SAMPLERS["random"],
}
SLOW_VARIANTS: dict[str, Callable[[int], BaseSampler]] = {
    "gp, as here (learns from pruned)": lambda seed: learning_from_pruned(SAMPLERS["gp"](seed)),
    "gp, Optuna's": SAMPLERS["gp"],
    "gp, 5 at random first": lambda seed: GPSampler(seed=seed, n_startup_trials=5, warn_independent_sampling=False),
    "gp, deterministic": lambda seed: GPSampler(
        seed=seed, deterministic_objective=True, warn_independent_sampling=False
    ),
}
OVERLAPPING_VARIANTS = {
    "tpe, as here (group)": VARIANTS["tpe, as here (group)"],
    "tpe, no constant liar": lambda seed: TPESampler(seed=seed, group=True, constant_liar=False),
    "gp, as here (learns from pruned)": SLOW_VARIANTS["gp, as here (learns from pruned)"],
    "random": SAMPLERS["random"],
}
BEST_TWO = {"tpe": VARIANTS["tpe, as here (group)"], "gp": SLOW_VARIANTS["gp, as here (learns from pruned)"]}
NUM_SLOTS = 4
OVERLAPPING = f"none; {NUM_SLOTS} at a time"
PRUNERS = {
    "none": NopPruner(),
    "successive_halving": SuccessiveHalvingPruner(min_resource=EPOCHS // 2, reduction_factor=2),
}
WAYS = ("ours", "ours, nothing first", "directly")


class Course(NamedTuple):
    """How a study went, after each of its trials."""

    regret: list[float]
    """By how much the best trial so far is expected to fall short of the optimum, in percentage points."""
    epochs: list[int]
    """Trained by then."""


class Problem(NamedTuple):
    """What studies search in."""

    surrogate: Surrogate
    best: float
    """The highest accuracy that can be expected."""

    def course(self, trials: Sequence[FrozenTrial]) -> Course:
        """The best trial is chosen as a study does, by what was seen; its regret is without the luck in that."""
        expected = self.surrogate.expected([trial.params for trial in trials])[:, -1]
        chosen, best_seen, regret = 0, -1.0, []
        for i, trial in enumerate(trials):
            if trial.state == TrialState.COMPLETE and trial.value is not None and trial.value > best_seen:
                chosen, best_seen = i, trial.value
            regret.append(round(100 * (self.best - expected[chosen]), 4))
        epochs = np.cumsum([len(trial.intermediate_values) or EPOCHS for trial in trials])
        return Course(regret, [int(count) for count in epochs])


def run(problem: Problem, way: str, sampler: str, pruner: str, seed: int, n_trials: int) -> Course:
    """One study."""
    curve = problem.surrogate.curve
    if way == "directly":
        trials = surrogate_studies.direct(curve, SAMPLERS[sampler](seed), PRUNERS[pruner], n_trials)
    else:
        trials = surrogate_studies.ours(curve, sampler, pruner, seed, n_trials, first=way == "ours")
    return problem.course(trials)


def run_variant(problem: Problem, sampler: BaseSampler, pruner: str) -> Course:
    """One study as ours goes, which `tests/test_search_quality.py` shows, but without the time that Hydra takes."""
    curve, first = problem.surrogate.curve, surrogate_studies.FIRST
    if pruner == OVERLAPPING:
        return problem.course(surrogate_studies.direct_overlapping(curve, sampler, N_TRIALS, NUM_SLOTS, first=first))
    return problem.course(
        surrogate_studies.direct(curve, sampler, PRUNERS[pruner], N_TRIALS, first=first, asks_at_last=False)
    )


def interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95% interval of the mean over the first axis, by resampling."""
    picks = np.random.default_rng(0).integers(len(values), size=(2_000, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), (2.5, 97.5), axis=0)
    return low, high


def summary(courses: Sequence[Course]) -> dict[str, Any]:
    """What is kept of studies that differ in their seed."""
    regret = np.array([course.regret for course in courses])  # (seeds, trials)
    epochs = np.array([course.epochs for course in courses])
    low, high = interval(regret)
    curves = {"mean": regret.mean(axis=0), "low": low, "high": high, "median": np.median(regret, axis=0)}
    kept: dict[str, Any] = {key: [round(float(value), 4) for value in curve] for key, curve in curves.items()}
    kept["epochs"] = [round(float(value), 1) for value in epochs.mean(axis=0)]
    kept["by_seed"] = {n: [row[n - 1] for row in regret.tolist()] for n in (N_TRIALS, 50) if n <= regret.shape[1]}
    budget = 3 * N_TRIALS  # epochs: what 15 trials take that are not pruned
    kept[f"by_seed_within_{budget}_epochs"] = [
        row[int((spent <= budget).sum()) - 1] for row, spent in zip(regret.tolist(), epochs, strict=True)
    ]
    return kept


def p_value(first: Sequence[float], second: Sequence[float]) -> float:
    """Of Wilcoxon's signed-rank test over pairs of the same seed; 1 where all are the same."""
    if all(a == b for a, b in zip(first, second, strict=True)):
        return 1.0
    return float(wilcoxon(first, second).pvalue)


def load() -> dict[str, Any]:
    """What has been measured."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"surrogate": {}, "studies": {}, "variants": {}}


def save(results: dict[str, Any]) -> None:
    """Keep it, a curve to a line."""
    text = json.dumps(results, indent=1)
    RESULTS.write_text(_lists_on_one_line(text) + "\n")


def _lists_on_one_line(text: str) -> str:
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: re.sub(r"\s+", " ", found[0]), text)


def make_problem(results: dict[str, Any]) -> Problem:
    """The surrogate with its optimum, both told in `results`."""
    rows = read()
    surrogate = Surrogate(rows)
    best = optimum(surrogate, read_space())
    deviation = float(np.sqrt(seed_covariance(rows)[-1, -1]))
    results["surrogate"] = {
        "trials": len(rows),
        "quality": [quality._asdict() for quality in cross_validated(rows)],
        "optimum": best._asdict(),
        "points_by_seed_alone": 100 * deviation * (1 - best.accuracy),
        "regret_of_the_job_as_composed": 100
        * (best.accuracy - float(surrogate.expected([surrogate_studies.FIRST])[0, -1])),
    }
    return Problem(surrogate, best.accuracy)


def measure(results: dict[str, Any], samplers: Sequence[str], n_trials: int, num_seeds: int) -> None:
    """Run what `results` lacks, and keep it."""
    problem = make_problem(results)
    for sampler in samplers:
        for pruner in PRUNERS:
            for way in WAYS:
                key = f"{sampler}, {pruner}, {way}"
                if len(results["studies"].get(key, {"mean": []})["mean"]) < n_trials:
                    courses = [run(problem, way, sampler, pruner, seed, n_trials) for seed in range(num_seeds)]
                    results["studies"][key] = summary(courses)
                    save(results)
                    print(key, results["studies"][key]["mean"][N_TRIALS - 1], flush=True)


def measure_variants(results: dict[str, Any]) -> None:
    """The same for other settings of the samplers."""
    problem = make_problem(results)
    plan = [(pruner, VARIANTS, MORE_SEEDS) for pruner in PRUNERS]
    plan += [(OVERLAPPING, OVERLAPPING_VARIANTS, SEEDS)]
    plan += [(pruner, SLOW_VARIANTS, SEEDS) for pruner in reversed(PRUNERS)]
    for pruner, variants, num_seeds in plan:
        for name, make in variants.items():
            key = f"{name}, {pruner}"
            if key not in results["variants"]:
                courses = [run_variant(problem, make(seed), pruner) for seed in range(num_seeds)]
                results["variants"][key] = summary(courses)
                save(results)
                print(key, results["variants"][key]["mean"][-1], flush=True)


def measure_other_surrogates(results: dict[str, Any]) -> None:
    """The same for the two samplers that are best, on surrogates made of other models."""
    rows, searched = read(), read_space()
    for model in list(MODELS)[1:]:
        surrogate = Surrogate(rows, model)
        problem = Problem(surrogate, optimum(surrogate, searched).accuracy)
        for pruner in PRUNERS:
            for name, make in BEST_TWO.items():
                key = f"{model}: {name}, {pruner}"
                if key not in results.setdefault("other_surrogates", {}):
                    courses = [run_variant(problem, make(seed), pruner) for seed in range(SEEDS)]
                    results["other_surrogates"][key] = summary(courses)
                    save(results)
                    print(key, results["other_surrogates"][key]["mean"][-1], flush=True)


def train_found(results: dict[str, Any]) -> None:
    """What studies found on the surrogate, as it is in truth: trained on MNIST with a fresh seed."""
    problem = make_problem(results)
    pruner, found = PRUNERS["successive_halving"], results.setdefault("trained", {name: [] for name in BEST_TWO})
    searched = read_space()
    torch.set_num_threads(1)
    with initialize_config_dir(str(ROOT / "conf")), tempfile.TemporaryDirectory() as folder:
        for seed in range(TRAINED_SEEDS):
            for name, make in BEST_TWO.items():
                if len(found[name]) > seed:
                    continue
                sampler, curve = make(seed), problem.surrogate.curve
                trials = surrogate_studies.direct(
                    curve, sampler, pruner, N_TRIALS, first=surrogate_studies.FIRST, asks_at_last=False
                )
                best = max((one for one in trials if one.state == TrialState.COMPLETE), key=lambda one: one.values)
                real = train(searched, Point(FRESH_SEED + seed, best.params), Path(folder))[-1]["test/accuracy"]
                expected = float(problem.surrogate.expected([best.params])[0, -1])
                found[name].append({"accuracy": real, "expected": round(expected, 5), "params": best.params})
                save(results)


def words_of_trained(results: dict[str, Any]) -> str:
    """What `train_found` found, in a line for each sampler."""
    lines = []
    for name, found in results.get("trained", {}).items():
        real = 100 * np.array([one["accuracy"] for one in found])
        expected = 100 * np.array([one["expected"] for one in found])
        low, high = interval(real)
        lines.append(
            f"{name}: {real.mean():.3f}% ({low:.3f} to {high:.3f}) on MNIST, {expected.mean():.3f}% by the surrogate, "
            f"{len(found)} studies"
        )
    if len(lines) > 1:
        first, second = ([one["accuracy"] for one in found] for found in results["trained"].values())
        lines.append(f"p = {p_value(first, second):.3f}")
    return "\n".join(lines)


def table(results: dict[str, Any], n_trials: int) -> str:
    """The mean regret after `n_trials`, in Markdown."""
    lines = [
        "| sampler | pruner | ours | ours, nothing first | Optuna directly | p | epochs, ours |",
        "|---|---|---|---|---|---|---|",
    ]
    for sampler in SAMPLERS:
        for pruner in PRUNERS:
            found = [results["studies"].get(f"{sampler}, {pruner}, {way}") for way in WAYS]
            if any(one is None or len(one["mean"]) < n_trials for one in found):
                continue
            cells = [
                f"{one['mean'][n_trials - 1]:.3f} ({one['low'][n_trials - 1]:.3f} to {one['high'][n_trials - 1]:.3f})"
                for one in found
            ]
            p = p_value(*(one["by_seed"][str(n_trials)] for one in found[1:]))
            lines.append(
                f"| {sampler} | {pruner} | {' | '.join(cells)} | {p:.2f} | {found[0]['epochs'][n_trials - 1]:.0f} |"
            )
    return "\n".join(lines)


def table_of_variants(results: dict[str, Any]) -> str:
    """The mean regret of each variant, and whether it differs from what is the default, in Markdown."""
    lines = ["| sampler | pruner | regret | median | p | within 60 epochs |", "|---|---|---|---|---|---|"]
    for key, one in sorted(results["variants"].items(), key=lambda item: item[0].rsplit(", ", 1)[1]):
        name, pruner = key.rsplit(", ", 1)
        ours, theirs = results["variants"][f"{next(iter(VARIANTS))}, {pruner}"]["by_seed"]["20"], one["by_seed"]["20"]
        p = p_value(ours[: len(theirs)], theirs[: len(ours)])
        within = np.mean(one["by_seed_within_60_epochs"])
        mean = f"{one['mean'][-1]:.3f} ({one['low'][-1]:.3f} to {one['high'][-1]:.3f})"
        lines.append(f"| {name} | {pruner} | {mean} | {one['median'][-1]:.3f} | {p:.3f} | {within:.3f} |")
    return "\n".join(lines)


def table_of_other_surrogates(results: dict[str, Any]) -> str:
    """The mean regret on surrogates made of other models, in Markdown."""
    lines = ["| surrogate, sampler | pruner | regret |", "|---|---|---|"]
    for key, one in results.get("other_surrogates", {}).items():
        name, pruner = key.rsplit(", ", 1)
        lines.append(f"| {name} | {pruner} | {one['mean'][-1]:.3f} ({one['low'][-1]:.3f} to {one['high'][-1]:.3f}) |")
    return "\n".join(lines)


class Line(NamedTuple):
    """A curve with the 95% interval of its mean over the seeds."""

    epochs: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def trials(self) -> np.ndarray:
        return np.arange(1, len(self.mean) + 1)


def line_of(results: dict[str, Any], key: str) -> Line | None:
    """The first N_TRIALS of what was measured, None if it was not."""
    found = results["studies"].get(key)
    return found and Line(*(np.array(found[part][:N_TRIALS]) for part in ("epochs", "mean", "low", "high")))


def draw_ways(results: dict[str, Any], path: Path) -> None:
    """Ours beside Optuna's driven directly, a panel for each sampler and pruner."""
    figure = Figure((11, 5.6), layout="constrained")
    panels = figure.subplots(len(PRUNERS), len(SAMPLERS), sharex=True, sharey=True)
    looks = {"ours": ("C0", "-"), "ours, nothing first": ("C1", "-"), "directly": ("k", ":")}
    for row, pruner in zip(panels, PRUNERS, strict=True):
        for axes, sampler in zip(row, SAMPLERS, strict=True):
            for way, (color, style) in looks.items():
                if line := line_of(results, f"{sampler}, {pruner}, {way}"):
                    label = "Optuna directly" if way == "directly" else way
                    axes.plot(line.trials, line.mean, color=color, linestyle=style, linewidth=1.8, label=label)
                    axes.fill_between(line.trials, line.low, line.high, color=color, alpha=0.12, linewidth=0)
            axes.set_title(f"{sampler}, {'no pruning' if pruner == 'none' else 'successive halving'}", fontsize=10)
    _finish(figure, panels, "trials", path)


def draw_samplers(results: dict[str, Any], path: Path) -> None:
    """The samplers of ours side by side, by what was trained, with and without the job as composed first."""
    figure = Figure((11, 6.4), layout="constrained")
    panels = figure.subplots(2, len(PRUNERS), sharex=True, sharey=True)
    for row, way in zip(panels, WAYS, strict=False):
        for axes, pruner in zip(row, PRUNERS, strict=True):
            for sampler in SAMPLERS:
                if line := line_of(results, f"{sampler}, {pruner}, {way}"):
                    axes.plot(line.epochs, line.mean, linewidth=1.8, label=sampler)
                    axes.fill_between(line.epochs, line.low, line.high, alpha=0.12, linewidth=0)
            axes.set_title(f"{way}, {'no pruning' if pruner == 'none' else 'successive halving'}", fontsize=10)
    _finish(figure, panels, "epochs trained, in 20 trials", path)


def _finish(figure: Figure, panels: Any, below: str, path: Path) -> None:
    ticks = [0.05, 0.1, 0.2, 0.5, 1]
    for axes in panels.flat:
        axes.set_yscale("log")
        axes.set_yticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    for axes in panels[:, 0]:
        axes.set_ylabel("regret (points of accuracy)")
    for axes in panels[-1]:
        axes.set_xlabel(below)
    panels.flat[0].legend(fontsize=9)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samplers", nargs="+", choices=list(SAMPLERS), default=list(SAMPLERS))
    parser.add_argument("--trials", type=int, default=N_TRIALS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=ExperimentalWarning)  # that some of it is experimental
    results = load()
    if options.variants:
        measure_variants(results)
        measure_other_surrogates(results)
    elif options.train:
        train_found(results)
    elif not options.draw:
        measure(results, options.samplers, options.trials, options.seeds)
    results = load()  # as it is read later: numbers that were keys are text
    for n_trials in (N_TRIALS, 50):
        print(f"\nafter {n_trials} trials\n\n{table(results, n_trials)}")
    print(f"\n{table_of_variants(results)}")
    print(f"\n{table_of_other_surrogates(results)}\n\n{words_of_trained(results)}")
    draw_ways(results, PICTURES / "regret.png")
    draw_samplers(results, PICTURES / "samplers.png")


if __name__ == "__main__":
    main()
