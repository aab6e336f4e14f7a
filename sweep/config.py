"""The composed job as typed values: Hydra's YAML goes in, a checked Config comes out.

Each group's settings are a dataclass beside what they set; `name` in the group's YAML says which.
"""

import typing
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep import ROOT, data, models, optimizers
from sweep.errors import SweepError, explain, one_of, require

GROUPS: dict[str, type] = {
    "model": models.ModelConfig,
    "optimizer": optimizers.OptimizerConfig,
    "data": data.DataConfig,
}

PARAMETERS = "model/parameters"
"""The metric that counts what is trained."""

NOT_OF_THE_JOB = ("hydra", "search", "output_dir")
"""Top-level keys that steer Hydra or a study, not a training job."""


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Where a run is recorded."""

    enabled: bool
    """Whether MLflow keeps a record; without one there is no saved model but the one in the run's folder."""

    experiment: str
    """MLflow's experiment, made if it does not exist."""

    def __post_init__(self) -> None:
        require(bool(self.experiment.strip()), "tracking.experiment", repr(self.experiment), "give it a name")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training job."""

    model: models.ModelConfig
    optimizer: optimizers.OptimizerConfig
    data: data.DataConfig
    tracking: TrackingConfig

    epochs: int
    """How often to go through the training images."""

    label_smoothing: float
    """Share of the target spread evenly over all classes."""

    seed: int
    """Of the weights, the order of the images, dropout and shifts."""

    device: str
    """One of loop.DEVICES."""

    precision: str
    """One of loop.PRECISIONS."""

    num_threads: int | None
    """CPU threads of this job; None for as many as there are cores."""

    objective: list[str]
    """The metric, after the last epoch, that a study searches for; several for a Pareto front."""

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "epochs", self.epochs, "must be 1 or more")
        require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "must be 0 or more and below 1")
        require(0 <= self.seed < 2**32, "seed", self.seed, "must be 0 or more and below 4294967296")
        require(self.num_threads is None or self.num_threads >= 1, "num_threads", self.num_threads, "must be 1 or more")
        metrics = ["test/accuracy", "test/loss", "train/loss", PARAMETERS]
        if self.data.validation:
            metrics += ["val/accuracy", "val/loss"]
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


def direction(objective: str) -> str:
    """Which way `objective` is better: "maximize" for an accuracy, "minimize" for a loss or the model's size."""
    return "maximize" if objective.endswith("/accuracy") else "minimize"


def compose(overrides: Sequence[str]) -> Config:
    """The job that `overrides` make of conf/, for programs that are not Hydra's own.

    Raises:
        SweepError: As `parse` does; what Hydra itself raises of a key or a choice comes through.
    """
    with hydra.initialize_config_dir(str(ROOT / "conf")):
        return parse(hydra.compose("config", list(overrides)))


def parse(cfg: DictConfig) -> Config:
    """The job that Hydra composed, with every type and bound checked.

    Raises:
        SweepError: A value is of the wrong type or not allowed.
    """
    try:
        classes = {group: _class_named(base, str(cfg[group].name), group) for group, base in GROUPS.items()}
        schema = OmegaConf.create({group: OmegaConf.structured(cls) for group, cls in classes.items()})
        job = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in NOT_OF_THE_JOB])
        if not OmegaConf.is_list(job.objective):
            job.objective = [job.objective]
        return cast(Config, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), schema, job)))
    except OmegaConfBaseException as error:
        raise SweepError(explain(error)) from error


def to_yaml(config: Config) -> str:
    """`config` as YAML that `parse` reads back."""
    return OmegaConf.to_yaml(OmegaConf.create(asdict(config)))


def from_yaml(text: str) -> Config:
    """What `to_yaml` wrote.

    Raises:
        SweepError: This version of the project does not allow the values.
    """
    return parse(cast(DictConfig, OmegaConf.create(text)))


def flatten(config: Config) -> dict[str, Any]:
    """Every setting by the key that overrides it: `model.widths.0`, `optimizer.lr`."""
    return dict(_leaves("", asdict(config)))


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        yield key, value
        return
    for name, child in value.items():
        yield from _leaves(f"{key}.{name}" if key else str(name), child)


def _class_named(base: type, name: str, group: str) -> type:
    """The subclass of `base` whose `name` is Literal[`name`]."""
    classes = dict(_named_subclasses(base))
    require(name in classes, f"{group}.name", name, one_of(classes))
    return classes[name]


def data_class(name: str) -> type[data.DataConfig]:
    """The settings of the data set called `name`.

    Raises:
        SweepError: There is none.
    """
    return _class_named(data.DataConfig, name, "data")


def _named_subclasses(base: type) -> Iterator[tuple[str, type]]:
    subclasses: list[type] = base.__subclasses__()
    for subclass in subclasses:
        hint = typing.get_type_hints(subclass)["name"]
        if typing.get_origin(hint) is typing.Literal:
            yield typing.get_args(hint)[0], subclass
        yield from _named_subclasses(subclass)
