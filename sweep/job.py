"""What a training job says about itself, so that code that knows no job can search, record and judge it.

    @hydra.main(config_path="conf", config_name="config")
    @sweep.Job(metrics={"val/rmse": sweep.Metric(direction="minimize")}, seed="seed")
    def main(cfg): ...

A job that says nothing works too; each field has a default.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from omegaconf import DictConfig, OmegaConf

from sweep import facts, project
from sweep.goal import OBJECTIVE as OBJECTIVE
from sweep.goal import Goal as Goal
from sweep.goal import goal_of
from sweep.hooks import Kept, PerExample, Section, Verified

Task = Callable[[DictConfig], Any]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How the values of a metric are judged and written."""

    direction: Literal["minimize", "maximize"] | None = None
    """Which way it is better; None if that must be said for each study."""

    is_share: bool = False
    """Whether it is a share of examples, 0 to 1: in percent, with a Wilson interval, on an axis of 1 - value."""

    decimals: int = 4
    """Digits after the point; 0 for a count."""

    is_constant: bool = False
    """Whether it stays the same from the first step on: recorded once, since as a curve it would tell nothing."""

    depends_on: tuple[str, ...] = ()
    """Keys of the settings that decide which examples it is measured on: only where these are the same can two of its
    values be compared."""

    def in_words(self, value: float) -> str:
        """`value` as a person reads it."""
        if self.is_share:
            return f"{value:.2%}"
        if self.decimals == 0:
            return f"{value:,.0f}"
        is_tiny = 0 < abs(value) < 10 ** (1 - self.decimals)
        return f"{value:.{self.decimals}g}" if is_tiny else f"{value:.{self.decimals}f}"


class Dataset(NamedTuple):
    """The data that a job is trained on, as MLflow's pages name them."""

    name: str
    digest: str
    """At most 36 characters that differ when the data differ."""
    address: str
    """Where they come from."""


