"""The name of a study and the places of its files: settled once, and written into the config of each of its jobs."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf, read_write

from sweep import project
from sweep.description import Description
from sweep.errors import SweepError, require, without_password
from sweep.files import is_name

HYDRAS_FOLDER = "multirun/${now:%Y-%m-%d}/${now:%H-%M-%S}"
"""Hydra's default for the folder of a sweep."""
LONGEST_NAME = 200
"""Most bytes of a study's name: file systems take 255, MLflow 250, and both add something of their own."""
TAKEN_NAMES = ("runs", "best", "visualize", "predict")
"""Names of folders that are made beside those of studies."""


def names_of(job: Description, config: DictConfig) -> list[str]:
    """Return the parts with which the name of a study begins that is given none."""
    found = [str(OmegaConf.select(config, key)) for key in job.named_by] or [config.hydra.job.name]
    return [re.sub(r"[^\w.-]", "-", one) for one in found]


def settle_name(config: DictConfig, default: Sequence[str]) -> str:
    """Set the study's name, made of the `default` names and the time if none is given, and return it.

    Without this each job would compose the name anew, from its own model and data set and the time at which it first
    looks.

    Raises:
        SweepError: The given name is not allowed.
    """
    name = _as_typed(config, "hydra.sweeper.study_name")
    if name is None:
        name = "-".join([*default, f"{datetime.now():%Y-%m-%d-%H%M%S-%f}"])
    shown = name if len(name) <= 60 else f"{name[:60]}..."
    if not is_name(name) or name in TAKEN_NAMES:
        raise SweepError(
            f"hydra.sweeper.study_name={shown}: letters, digits, _, - and . make a name; "
            "runs, best, visualize and predict are taken"
        )
    is_short = len(name.encode()) <= LONGEST_NAME
    require(is_short, "hydra.sweeper.study_name", shown, f"at most {LONGEST_NAME} bytes make a name")
    _set_for_all(config, "hydra.sweeper.study_name", name)
    return name


def _set_for_all(config: DictConfig, key: str, value: str) -> None:
    """Set `key` in `config` and in every job composed from it; Hydra wants it to be the same in both."""
    parent, _, name = key.rpartition(".")
    node, overrides = OmegaConf.select(config, parent), config.hydra.overrides.hydra
    with read_write(node), read_write(overrides):
        node[name] = value
        overrides.append(f"{key}={QuotedString(value, Quote.single).with_quotes()}")


def _as_typed(config: DictConfig, key: str) -> str | None:
    """Return the name at `key`, None for null; 007 and 1e3 are text, though Hydra takes them for numbers."""
    value = OmegaConf.select(config, key)
    if value is None or isinstance(value, str):
        return value
    pairs = [override.lstrip("+").partition("=") for override in config.hydra.overrides.hydra]
    typed = [text for name, _, text in pairs if name == key]
    return typed[-1] if typed else str(value)


def settle_folder(config: DictConfig) -> None:
    """Set the study's folder to one in multirun/ of the job's project, unless the program or a person sets another.

    Hydra's own default has the time in it, so a study would not be found again there.
    """
    if cast(dict[str, Any], OmegaConf.to_container(config.hydra.sweep, resolve=False))["dir"] != HYDRAS_FOLDER:
        return
    _set_for_all(config, "hydra.sweep.dir", str(project.root() / "multirun" / config.hydra.sweeper.study_name))


def settle_storage(config: DictConfig) -> str | None:
    """Make the address of the study's storage mean the same in every folder; return it, None for none.

    Raises:
        SweepError: The setting is no address.
    """
    from sweep.study import storage

    given = config.hydra.sweeper.storage
    address = storage.absolute_address(given)
    if address is not None and address != given:
        _set_for_all(config, "hydra.sweeper.storage", address)
    return address


def configured_folder(config: DictConfig) -> Path:
    """Return the folder for the study's files.

    Raises:
        SweepError: The folder is not set.
    """
    for key in (*(["output_dir"] if "output_dir" in config else []), "hydra.sweep.dir"):
        given = OmegaConf.select(config, key)
        require(
            isinstance(given, str) and bool(given.strip()), key, "null" if given is None else given, "give a folder"
        )
    return Path(config.hydra.sweep.dir)


def _key_of(folder: Path, config: DictConfig) -> str:
    """Return the setting, with its value, that has put the study's files into `folder`."""
    is_usual = folder == Path(config.get("output_dir", "")) / config.hydra.sweeper.study_name
    return f"output_dir={config.output_dir}" if is_usual else f"hydra.sweep.dir={folder}"


def make_folder(config: DictConfig) -> None:
    """Make the study's folder, and check that it can be written to."""
    folder = configured_folder(config)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        key = _key_of(folder, config)
        raise SweepError(f"{key}: no files can be written to {folder} ({error.strerror}); choose another") from error


def require_new_folder(name: str, config: DictConfig, storage: str | None = None) -> None:
    """Raise a SweepError if the folder holds more than what a study leaves that is just being made."""
    folder = configured_folder(config)
    if folder.is_dir() and any(not path.name.startswith(("optuna.journal", ".sweep")) for path in folder.iterdir()):
        key = _key_of(folder, config)
        if key.startswith("output_dir"):
            told = f"hydra.sweeper.study_name={name}: an earlier study has left its files in {folder}"
            if storage is not None:
                told += f", and {without_password(storage)} holds none of this name; give the storage that it had, or"
            raise SweepError(f"{told}{';' * (storage is None)} choose another name")
        raise SweepError(
            f"{key}: an earlier study has left its files there; choose another folder, leave hydra.sweep.dir as it is, "
            "which gives each study its own, or go on with that study by its hydra.sweeper.study_name"
        )
