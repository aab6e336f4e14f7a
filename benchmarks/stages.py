"""Where the time of a trial goes: seconds in each stage, exclusive of the others.

python benchmarks/stages.py                                       the default MLP on MNIST, 8 trials
python benchmarks/stages.py --trials 1000 data=digits epochs=1    how it grows with the study
"""

import argparse
import contextlib
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

STAGES = (
    "asking", "composing", "starting", "data", "forward and backward", "optimizer", "evaluation", "logging", "saving",
    "telling",
)  # fmt: skip
TRAINING = ("data", "forward and backward", "optimizer", "evaluation")


class Clock:
    """Adds up the seconds of each stage, of one trial after another; a stage within another stops the outer one's."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.trials: list[dict[str, float]] = [defaultdict(float)]
        self._stack: list[str] = []
        self._now = now
        self._since = now()

    def _switch(self) -> None:
        now = self._now()
        if self._stack:
            self.trials[-1][self._stack[-1]] += now - self._since
        self._since = now

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Within, time counts for `name`."""
        self._switch()
        self._stack.append(name)
        try:
            yield
        finally:
            self._switch()
            self._stack.pop()

    def watch(self, owner: Any, function: str, stage: str) -> None:
        """Have the time in `owner`'s `function` count for `stage`."""
        original = getattr(owner, function)

        @functools.wraps(original)
        def watched(*args: Any, **kwargs: Any) -> Any:
            with self.stage(stage):
                return original(*args, **kwargs)

        setattr(owner, function, watched)

    def watch_iterator(self, owner: Any, function: str, stage: str) -> None:
        """The same of an iterator that `owner`'s `function` makes, while it is asked for the next item."""
        original = getattr(owner, function)

        @functools.wraps(original)
        def watched(*args: Any, **kwargs: Any) -> Iterator[Any]:
            iterator = iter(original(*args, **kwargs))
            while True:
                with self.stage(stage):
                    try:
                        item = next(iterator)
                    except StopIteration:
                        return
                yield item

        setattr(owner, function, watched)

    def watch_context(self, owner: Any, function: str, stage: str) -> None:
        """The same of what a context manager does as it is entered and left."""
        original = getattr(owner, function)

        @contextlib.contextmanager
        def watched(*args: Any, **kwargs: Any) -> Iterator[Any]:
            context = original(*args, **kwargs)
            with self.stage(stage):
                entered = context.__enter__()
            try:
                yield entered
            except BaseException as error:
                with self.stage(stage):
                    context.__exit__(type(error), error, error.__traceback__)
                raise
            with self.stage(stage):
                context.__exit__(None, None, None)

        setattr(owner, function, watched)


def watch_everything(clock: Clock) -> None:
    """Name the stages of the project's own functions."""
    import torch
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.core_plugins import basic_launcher
    from torch.utils.data import DataLoader

    from sweep import pytorch
    from sweep.digits import config, data, loop, predictions, train
    from sweep.record import mirror
    from sweep.record.run import MLflowRun
    from sweep.study import handle, search, study

    claim = study.Study.claim

    def claim_next(*args: Any, **kwargs: Any) -> Any:
        clock.trials.append(defaultdict(float))
        with clock.stage("asking"):
            return claim(*args, **kwargs)

    study.Study.claim = claim_next  # type: ignore[method-assign]
    clock.watch(study.Study, "twin_of", "asking")
    clock.watch(ConfigLoaderImpl, "load_sweep_config", "composing")
    clock.watch(config, "parse", "composing")
    clock.watch(basic_launcher, "run_job", "starting")
    clock.watch(train, "train", "starting")
    clock.watch(data, "load", "data")
    clock.watch_iterator(DataLoader, "__iter__", "data")
    clock.watch_iterator(loop, "fit", "forward and backward")
    for optimizer in (torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD):
        clock.watch(optimizer, "step", "optimizer")
    clock.watch(torch.optim.lr_scheduler.OneCycleLR, "step", "optimizer")
    clock.watch(loop, "evaluate", "evaluation")
    for name in ("log_params", "log_tags", "log_metrics", "log_dataset", "log_file"):
        clock.watch(MLflowRun, name, "logging")
    for name in ("connect", "find_run"):
        clock.watch(mirror, name, "logging")
    clock.watch_context(mirror, "open_run", "logging")
    clock.watch(torch, "save", "saving")
    clock.watch(predictions, "save", "saving")
    clock.watch(pytorch, "log_model", "saving")
    for name in ("report", "reason_to_stop", "finish"):
        clock.watch(handle.StoredHandle, name, "telling")
    clock.watch(study.Study, "tell", "telling")
    clock.watch(search.Search, "_tell", "telling")


def run(num_trials: int, overrides: list[str]) -> list[dict[str, float]]:
    """The seconds of each stage of each trial of a study, in this process, with one slot of one thread."""
    from sweep import train

    clock = Clock()
    watch_everything(clock)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        os.chdir(folder)
        sys.argv = [
            str(Path(train.__file__)), "-m", "hydra/sweeper=optuna", "hydra/sweeper/pruner=none", "num_threads=1",
            f"hydra.sweeper.n_trials={num_trials}", "hydra.sweeper.n_jobs=1", f"output_dir={folder}/multirun",
            *overrides,
        ]  # fmt: skip
        train.main()
    return [dict(trial) for trial in clock.trials[1 : num_trials + 1]]


def table(trials: list[dict[str, float]]) -> str:
    """Medians over the trials but the first, in Markdown."""
    rows = ["| stage | seconds a trial | first trial |", "|---|---|---|"]
    for stage in STAGES:
        later = statistics.median(trial.get(stage, 0.0) for trial in trials[1:])
        rows.append(f"| {stage} | {later:.3f} | {trials[0].get(stage, 0.0):.3f} |")
    rows.append(f"| all but training | {_overhead(trials[1:]):.3f} | {_overhead(trials[:1]):.3f} |")
    return "\n".join(rows)


def _overhead(trials: list[dict[str, float]]) -> float:
    """Median of the seconds that were not training."""
    return statistics.median(sum(trial.values()) - sum(trial.get(stage, 0.0) for stage in TRAINING) for trial in trials)


def main() -> None:
    """Print the table, and what all but training took along the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--json", type=Path, help="where to leave every trial's seconds")
    options, overrides = parser.parse_known_args()
    trials = run(options.trials, overrides)
    print(table(trials))
    for start in (5, 50, 490, 990):
        if start + 10 <= len(trials):
            print(f"trials {start} to {start + 9}: {_overhead(trials[start : start + 10]):.3f} s that are not training")
    if options.json:
        options.json.write_text(json.dumps(trials))


if __name__ == "__main__":
    main()
