"""The settings that a run was trained with, read back as plain values, whoever recorded them."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sweep.description import Description, flatten
from sweep.errors import SweepError, in_one_line, require
from sweep.plain import plain_settings
from sweep.record.files import read_text
from sweep.record.runs import RunRecord, naming
from sweep.trial import CONFIG_FILE


def recorded_settings(run: RunRecord) -> DictConfig | None:
    """Return the settings in the config.yaml of `run`, None if it kept none; nothing is resolved.

    Raises:
        SweepError: The settings are damaged, or hold an interpolation.
    """
    text = read_text(run, CONFIG_FILE)
    if text is None:
        return None
    with naming(run):
        try:
            return plain_settings(text)
        except SweepError as error:
            raise SweepError(f"{CONFIG_FILE}: {in_one_line(error, 300)}") from error


def settings_again(
    run: RunRecord, job: Description, trust: bool = False, tags: Mapping[str, str] | None = None
) -> DictConfig:
    """Return the settings with which `job` trains `run` again.

    Args:
        run: A run, recorded by anybody.
        job: Description of the person's own job.
        trust: Whether the settings may name code that the job would run.
        tags: Tags with what was left to the machine then; by default the run's.

    Raises:
        SweepError: The run kept no settings, or they are damaged, name code, or are refused by the job.
    """
    found = recorded_settings(run)
    if found is None:
        raise SweepError(
            f"run={run.run_id}: {run.name} is {run.status} and has no {CONFIG_FILE} to train it from; "
            "give a run that was trained"
        )
    with naming(run):
        for key, value in flat(found).items():
            names_code = "_target_" in key.split(".")
            require(trust or not names_code, key, value, "it names code, which only --trust lets the job run")
        settings = job.again(found, run.tags if tags is None else tags)
        for key, value in flat(settings).items():  # a tag may have brought one in
            require("${" not in f"{key}{value}", key, value, "it holds ${, and what was recorded is not resolved")
    return settings


def flat(settings: DictConfig) -> dict[str, Any]:
    """Return each of the `settings` by its key, with interpolations as they are written."""
    plain = OmegaConf.to_container(settings)
    assert isinstance(plain, dict)
    return flatten({str(key): value for key, value in plain.items()})
