"""What a training job says about itself, so that code that knows no job can search, record and judge it.

Each field has a default, so a job that says nothing works too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from omegaconf import DictConfig, OmegaConf

from sweep import facts
from sweep.goal import Goal, goal_of
from sweep.hooks import Kept, PerExample, Section, Verified

Task = Callable[[DictConfig], Any]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How the values of a metric are compared and written."""

    direction: Literal["minimize", "maximize"] | None = None
    """Direction in which the metric improves; None if each study has to set it."""

    is_share: bool = False
    """Whether the metric is a share of examples, 0 to 1: written in percent, with a Wilson interval, on an axis of 1
    - value."""

    decimals: int = 4
    """Digits after the decimal point; 0 for a count."""

    is_constant: bool = False
    """Whether the metric keeps its first value: it is recorded once, for a curve would show nothing."""

    depends_on: tuple[str, ...] = ()
    """Keys of the settings that decide which examples the metric is measured on. Two values are compared only where
    these settings are the same."""

    def in_words(self, value: float) -> str:
        """Return `value` as text for a person: in percent, as a count, or with the metric's decimals."""
        if self.is_share:
            return f"{value:.2%}"
        if self.decimals == 0:
            return f"{value:,.0f}"
        is_tiny = 0 < abs(value) < 10 ** (1 - self.decimals)
        return f"{value:.{self.decimals}g}" if is_tiny else f"{value:.{self.decimals}f}"


class Dataset(NamedTuple):
    """Name, digest and address of the data that a job is trained on, for MLflow's pages."""

    name: str
    digest: str
    """At most 36 characters that differ when the data differ."""
    address: str
    """Address that the data come from."""


def _as_composed(cfg: DictConfig) -> object:
    """Accept any composed job; the check of a job that has none."""
    return cfg


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a training job says about itself; `Job` is the decorator that carries it."""

    check: Callable[[DictConfig], object] = _as_composed
    """Function that raises SweepError if a composed job cannot be trained. It is called at the corners of the search
    space before trial 0, and before each trial. The dataclass or config that it returns is recorded as the job's
    settings."""

    metrics: Mapping[str, Metric] = field(default_factory=dict)
    """Every metric that the job can report, by name; empty if it may report any. The first one is the objective of a
    study that sets none."""

    named_by: tuple[str, ...] = ()
    """Keys whose values begin the name of a study that is given none; a grid's name begins with the first. Without
    any, names begin with the program's."""

    seed: str | None = None
    """Key of the setting that seeds the job's random numbers; `sweep confirm` varies it."""

    threads: str | None = None
    """Key of the setting that limits the job's CPU threads. Where it is null, a study with several jobs on this
    machine gives each its share of the cores."""

    free: tuple[str, ...] = ()
    """Keys, or beginnings of keys, of settings that may differ between the trials of one study: a device, a folder."""

    not_settings: tuple[str, ...] = ()
    """Top-level keys of the composed config that steer Hydra or a study, and are no settings of the job."""

    step: str = "step"
    """Word for a step of `report`: epoch, round, ..."""

    num_steps: str | None = None
    """Key of the setting with the number of steps; a running study shows progress by it."""

    num_gpus: Callable[[DictConfig], int] = lambda _: 0
    """Function that returns how many GPUs of this machine a study may use, one for each slot; 0 if it trains on the
    CPU."""

    preload: tuple[str, ...] = ()
    """Modules that worker processes import before they get a job."""

    active_run: bool = True
    """Whether the trial's run is MLflow's active run while the job runs, so that `mlflow.log_metric` and the like
    log to it. If not, the job may start runs of its own, which become children of the trial's run."""

    dataset: Callable[[DictConfig], Dataset | None] = lambda _: None
    """Function that returns the data that a composed job is trained on, or None if it does not say."""

    model_files: tuple[str, ...] = ()
    """Names of the files of a trained model, which `sweep best` fetches; empty for all files of a run."""

    verify: Callable[[Path, Kept, bool], Verified] | None = None
    """Function that scores the model in a folder, which `sweep best` has fetched from a run. It may run code from
    that folder only if its last argument is true. It raises SweepError if the model is not as good as was
    recorded."""

    per_example: Callable[[Kept, str], PerExample | None] | None = None
    """Function that returns how the model of a run did on each example that the named metric was measured on, or
    None if that was not kept. The metric's interval and the selection bias of the best trial come from it."""

    sections: Callable[[Kept], Iterable[Section]] | None = None
    """Function that yields the sections which a study's report adds for its best trial."""

    again: Callable[[DictConfig, Mapping[str, str]], DictConfig] = lambda settings, _: settings
    """Function that returns the settings to train a run again with, from the recorded settings and the run's tags:
    what was left to the machine is set as it was then, and paths lead to where the data lie now."""

    differences: Callable[[Kept, Kept], list[str]] | None = None
    """Function that returns, a line each, how the files kept by two runs of the same settings differ; empty if they
    do not."""

    circumstances: Mapping[str, str] = field(default_factory=dict)
    """Tags that the job logs and that may explain why two runs of the same settings differ, each with its meaning in
    words."""

    nondeterminism: Callable[[Kept], list[str]] | None = None
    """Function that returns, a line each, why a run like this one may come out differently each time: several
    threads, GPU kernels."""

    def config(self, cfg: DictConfig) -> DictConfig:
        """Return `cfg` without Hydra's own part, as the job's function gets it."""
        return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])

    def checked(self, cfg: DictConfig) -> dict[str, Any]:
        """Check a composed job, and return its settings as a nested dictionary.

        Raises:
            SweepError: The job cannot be trained.
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
        """Return the settings that trials of one study must share to be comparable, by key, unless searched.

        Interpolations stay as they are written, so that one of the time counts as the same setting at any time.
        """
        free = (*self.free, *([self.threads] if self.threads else []))
        flat = flatten(self._nested(cfg, resolve=False))
        return {key: str(value) for key, value in flat.items() if not key.startswith(free)}

    def facts(self) -> str:
        """Return the job's data (metrics, keys, names; no code) as JSON, recorded with its studies and single runs."""
        return facts.to_text(self)

    @classmethod
    def from_facts(cls, text: str) -> Description:
        """Return a description, without code, from the text that `facts` wrote.

        Args:
            text: A stranger's, maybe.

        Raises:
            SweepError: The text is damaged.
        """
        return cls(**facts.read_facts(text))

    def in_words(self, metrics: Mapping[str, float]) -> str:
        """Return metrics by name as text for a person: "test/accuracy 98.67%  test/loss 0.0512"."""
        return "  ".join(f"{name} {self.metric(name).in_words(value)}" for name, value in metrics.items())

    def metric(self, name: str) -> Metric:
        """Return what the job says of the metric called `name`."""
        return self.metrics.get(name, Metric())

    def goal(self, settings: Mapping[str, Any], experiment: str, *, in_study: bool = True) -> Goal:
        """Return the goal that is set under hydra.sweeper: objectives, directions, experiment, record, watch.

        Args:
            settings: The composed hydra.sweeper; keys that it has not are as if null.
            experiment: Name of the experiment where none is set.
            in_study: Whether each objective needs a direction.

        Raises:
            SweepError: The job has no such metric, or it is not known which way one is better.
        """
        return goal_of(self, settings, experiment, in_study)


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return every setting by the key that overrides it: `model.widths.0`, `optimizer.lr`."""
    return dict(_leaves("", settings))


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        yield key, value
        return
    for name, child in value.items():
        yield from _leaves(f"{key}.{name}" if key else str(name), child)