def _as_composed(cfg: DictConfig) -> object:
    """The check of a job that has none: whatever Hydra composed can be trained."""
    return cfg


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a training job says about itself. As a decorator under `@hydra.main` it is attached to the job's function.

    A decorated function that is run by itself, outside of a study, is recorded as a single run.
    """

    check: Callable[[DictConfig], object] = _as_composed
    """Raises SweepError if a composed job cannot be trained. It is called at the corners of the search space before
    trial 0, and before each job. What it returns, a dataclass or a config, is recorded as the job's settings."""

    metrics: Mapping[str, Metric] = field(default_factory=dict)
    """Every metric that the job can report, by name; empty if it may report any. The first is the objective of a study
    that sets none."""

    named_by: tuple[str, ...] = ()
    """Keys whose values begin the name of a study that is given none, of a grid the first; else the program's name."""

    seed: str | None = None
    """Key of the setting that seeds the job's random numbers; `sweep confirm` varies it."""

    threads: str | None = None
    """Key of the setting that says how many CPU threads the job may use. Where it is null, a study with several jobs
    on this machine gives each its share of the cores."""

    free: tuple[str, ...] = ()
    """Keys, or starts of keys, of settings in which the trials of one study may differ: a device, a folder."""

    not_settings: tuple[str, ...] = ()
    """Top-level keys of the composed config that are no settings of the job: they steer Hydra, or a study."""

    step: str = "step"
    """What the steps of `report` are called: epoch, round, ..."""

    num_steps: str | None = None
    """Key of the setting that says how many steps the job takes, for what a study shows of those that run."""

    num_gpus: Callable[[DictConfig], int] = lambda _: 0
    """How many GPUs of this machine a study of this job may use, one for each slot; 0 if it trains on the CPU."""

    preload: tuple[str, ...] = ()
    """Modules that worker processes import before there is a job for them."""

    active_run: bool = True
    """Whether MLflow's active run is the trial's while the job runs, so that `mlflow.log_metric` and the like add to
    it. If not, the job can start runs of its own, as one that knows nothing of trials does; they are the trial's
    children."""

    dataset: Callable[[DictConfig], Dataset | None] = lambda _: None
    """The data that a composed job is trained on, None if it does not say."""

    model_files: tuple[str, ...] = ()
    """Names of the files that make a trained model, with which `sweep best` fetches it; empty for all that a run
    keeps."""

    verify: Callable[[Path, Kept, bool], Verified] | None = None
    """Scores the model in a folder, which `sweep best` has fetched from a run; code in it may be run only where the
    last argument says so. It raises SweepError if the model is not as good as was recorded."""

    per_example: Callable[[Kept, str], PerExample | None] | None = None
    """How the model of a run did on each example that the named metric was measured on, None if that is not kept.
    From it come a metric's interval and the selection bias of the best trial."""

    sections: Callable[[Kept], Iterable[Section]] | None = None
    """What a study's report adds for its best trial."""

    again: Callable[[DictConfig, Mapping[str, str]], DictConfig] = lambda settings, _: settings
    """The recorded settings with which a run is trained again, from those and the run's tags: with what was left to
    the machine as it was then, and the data where they lie now."""

    differences: Callable[[Kept, Kept], list[str]] | None = None
    """How what two runs of the same settings have kept differs, besides their metrics; empty if it is the same."""

    circumstances: Mapping[str, str] = field(default_factory=dict)
    """Tags that the job logs and that may explain why two runs of the same settings differ, with what each tells."""

    nondeterminism: Callable[[Kept], list[str]] | None = None
    """What may make a run like this one come out otherwise each time: several threads, the kernels of a GPU."""

    def __call__(self, task: Task) -> Task:
        """`task`, a function that takes the composed config, as a job that says this about itself.

        Its project is then the one whose root is meant, see `sweep.project`.
        """
        project.settle(task)

        @functools.wraps(task)
        def run(cfg: DictConfig) -> Any:
            from sweep.running import run_job  # it brings the record along, which `--help` need not wait for

            return run_job(self, task, cfg)

        run.sweep_job = self  # type: ignore[attr-defined]
        return run

    def config(self, cfg: DictConfig) -> DictConfig:
        """`cfg` as the job's function gets it: without what belongs to Hydra."""
        return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])

    def checked(self, cfg: DictConfig) -> dict[str, Any]:
        """The settings of a composed job, nested as its config is.

        Raises:
            SweepError: It cannot be trained.
        """
        return self._nested(cfg, resolve=True)

    def _nested(self, cfg: DictConfig, resolve: bool) -> dict[str, Any]:
        found = self.check(self.config(cfg))
        if is_dataclass(found) and not isinstance(found, type):
            return asdict(found)
        if not isinstance(found, Mapping | DictConfig):
            found = self.config(cfg)  # a check that returns nothing
        nested = OmegaConf.to_container(found, resolve=resolve) if isinstance(found, DictConfig) else dict(found)
        assert isinstance(nested, dict)
        return {str(key): value for key, value in nested.items() if key not in self.not_settings}

    def shared(self, cfg: DictConfig) -> dict[str, str]:
        """Every setting that trials of one study must share to be compared, by its key, unless it is searched.

        Interpolations stay as they are written: one of the time is the same setting at any time.
        """
        free = (*self.free, *([self.threads] if self.threads else []))
        flat = flatten(self._nested(cfg, resolve=False))
        return {key: str(value) for key, value in flat.items() if not key.startswith(free)}

    def facts(self) -> str:
        """What the job says that is data, as text that is recorded with its studies and single runs."""
        return facts.to_text(self)

    @classmethod
    def from_facts(cls, text: str) -> Job:
        """A job that says what `facts` wrote, and has no code.

        Args:
            text: A stranger's, maybe.

        Raises:
            SweepError: It is damaged.
        """
        return cls(**facts.read(text))

    def in_words(self, metrics: Mapping[str, float]) -> str:
        """Metrics by name as a person reads them: "test/accuracy 98.67%  test/loss 0.0512"."""
        return "  ".join(f"{name} {self.metric(name).in_words(value)}" for name, value in metrics.items())

    def metric(self, name: str) -> Metric:
        """What the job says of the metric called `name`."""
        return self.metrics.get(name, Metric())

    def goal(self, settings: Mapping[str, Any], experiment: str, *, in_study: bool = True) -> Goal:
        """What is set under hydra.sweeper: objective, direction, experiment, record, watch.

        Args:
            settings: The composed hydra.sweeper; keys that it has not are as if null.
            experiment: Name of the experiment where none is set.
            in_study: Whether each objective needs a direction.

        Raises:
            SweepError: The job has no such metric, or it is not known which way one is better.
        """
        return goal_of(self, settings, experiment, in_study)


def of(task: Any) -> Job:
    """What the job `task` says about itself; what a job that says nothing does, if it says nothing."""
    return getattr(task, "sweep_job", None) or Job()


def as_job(task: Task) -> Task:
    """`task`, attached to a job that says nothing if it is not attached to one."""
    return task if hasattr(task, "sweep_job") else Job(active_run=False)(task)


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting by the key that overrides it: `model.widths.0`, `optimizer.lr`."""
    return dict(_leaves("", settings))


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        yield key, value
        return
    for name, child in value.items():
        yield from _leaves(f"{key}.{name}" if key else str(name), child)
