"""How fast a study is, beside what one would write instead: the same search, each alternative in its own best way.

python benchmarks/studies.py --trials 3 --epochs 2 --rounds 2
python benchmarks/studies.py --only ours "by hand"

Needs the extra `bench`. Every contestant trains the same MLP on MNIST, searches the same two settings with TPE, and
leaves a run in MLflow for each trial; what is printed is read from there.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mlflow import MlflowClient
from mlflow.entities import Run

from sweep.record.tags import KIND_TAG

ROOT = Path(__file__).resolve().parents[1]

ALTERNATIVES = ROOT / "benchmarks" / "alternatives"
ACCURACY = "test/accuracy"
JOB = ("model.widths=[512,256]", "data.batch_size=256")
"""What ours gives, and so does not search: the MLP and the batch size of all contestants."""


class Task(NamedTuple):
    """The study that every contestant runs."""

    num_trials: int
    epochs: int
    seed: int
    data_root: Path


class Trial(NamedTuple):
    """One trial as MLflow has it: seconds since the epoch, and the accuracy after its last epoch."""

    start: float
    end: float
    accuracy: float
    finished: bool
    """False for one that was pruned; it counts as a trial of the study all the same."""


class Study(NamedTuple):
    """What one study of one contestant came to."""

    trials: list[Trial]
    started: float
    """When the command was given, in seconds since the epoch."""
    seconds: float
    """From the command to the prompt."""

    @property
    def starts(self) -> list[float]:
        """Seconds from the command to each trial's start, the first ones first."""
        return sorted(trial.start - self.started for trial in self.trials)

    @property
    def trials_per_hour(self) -> float:
        """From the first trial's start to the last one's end, without what comes before and after."""
        return 3600 * len(self.trials) / (max(t.end for t in self.trials) - min(t.start for t in self.trials))


def script(name: str, task: Task) -> list[str]:
    """The command of by_hand.py or ray_tune.py."""
    return [
        f"{ALTERNATIVES / name}", f"--trials={task.num_trials}", f"--epochs={task.epochs}", f"--seed={task.seed}",
        f"--data-root={task.data_root}",
    ]  # fmt: skip


def lightning(task: Task, *overrides: str) -> list[str]:
    """The command of lightning_hydra/train.py."""
    return [
        f"{ALTERNATIVES / 'lightning_hydra' / 'train.py'}", "-m", "search=optuna", f"seed={task.seed}",
        f"hydra.sweeper.n_trials={task.num_trials}", f"trainer.max_epochs={task.epochs}", f"data.root={task.data_root}",
        *overrides,
    ]  # fmt: skip


def ours(task: Task, *overrides: str) -> list[str]:
    """The command of this project."""
    return [
        f"{ROOT / 'sweep' / 'train.py'}", "-m", "hydra/sweeper=optuna", *JOB,
        f"seed={task.seed}", f"epochs={task.epochs}", f"hydra.sweeper.n_trials={task.num_trials}",
        f"data.root={task.data_root}", "output_dir=${hydra:runtime.cwd}/multirun", *overrides,
    ]  # fmt: skip


UNPRUNED = "hydra/sweeper/pruner=none"
CONTESTANTS: dict[str, Callable[[Task], list[str]]] = {
    "by hand": lambda task: script("by_hand.py", task),
    "lightning": lightning,
    "lightning, joblib": lambda task: lightning(
        task, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweeper.n_jobs=2", "data.num_workers=0"
    ),
    "ray tune": lambda task: script("ray_tune.py", task),
    "ours": lambda task: ours(task, UNPRUNED),
    "ours, float32": lambda task: ours(task, UNPRUNED, "precision=float32"),
    "ours, pruning": ours,
}


def read_trials(tracking_uri: str) -> list[Trial]:
    """The trials of the one study that the database holds; a run of a study as a whole is none.

    Raises:
        RuntimeError: A trial failed or never ended, and the study says nothing about speed.
    """
    client = MlflowClient(tracking_uri)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return [as_trial(run) for run in runs if run.data.tags.get(KIND_TAG) != "study"]


def as_trial(run: Run) -> Trial:
    """The facts of a run that finished, or that was pruned, which is KILLED in MLflow."""
    if run.info.status not in ("FINISHED", "KILLED") or ACCURACY not in run.data.metrics:
        raise RuntimeError(f"trial {run.info.run_name} is {run.info.status}, with {sorted(run.data.metrics)}")
    start, end = run.info.start_time / 1000, run.info.end_time / 1000
    return Trial(start, end, run.data.metrics[ACCURACY], run.info.status == "FINISHED")


