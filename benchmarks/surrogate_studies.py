"""The same study twice: as this project runs it, and as Optuna is driven directly. A function answers for the training.

`ours` is the real one from Hydra's config to Optuna's storage: sweeper, search, sampler, pruner and the handle that a
job reports to. Only the launcher is another: it asks the function instead of starting a job.
"""

import contextlib
import io
import json
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optuna
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from numpy.typing import NDArray
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from sweep.digits.job import DIGITS
from sweep.plugin.sweeper import register_plugin
from sweep.study import storage
from sweep.study.handle import handle_of
from sweep.study.pruners import build_pruner

ROOT = Path(__file__).resolve().parents[1]

Curve = Callable[[Mapping[str, Any]], Sequence[float] | NDArray[np.float64]]
"""From settings to the objective after each epoch."""

BATCH_SIZES = "data.batch_size=choice(256,512,1024)"
# The embedded digits stand for MNIST, which then need not be there: nothing is trained, and the space is the same.
# Their own batch size lies outside of it, so that the job as composed is not tried first; with MNIST's it is.
JOB = ("data=digits", "tracking.enabled=false")
FIRST = {
    "model.widths.length": 2, "model.widths.0": 512, "model.widths.1": 256, "model.dropout": 0.0,
    "optimizer.lr": 0.01, "data.batch_size": 512,
}  # fmt: skip
"""The job as composed."""
AS_COMPOSED = "hydra.sweeper.starting_points=[{data.batch_size: 512}]"


class Remembering:
    """Hydra's loader, but the jobs by which a study checks its space are composed for the first study only: 2 s."""

    composed: ClassVar[dict[tuple[str, ...], Any]] = {}

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def load_sweep_config(self, config: Any, overrides: list[str]) -> Any:
        if tuple(overrides) not in self.composed:
            self.composed[tuple(overrides)] = self._loader.load_sweep_config(config, overrides)
        return self.composed[tuple(overrides)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class Answers(Launcher):
    """In place of a launcher that trains: each trial's curve is reported as a job would, and pruned as one."""

    def __init__(self, curve: Curve, address: str, name: str, pruner: BasePruner) -> None:
        self.curve, self.address, self.name, self.pruner = curve, address, name, pruner

    def setup(self, **_: Any) -> None: ...

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        (overrides,) = job_overrides
        handle = handle_of(self.address, self.name, initial_job_idx, self.pruner)
        curve = [float(value) for value in self.curve(settings_of(overrides))]
        for epoch, value in enumerate(curve, 1):
            handle.report(value, epoch)
            if epoch < len(curve) and handle.reason_to_stop():
                return [_returned(None)]
        handle.finish(curve[-1:])
        return [_returned(curve[-1:])]


def _returned(value: Any) -> JobReturn:
    returned = JobReturn(status=JobStatus.COMPLETED)
    returned.return_value = value
    return returned


SEARCHED = ("model.widths", "model.dropout", "optimizer.lr", "data.batch_size")


def settings_of(overrides: Sequence[str]) -> dict[str, Any]:
    """The values of the dimensions in a job's command line."""
    given = {key: json.loads(value) for key, value in (one.split("=", 1) for one in overrides) if key in SEARCHED}
    widths = given.pop("model.widths")
    return given | {"model.widths.length": len(widths)} | {f"model.widths.{i}": w for i, w in enumerate(widths)}


def ours(
    curve: Curve,
    sampler: str,
    pruner: str,
    seed: int,
    n_trials: int,
    *,
    first: bool = True,
    changes: Sequence[str] = (),
) -> list[FrozenTrial]:
    """The trials of the default study with these samplers and pruners of conf/, one at a time.

    Args:
        curve: What stands for the training.
        sampler: Of conf/hydra/sweeper/sampler.
        pruner: Of conf/hydra/sweeper/pruner.
        seed: As on the command line.
        n_trials: In all.
        first: Whether the job as composed is tried first, as it is by default.
        changes: Further overrides.
    """
    name = "ours"
    register_plugin()
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(ROOT / "conf")):
        address = str(Path(folder) / "optuna.journal")
        composed = compose(
            "config",
            [
                *JOB, f"seed={seed}", f"output_dir={folder}", "hydra/sweeper=optuna",
                f"hydra/sweeper/sampler={sampler}", f"hydra/sweeper/pruner={pruner}", "hydra.sweeper.n_jobs=1",
                f"hydra.sweeper.n_trials={n_trials}", f"hydra.sweeper.study_name={name}",
                f"hydra.sweeper.storage={address}", *([AS_COMPOSED] if first else []), *changes,
            ],
            return_hydra_config=True,
        )  # fmt: skip
        loader: Any = Remembering(GlobalHydra.instance().config_loader())
        context = HydraContext(config_loader=loader, callbacks=Callbacks())
        sweeper: Any = Plugins.instance().instantiate_sweeper(
            hydra_context=context, task_function=DIGITS(lambda _: None), config=composed
        )
        sweeper.launcher = Answers(curve, address, name, build_pruner(composed.hydra.sweeper.pruner))
        with contextlib.redirect_stdout(io.StringIO()):
            sweeper.sweep([*JOB, BATCH_SIZES])
        found = storage.stored_study(address, name)
        assert found is not None
        return found.trials


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """The search space of conf/search, as one writes it for Optuna."""
    length = trial.suggest_int("model.widths.length", 1, 3)
    params: dict[str, Any] = {"model.widths.length": length}
    for i in range(length):
        name = f"model.widths.{i}"
        params[name] = trial.suggest_int(name, 128 >> i, 1024 >> i, log=True)
    params["model.dropout"] = trial.suggest_float("model.dropout", 0, 0.3)
    params["optimizer.lr"] = trial.suggest_float("optimizer.lr", 2e-3, 3e-2, log=True)
    params["data.batch_size"] = trial.suggest_categorical("data.batch_size", [256, 512, 1024])
    return params


def direct(
    curve: Curve,
    sampler: BaseSampler,
    pruner: BasePruner,
    n_trials: int,
    *,
    first: Mapping[str, Any] | None = None,
    asks_at_last: bool = True,
) -> list[FrozenTrial]:
    """The trials of a study as Optuna's own examples write it.

    Args:
        curve: What stands for the training.
        sampler: Optuna's.
        pruner: Optuna's.
        n_trials: In all.
        first: What to try first, None for nothing.
        asks_at_last: Whether the pruner is asked after the last epoch as well, as those examples do.
    """

    def objective(trial: optuna.Trial) -> float:
        values = [float(value) for value in curve(suggest(trial))]
        for epoch, value in enumerate(values, 1):
            trial.report(value, epoch)
            if (asks_at_last or epoch < len(values)) and trial.should_prune():
                raise optuna.TrialPruned
        return values[-1]

    found = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    if first is not None:
        found.enqueue_trial(dict(first))
    found.optimize(objective, n_trials)
    return found.trials


def direct_overlapping(
    curve: Curve, sampler: BaseSampler, n_trials: int, num_slots: int, *, first: Mapping[str, Any] | None = None
) -> list[FrozenTrial]:
    """The trials of a study of which `num_slots` run at a time, none pruned, each as long as the others."""
    found = optuna.create_study(direction="maximize", sampler=sampler)
    if first is not None:
        found.enqueue_trial(dict(first))
    running: deque[tuple[optuna.Trial, float]] = deque()
    for _ in range(n_trials):
        if len(running) == num_slots:
            found.tell(*running.popleft())
        trial = found.ask()
        running.append((trial, float(curve(suggest(trial))[-1])))
    while running:
        found.tell(*running.popleft())
    return found.trials
