"""Reading of YAML that a stranger may have written: nothing in it is run, and no interpolation is resolved."""

from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep.errors import SweepError, explain, in_one_line, require

MOST_BYTES, MOST_LEVELS = 2**17, 20
"""Size and depth above which YAML is not read, as that may take minutes."""


def plain_settings(text: str | bytes) -> DictConfig:
    """Return the settings in the config.yaml that a run has kept, as plain values.

    Raises:
        SweepError: The text is damaged, or holds an interpolation.
    """
    found = plain_yaml(text)
    _require_no_interpolation("", found)
    try:
        return OmegaConf.create(found)
    except OmegaConfBaseException as error:  # a date, or a set
        raise SweepError(explain(error)) from error


def _require_no_interpolation(key: str, value: Any) -> None:
    if isinstance(value, dict | list):
        for name, child in value.items() if isinstance(value, dict) else enumerate(value):
            _require_no_interpolation(f"{key}.{name}" if key else str(name), child)
    else:
        is_plain = "${" not in str(value)
        require(is_plain, key, value, "what was recorded is not resolved, and this is no value of its own")


def plain_yaml(text: str | bytes) -> dict[str, Any]:
    """Return the mapping that `text` holds, of plain values only: no tags, and no aliases, which can explode.

    Raises:
        SweepError: The text holds anything else, or is damaged.
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
