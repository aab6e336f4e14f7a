"""The settings under hydra.sweeper: each named once, with its bounds, checked before anything else is done."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sweep.errors import is_number, require, without_password
from sweep.study.pruners import require_settings

IN_ORDER = "sweep.study.samplers.InOrder"
"""Import path of the sampler that makes a study a grid."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a study, which conf/hydra/sweeper/study.yaml explains to a person.

    Raises:
        SweepError: A setting is not allowed.
    """

    study_name: Any
    """Name of a new study, or of one to go on with; None for a name that is made up."""
    n_trials: int | None
    """How many trials the study has in all; None for every combination of a grid."""
    n_jobs: int | str
    """How many trials run at a time; "auto" for one on each core, or each GPU when training on them."""
    timeout: float | None
    """Seconds after which no more trials are handed out; None for no limit."""
    starting_points: Any
    """Changes to the job as composed, by key, that are tried after it and before the search."""
    storage: str | None
    """Path or URL of Optuna's storage; None for the memory of this process."""
    objective: Any
    """Metric or metrics to search for; like the next four settings it is read by `Job.goal`."""
    direction: Any
    """Direction in which each objective improves, where the job does not say it."""
    experiment: Any
    """Name of the MLflow experiment."""
    record: Any
    """Whether MLflow keeps a record."""
    watch: Any
    """Name of a metric that the job logs to MLflow by itself, and by which it is pruned."""
    max_failure_rate: float
    """Share of the trials that may fail before no more are handed out."""
    params: Any
    """The values to search for each key, in Hydra's override syntax."""
    confirms: str | None
    """Name of the study whose best trials this one trains again; such a study is never taken for the newest."""
    custom_search_space: str | None
    """Import path of a function that adds dimensions to a trial, as in the hydra-optuna-sweeper plugin."""
    sampler: DictConfig
    """Settings of a class in `optuna.samplers`, which Hydra builds."""
    pruner: DictConfig
    """Settings of a class in `optuna.pruners`, which Hydra builds."""
    max_batch_size: int | None = None
    """The name that Hydra's own grids have for `n_jobs`; None for the value of `n_jobs`."""

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Settings:
        """Return the settings that Hydra has composed, checked.

        Raises:
            SweepError: A setting is unknown, missing or not allowed.
        """
        names = [field.name for field in fields(cls)]
        for key, value in given.items():
            require(key in names, f"hydra.sweeper.{key}", value, f"no such key; there are {', '.join(sorted(names))}")
        for name in names:
            require(name in given or name == "max_batch_size", f"hydra.sweeper.{name}", "", "it cannot be left out")
        return cls(**given)

    @property
    def is_grid(self) -> bool:
        """Whether the study is a grid: every combination is tried in order, and nothing is sampled."""
        return str(self.sampler.get("_target_")) == IN_ORDER

    @property
    def num_slots(self) -> int | str:
        """How many trials are to run at a time, or "auto"."""
        return self.n_jobs if self.max_batch_size is None else self.max_batch_size

    def __post_init__(self) -> None:
        require_settings("sampler", self.sampler, "sampler/tpe is the default")
        if self.n_trials is not None or not self.is_grid:
            _require_whole("n_trials", self.n_trials)
        if self.n_jobs != "auto":
            _require_whole("n_jobs", self.n_jobs, ", or auto")
        if self.max_batch_size is not None:
            _require_whole("max_batch_size", self.max_batch_size, ", or null")
        rate, timeout = self.max_failure_rate, self.timeout
        require(is_number(rate) and 0 <= rate <= 1, "hydra.sweeper.max_failure_rate", rate, "must be 0 to 1")
        is_end = timeout is None or (is_number(timeout) and 0 < timeout < math.inf)
        require(is_end, "hydra.sweeper.timeout", timeout, "must be a number of seconds above 0, or null")
        points = _plain(self.starting_points)
        is_list = isinstance(points, list) and all(isinstance(point, dict) for point in points)
        told = "must be a list of settings, as in [{optimizer.lr: 0.01}]"
        require(is_list, "hydra.sweeper.starting_points", self.starting_points, told)
        object.__setattr__(self, "starting_points", points)
        if self.is_grid:
            told = "a grid tries its own values, and no others; leave it as it is"
            require(not points, "hydra.sweeper.starting_points", points, told)
            require(not self.custom_search_space, "hydra.sweeper.custom_search_space", self.custom_search_space, told)
        confirms = self.confirms
        is_name = confirms is None or isinstance(confirms, str)
        require(is_name, "hydra.sweeper.confirms", confirms, "a study's name, or null")
        require_settings("params", self.params)
        _require_storage(self.storage)
        for field in fields(self):
            _require_finite(f"hydra.sweeper.{field.name}", _plain(getattr(self, field.name)))


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _require_whole(key: str, given: Any, allowed: str = "") -> None:
    is_whole = isinstance(given, int) and not isinstance(given, bool) and given >= 1
    require(is_whole, f"hydra.sweeper.{key}", given, f"must be a whole number, 1 or more{allowed}")


def _require_storage(given: Any) -> None:
    key = "hydra.sweeper.storage"
    require(given is None or isinstance(given, str), key, given, "a path or a URL, or null")
    is_mistyped = given is not None and "://" not in given and _is_like_address(given)
    require(not is_mistyped, key, given, "a path, or a URL, as in postgresql://HOST/NAME")


def _is_like_address(path: str) -> bool:
    """Return whether `path` looks like an address, or may hold a password, which no folder's name should."""
    return re.match(r"[\w+.-]{2,}:", path) is not None or without_password(path) != path


def _require_finite(key: str, given: Any) -> None:
    """Raise a SweepError if nan or inf stands anywhere in `given`."""
    if isinstance(given, dict | list):
        for name, value in given.items() if isinstance(given, dict) else enumerate(given):
            _require_finite(f"{key}.{name}", value)
    require(not isinstance(given, float) or math.isfinite(given), key, given, "must be a finite number")
