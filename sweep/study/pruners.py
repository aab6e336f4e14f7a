"""The pruner of a study, built from its settings, and one-line errors for settings that Optuna refuses."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from sweep.errors import SweepError, in_one_line

if TYPE_CHECKING:
    from optuna.pruners import BasePruner


def build_pruner(settings: DictConfig) -> BasePruner:
    """Build the pruner of `hydra.sweeper.pruner`, as Hydra builds it.

    Raises:
        SweepError: The pruner does not take these settings.
    """
    from sweep.study import samplers

    require_settings("pruner", settings, "pruner/none runs every trial to its end")
    samplers.require_types("hydra.sweeper.pruner", settings)
    with explained("pruner"):
        pruner = instantiate(settings, _execution_whitelist_=("optuna.pruners.*",))
    return pruner  # noqa: RET504 -- inside, mypy would take it for skipped


@contextmanager
def explained(key: str) -> Iterator[None]:
    """Turn what Optuna raises in the block, of the settings under hydra.sweeper.`key`, into one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that some of it is experimental
            yield
    except Exception as error:  # whatever it raises, wrapped by Hydra
        reason = in_one_line(error.__cause__ or error, 300)
        raise SweepError(f"hydra.sweeper.{key}: {reason}") from error


def require_settings(key: str, given: Any, hint: str = "") -> None:
    """Raise a SweepError unless what is `given` for hydra.sweeper.`key` is a group of settings."""
    is_group = OmegaConf.is_dict(given) or isinstance(given, dict) or (given is None and key == "params")
    if not is_group:
        shown = "null" if given is None else given
        group = f"choose one with hydra/sweeper/{key}=NAME; {hint}"
        of_keys = "null, or keys with what to search; on the command line rather 'model.dropout=interval(0,0.3)'"
        raise SweepError(f"hydra.sweeper.{key}={shown}: {group if hint else of_keys}")
