"""A dimension of a search space: its values, its ends, its wording, and its form as text."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from hydra.core.override_parser.types import FloatRange
from omegaconf import ListConfig
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

from sweep.errors import SweepError, in_one_line, is_number

SPACE_FILE = "search_space.json"
"""File with the dimensions of a study, kept with its record."""
NEAR_AN_END = 0.02
"""The share of a dimension, on its own scale, that counts as its end."""


class Edge(NamedTuple):
    """A value that lies at an end of its dimension."""

    value: float
    low: float
    high: float
    side: str
    """ "lower" or "upper"."""
    beyond: float
    """A value a little beyond that end."""


def edge_of(dimension: BaseDistribution, value: Any) -> Edge | None:
    """Return where `value` lies if within NEAR_AN_END of an end of `dimension`, else None.

    Choices have ends if they are numbers.
    """
    if isinstance(dimension, CategoricalDistribution):
        numbers = sorted({one for one in dimension.choices if isinstance(one, int | float) and is_number(one)})
        if len(numbers) < 3 or len(numbers) < len(dimension.choices) or value not in (numbers[0], numbers[-1]):
            return None  # of two choices either is at an end
        is_upper = value == numbers[-1]
        next_one = numbers[-2] if is_upper else numbers[1]
        # As far again as the next one is: choices of positive numbers are as a rule powers of two, or of ten.
        further = value * value / next_one if numbers[0] > 0 else 2 * value - next_one
        if all(isinstance(number, int) for number in numbers):
            further = round(further)
        return Edge(value, numbers[0], numbers[-1], "upper" if is_upper else "lower", further)
    assert isinstance(dimension, IntDistribution | FloatDistribution)
    if value is None or dimension.low == dimension.high:
        return None
    low, high = float(dimension.low), float(dimension.high)
    place = math.log(value / low) / math.log(high / low) if dimension.log else (value - low) / (high - low)
    if NEAR_AN_END < place < 1 - NEAR_AN_END:
        return None
    is_upper = place > 0.5
    if isinstance(dimension, IntDistribution):
        beyond: float = dimension.high + 1 if is_upper else dimension.low - 1
    elif dimension.log:
        beyond = high * 1.01 if is_upper else low / 1.01
    else:
        beyond = high + 0.01 * (high - low) if is_upper else low - 0.01 * (high - low)
    return Edge(value, low, high, "upper" if is_upper else "lower", beyond)


def to_json(dimensions: Mapping[str, BaseDistribution]) -> str:
    """Return `dimensions` as text that `from_json` reads back."""
    described = {key: json.loads(distribution_to_json(dimension)) for key, dimension in dimensions.items()}
    return json.dumps(described, indent=1)


def from_json(text: str) -> dict[str, BaseDistribution]:
    """Return the dimensions that `to_json` wrote.

    Raises:
        SweepError: The text is damaged.
    """
    try:
        return {key: json_to_distribution(json.dumps(described)) for key, described in json.loads(text).items()}
    except Exception as error:  # whatever JSON and Optuna raise of what they cannot read
        raise SweepError(f"{SPACE_FILE}: it is damaged ({in_one_line(error, 100)})") from error


def value_of(dimension: BaseDistribution, recorded: str) -> Any:
    """Return the value of `dimension` from its text in a record; None if there is none, or it is outside."""
    if isinstance(dimension, CategoricalDistribution):
        number = _number_in(recorded)
        return next((one for one in dimension.choices if text_of(one) == text_of(recorded) or one == number), None)
    number = _number_in(recorded)
    return None if isinstance(number, str) else member_of(dimension, number)


def _number_in(text: str) -> float | int | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def member_of(distribution: BaseDistribution, value: Any) -> Any:
    """Return `value` as one of the distribution's own, None if it is outside."""
    if isinstance(distribution, CategoricalDistribution):
        return next((choice for choice in distribution.choices if text_of(choice) == text_of(value)), None)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if not is_number(value):
        return None
    if not distribution.low <= value <= distribution.high:
        return None
    if distribution.step and not math.isclose(
        value, distribution.low + round((value - distribution.low) / distribution.step) * distribution.step
    ):
        return None
    return int(value) if isinstance(distribution, IntDistribution) else float(value)


def extremes(distribution: BaseDistribution) -> list[str]:
    """Return all choices, or the lowest and the highest value, as overrides have them."""
    choices = getattr(distribution, "choices", None)
    if choices is None:
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        choices = (distribution.low, distribution.high)
    return [str(choice) for choice in choices]


def few_of(distribution: BaseDistribution) -> list[str]:
    """Return the ends and the middle of an interval; nothing where all values can be listed."""
    if isinstance(distribution, CategoricalDistribution):
        return []
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, is_whole = distribution.low, distribution.high, isinstance(distribution, IntDistribution)
    if distribution.step is not None and not distribution.log:
        return []
    middle = math.sqrt(low * high) if distribution.log else (low + high) / 2
    return [str(low), str(round(middle)) if is_whole else f"{middle:.3g}", str(high)]


def dimension_in_words(distribution: BaseDistribution) -> str:
    """Return a dimension as text, to compare and to show: "choice(a, b)", "int 1 to 4", "float 0.1 to 1, log"."""
    if isinstance(distribution, CategoricalDistribution):
        return f"choice({', '.join(map(str, distribution.choices))})"
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    kind = "int" if isinstance(distribution, IntDistribution) else "float"
    step = f", step {distribution.step}" if distribution.step not in (None, 1) else ""
    return f"{kind} {distribution.low} to {distribution.high}{', log' * distribution.log}{step}"


def text_of(value: Any) -> str:
    """Return `value` as an override has it."""
    if isinstance(value, ListConfig):
        return f"[{','.join(map(text_of, value))}]"
    return str(value).strip("'\"").replace(" ", "")


def values_of(dimension: BaseDistribution) -> list[Any]:
    """Return all values of `dimension`; none where they cannot be listed, as those of an interval."""
    if isinstance(dimension, CategoricalDistribution):
        return list(dimension.choices)
    assert isinstance(dimension, IntDistribution | FloatDistribution)
    if dimension.step is None or dimension.log:
        return []
    if isinstance(dimension, IntDistribution):
        return list(range(dimension.low, dimension.high + 1, dimension.step))
    below = [float(value) for value in FloatRange(dimension.low, dimension.high, dimension.step)]  # in decimals
    return below if below and below[-1] == dimension.high else [*below, dimension.high]