def run_study(name: str, command: list[str], num_trials: int) -> Study:
    """The study that `command` runs, in a process and a temporary folder of its own.

    Args:
        name: What to call it in errors.
        command: What Python is given.
        num_trials: How many it should come to.

    Raises:
        RuntimeError: It ended with an error, or without the trials that it was asked for.
    """
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        # This checkout is measured, wherever an installed one lies; warnings of many libraries are no result.
        env = os.environ | {"MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        # Made beforehand and not counted: it takes seconds, only once on any machine, and workers would race to make
        # the database and the experiment, which every contestant calls mnist.
        make = "import mlflow; mlflow.set_experiment('mnist')"
        subprocess.run([sys.executable, "-c", make], check=True, cwd=folder, env=env, capture_output=True)
        started = time.time()
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, env=env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        seconds = time.time() - started
        if done.returncode:
            raise RuntimeError(f"{name} ended with {done.returncode}:\n{done.stdout[-4000:]}")
        trials = read_trials(uri)
    if len(trials) != num_trials:
        raise RuntimeError(f"{name} left {len(trials)} trials of {num_trials}:\n{done.stdout[-4000:]}")
    return Study(trials, started, seconds)


def run_rounds(names: Sequence[str], task: Task, num_rounds: int) -> dict[str, list[Study]]:
    """`num_rounds` studies of each contestant.

    Each round runs every contestant once, and starts with another one, so that a machine that slows down, or is busy
    for a while, does so to all of them.
    """
    studies: dict[str, list[Study]] = {name: [] for name in names}
    for i in range(num_rounds):
        for name in [*names[i % len(names) :], *names[: i % len(names)]]:
            study = run_study(name, CONTESTANTS[name](task), task.num_trials)
            studies[name].append(study)
            print(f"round {i + 1}: {name}, {study.seconds:.0f} s", file=sys.stderr, flush=True)
    return studies


def summarise(studies: dict[str, list[Study]]) -> dict[str, dict[str, Any]]:
    """For each contestant its figures over all rounds, as plain numbers for JSON. Ratios are of trials per hour."""
    speeds = {name: [study.trials_per_hour for study in rounds] for name, rounds in studies.items()}
    medians = {name: statistics.median(rates) for name, rates in speeds.items()}
    summary = {}
    for name, rounds in studies.items():
        trials = [trial for study in rounds for trial in study.trials]
        accuracies = [trial.accuracy for trial in trials]
        summary[name] = {
            "trials_per_hour": medians[name],
            "trials_per_hour_of_rounds": speeds[name],
            "seconds_to_first_trial": statistics.median(study.starts[0] for study in rounds),
            "study_seconds": statistics.median(study.seconds for study in rounds),
            "study_seconds_of_rounds": [study.seconds for study in rounds],
            "seconds_per_trial": statistics.median(seconds := [trial.end - trial.start for trial in trials]),
            "seconds_per_trial_range": [min(seconds), max(seconds)],
            "num_trials": len(trials),
            "num_pruned": sum(not trial.finished for trial in trials),
            "best_accuracy": max(accuracies),
            "mean_accuracy": statistics.mean(accuracies),
            "times_by_hand": medians[name] / medians["by hand"] if "by hand" in medians else None,
            "times_lightning": medians[name] / medians["lightning"] if "lightning" in medians else None,
        }
    return summary


def measure(
    num_trials: int, epochs: int, num_rounds: int, names: Sequence[str] = tuple(CONTESTANTS), seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Run all rounds and summarise them: for other programs."""
    return summarise(run_rounds(names, Task(num_trials, epochs, seed, data_root()), num_rounds))


def data_root() -> Path:
    """The folder that holds MNIST, or will."""
    return Path(os.environ.get("SWEEP_DATA_ROOT", ROOT / "data")).absolute()


def markdown(summary: dict[str, dict[str, Any]]) -> str:
    """The summary as a table."""

    def times(ratio: float | None) -> str:
        return "" if ratio is None else f"{ratio:.1f}"

    lines = [
        "| | trials an hour | of rounds | a trial, s | first trial after, s | whole study, s | best | mean "
        "| times by hand | times lightning |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, figures in summary.items():
        rates = figures["trials_per_hour_of_rounds"]
        shortest, longest = figures["seconds_per_trial_range"]
        lines.append(
            f"| {name} | {figures['trials_per_hour']:.0f} | {min(rates):.0f} to {max(rates):.0f} "
            f"| {figures['seconds_per_trial']:.1f} ({shortest:.1f} to {longest:.1f}) "
            f"| {figures['seconds_to_first_trial']:.1f} "
            f"| {figures['study_seconds']:.0f} "
            f"| {figures['best_accuracy']:.2%} | {figures['mean_accuracy']:.2%} "
            f"| {times(figures['times_by_hand'])} | {times(figures['times_lightning'])} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS), metavar="NAME")
    options = parser.parse_args()
    print(markdown(measure(options.trials, options.epochs, options.rounds, options.only, options.seed)))


if __name__ == "__main__":
    main()
