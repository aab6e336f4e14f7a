"""The composed job as typed values: Hydra's YAML goes in, a checked Config comes out.

Each group's settings are a dataclass beside the code that uses them; `name` in the group's YAML chooses it.
"""

import typing
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import cast

import hydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep import SweepError, explain, one_of, plain_settings, require
from sweep.digits import CONF, datasets, models, optimizers
from sweep.digits.job import METRICS

GROUPS: dict[str, type] = {
    "model": models.ModelConfig,
    "optimizer": optimizers.OptimizerConfig,
    "data": datasets.DataConfig,
}

LONGEST_EXPERIMENT = 200
"""Most bytes of an experiment's name, which is also a folder's."""

MOST_THREADS = 1024
"""More threads than any machine has cores; far more of them end the process."""

STEERING_KEYS = ("hydra", "search", "output_dir")
"""Top-level keys that steer Hydra or a study, not a training job."""


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Where a run is recorded."""

    enabled: bool
    """Whether MLflow keeps a record; without one there is no saved model but the one in the run's folder."""

    experiment: str
    """MLflow's experiment, made if it does not exist; by default called as the data."""

    def __post_init__(self) -> None:
        is_name = bool(self.experiment.strip()) and self.experiment.isprintable()
        shown = self.experiment if len(self.experiment) <= 60 else f"{self.experiment[:60]}..."
        require(is_name, "tracking.experiment", repr(shown), "give it a name, without control characters")
        is_short = len(self.experiment.encode()) <= LONGEST_EXPERIMENT
        require(is_short, "tracking.experiment", shown, f"at most {LONGEST_EXPERIMENT} bytes make a name")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training job."""

    model: models.ModelConfig
    optimizer: optimizers.OptimizerConfig
    data: datasets.DataConfig
    tracking: TrackingConfig

    epochs: int
    """How often to go through the training images."""

    label_smoothing: float
    """Share of the target spread evenly over all classes."""

    seed: int
    """What the weights, the order of the images, dropout and shifts are drawn from."""

    device: str
    """auto (a GPU if there is one), cpu, cuda or mps."""

    precision: str
    """auto (bfloat16 where the hardware computes in it), float32 or bfloat16."""

    num_threads: int | None
    """CPU threads of this job; null for as many as there are cores."""

    objective: list[str]
    """What a study searches for: test/accuracy, test/loss, train/loss, model/parameters, or with data.validation
    above 0 val/accuracy, val/loss. The value after the last epoch counts. A list of several gives a Pareto front."""

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "epochs", self.epochs, "must be 1 or more")
        require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "must be 0 or more and below 1")
        require(0 <= self.seed < 2**32, "seed", self.seed, "must be 0 or more and below 4294967296")
        require(
            self.num_threads is None or 1 <= self.num_threads <= MOST_THREADS,
            "num_threads",
            self.num_threads,
            f"must be 1 or more and at most {MOST_THREADS}, or null",
        )
        metrics = [metric for metric in METRICS if self.data.validation or not metric.startswith("val/")]
        hint = "" if self.data.validation else "; val/accuracy and val/loss need data.validation above 0"
        require(bool(self.objective), "objective", "[]", one_of(metrics) + hint)
        for objective in self.objective:
            require(objective in metrics, "objective", objective, one_of(metrics) + hint)
        require(
            self.data.batch_size > 1 or not getattr(self.model, "batch_norm", False),
            "data.batch_size",
            self.data.batch_size,
            f"must be 2 or more for the batch norm of {self.model.name}",
        )


def compose(overrides: Sequence[str]) -> Config:
    """Return the job that `overrides` make of conf/, for programs that are not Hydra's own.

    Raises:
        SweepError: As in `parse`. Hydra's own errors of a key or a choice are raised as they are.
    """
    with hydra.initialize_config_dir(str(CONF)):
        return parse(hydra.compose("config", list(overrides)))


def parse(cfg: DictConfig) -> Config:
    """Return the job that Hydra composed, with every type and bound checked.

    Raises:
        SweepError: A value is of the wrong type or not allowed.
    """
    try:
        classes = {group: _class_named(base, str(cfg[group].name), group) for group, base in GROUPS.items()}
        schema = OmegaConf.create({group: OmegaConf.structured(cls) for group, cls in classes.items()})
        job = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in STEERING_KEYS])
        experiment = OmegaConf.select(job, "tracking.experiment")
        reads_as_text = experiment is None or isinstance(experiment, str)
        quoted = "that is no text to Hydra; in quotes it is: 'tracking.experiment=\"NAME\"'"
        require(reads_as_text, "tracking.experiment", experiment, quoted)
        if not OmegaConf.is_list(job.objective):
            job.objective = [job.objective]
        return cast(Config, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), schema, job)))
    except OmegaConfBaseException as error:
        raise SweepError(explain(error)) from error


def to_yaml(config: Config) -> str:
    """Return `config` as YAML that `parse` reads back."""
    return OmegaConf.to_yaml(OmegaConf.create(asdict(config)))


def from_yaml(text: str | bytes) -> Config:
    """Return the job from text that `to_yaml` wrote. It may be a stranger's, so nothing in it is resolved.

    Raises:
        SweepError: The text is damaged, holds an interpolation, or has values that this version does not allow.
    """
    found = plain_settings(text)
    for group in (*GROUPS, "tracking"):
        require(OmegaConf.is_dict(found.get(group)), group, found.get(group), "must be a group of settings")
    return parse(found)


def _class_named(base: type, name: str, group: str) -> type:
    """Return the subclass of `base` whose `name` is Literal[`name`]."""
    classes = dict(_named_subclasses(base))
    require(name in classes, f"{group}.name", name, one_of(classes))
    return classes[name]


def data_class(name: str) -> type[datasets.DataConfig]:
    """Return the class with the settings of the data set called `name`.

    Raises:
        SweepError: There is no such data set.
    """
    return _class_named(datasets.DataConfig, name, "data")


def _named_subclasses(base: type) -> Iterator[tuple[str, type]]:
    subclasses: list[type] = base.__subclasses__()
    for subclass in subclasses:
        hint = typing.get_type_hints(subclass)["name"]
        if typing.get_origin(hint) is typing.Literal:
            yield typing.get_args(hint)[0], subclass
        yield from _named_subclasses(subclass)
