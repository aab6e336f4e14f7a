"""The data in a job's description as text: recorded with each study and single run, and read back.

With this text a study can be reported and compared where nobody has the job's code. A stranger may have recorded it, so
what is read back is checked, and holds no code.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sweep.errors import SweepError, in_one_line

if TYPE_CHECKING:
    from sweep.description import Description

MOST_CHARACTERS = 8000
"""Length up to which the text is recorded and read: MLflow's limit for a tag."""
MOST_METRICS = 500
LONGEST = 250
"""Most characters of one name, key or sentence."""
MOST_DECIMALS = 20

NAMES = ("named_by", "free", "not_settings", "model_files")
KEYS = ("seed", "threads", "num_steps")


def to_text(job: "Description") -> str:
    """Return the data in a `job`'s description as JSON, without the fields that have their default.

    Metrics that would make it longer than a tag can be are left out too, the last ones first.
    """
    from sweep.description import Description, Metric

    default, plain = Description(), asdict(Metric())
    fields = (*NAMES, *KEYS, "step", "circumstances")
    said = {name: getattr(job, name) for name in fields if getattr(job, name) != getattr(default, name)}
    metrics = {
        name: {key: value for key, value in asdict(metric).items() if value != plain[key]}
        for name, metric in job.metrics.items()
    }
    while True:
        text = json.dumps(({"metrics": metrics} if metrics else {}) | said, default=dict)
        if len(text) <= MOST_CHARACTERS:
            return text
        if not metrics:
            return "{}"
        metrics.popitem()


def read_facts(text: str) -> dict[str, Any]:
    """Return the fields of a `Description` that `to_text` wrote; unknown fields are left out.

    Raises:
        SweepError: The text is damaged, so this project has not recorded it.
    """
    try:
        _require(len(text) <= MOST_CHARACTERS, text, "too long")
        found = json.loads(text)
        _require(isinstance(found, dict), found, "not a mapping")
        return {name: check(found[name]) for name, check in _CHECKS.items() if name in found}
    except (ValueError, RecursionError) as error:
        raise SweepError(f"what its job said about itself is damaged ({in_one_line(error, 100)})") from error


def _require(condition: bool, given: object, reason: str) -> None:
    if not condition:
        raise ValueError(f"{repr(given)[:60]} is {reason}")


def _text(given: object) -> str:
    is_text = isinstance(given, str) and 0 < len(given) <= LONGEST and given.isprintable()
    _require(is_text, given, "no name")
    return str(given)


def _texts(given: object) -> tuple[str, ...]:
    _require(isinstance(given, list), given, "no list of names")
    return tuple(map(_text, given))  # type: ignore[call-overload]


def _words(given: object) -> dict[str, str]:
    return {_text(key): _text(value) for key, value in _mapping(given).items()}


def _mapping(given: object) -> Mapping[str, Any]:
    _require(isinstance(given, dict), given, "not a mapping")
    return given  # type: ignore[return-value]


def _metrics(given: object) -> dict[str, Any]:
    from sweep.description import Metric

    _require(len(_mapping(given)) <= MOST_METRICS, len(_mapping(given)), "too many metrics")
    found = {}
    for name, form in _mapping(given).items():
        fields = {key: value for key, value in _mapping(form).items() if key in Metric.__dataclass_fields__}
        metric = Metric(**fields | {"depends_on": _texts(fields.get("depends_on", []))})
        _require(metric.direction in (None, "minimize", "maximize"), metric.direction, "no direction")
        for flag in (metric.is_share, metric.is_constant):
            _require(isinstance(flag, bool), flag, "neither true nor false")
        is_whole = isinstance(metric.decimals, int) and not isinstance(metric.decimals, bool)
        _require(is_whole and 0 <= metric.decimals <= MOST_DECIMALS, metric.decimals, "no number of decimals")
        found[_text(name)] = metric
    return found


_CHECKS: Mapping[str, Callable[[object], Any]] = {
    "metrics": _metrics,
    **dict.fromkeys(NAMES, _texts),
    **dict.fromkeys((*KEYS, "step"), _text),
    "circumstances": _words,
}
