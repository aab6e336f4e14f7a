"""The settings that a run was trained with, read back as plain values whoever recorded them."""

from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep.errors import SweepError, explain, in_one_line, require
from sweep.job import Job, flatten
from sweep.record.files import read_text
from sweep.record.runs import RunRecord, naming
from sweep.trial import CONFIG_FILE

MOST_BYTES, MOST_LEVELS = 2**17, 20
"""The size and the depth above which a file of settings is not read: reading takes minutes of what is far above."""


def recorded_settings(run: RunRecord) -> DictConfig | None:
    """The settings in the config.yaml of `run`, None if it kept none. Nothing in them is resolved.

    Raises:
        SweepError: They are damaged, or hold an interpolation.
    """
    text = read_text(run, CONFIG_FILE)
    if text is None:
        return None
    with naming(run):
        try:
            return _settings_in(text)
        except SweepError as error:
            raise SweepError(f"{CONFIG_FILE}: {in_one_line(error, 300)}") from error


def settings_again(run: RunRecord, job: Job, trust: bool = False) -> DictConfig:
    """The settings with which `job` trains `run` again.

    Args:
        run: Anybody's.
        job: What the person's own job says about itself.
        trust: Whether they may name code that the job would run.

    Raises:
        SweepError: It kept none, they are damaged, name code, or the job does not take them.
    """
    found = recorded_settings(run)
    if found is None:
        raise SweepError(
            f"run={run.run_id}: {run.name} is {run.status} and has no {CONFIG_FILE} to train it from; "
            "give a run that was trained"
        )
    with naming(run):
        for key, value in flatten(OmegaConf.to_container(found)).items():  # type: ignore[arg-type]
            names_code = "_target_" in key.split(".")
            require(trust or not names_code, key, value, "it names code, which only --trust lets the job run")
        return job.again(found, run.tags)


def _settings_in(text: str) -> DictConfig:
    found = plain_yaml(text)
    for key, value in flatten(found).items():
        require(
            "${" not in str(value), key, value, "what was recorded is not resolved, and this is no value of its own"
        )
    try:
        return OmegaConf.create(found)
    except OmegaConfBaseException as error:  # a date, or a set
        raise SweepError(explain(error)) from error


def plain_yaml(text: str | bytes) -> dict[str, Any]:
    """The mapping that `text` holds, of plain values: no tags, and no aliases, by which a few lines become billions.

    Raises:
        SweepError: It holds anything else, or is damaged.
    """
    try:
        require(len(text) <= MOST_BYTES, "its size", f"{len(text):,}", f"at most {MOST_BYTES:,} bytes")
        level = 0
        for event in yaml.parse(text, yaml.SafeLoader):
            level += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            require(level <= MOST_LEVELS, "its depth", level, f"at most {MOST_LEVELS} levels")
            require(not isinstance(event, yaml.AliasEvent), "an alias in it", "*", "is not read")
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: as of a date that is none
        raise SweepError(f"it is damaged ({in_one_line(error, 100)})") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise SweepError(
            f"it is damaged: no settings by name, but {'nothing' if found is None else type(found).__name__}"
        )
    return found
