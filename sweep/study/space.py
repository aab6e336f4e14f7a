"""What a study searches: its dimensions, in Hydra's override syntax, and how a trial's values become a job.

Besides what the hydra-optuna-sweeper plugin reads, `LIST.length` is how many items a list has. With
`model.widths.length: range(1, 4)` a trial has one, two or three hidden layers, and `model.widths.2` is a
dimension of those trials only that have a third.
"""

import json
import math
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException
from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.trial import Trial

from sweep.errors import SweepError, in_one_line, one_of

LENGTH = ".length"
SPACE_FILE = "search_space.json"
NEAR_AN_END = 0.02
"""The share of a dimension, on its own scale, that counts as its end."""
MOST_TRIED = 8
"""In how many combinations a value is tried before it counts as one that never goes."""


class Space(NamedTuple):
    """The dimensions of a study, and what all its trials share."""

    dimensions: dict[str, BaseDistribution]
    fixed: dict[str, str]
    """Keys given one value each."""
    others: list[str]
    """Overrides that delete a key."""
    items: dict[str, list[str]]
    """The lists that have a length to search or to set, with their items in the job as composed."""

    def active(self, lengths: Mapping[str, int]) -> dict[str, BaseDistribution]:
        """The dimensions of a trial whose lists have these `lengths`."""
        return {
            key: distribution
            for key, distribution in self.dimensions.items()
            if not any(_position(key, name) >= length for name, length in lengths.items())
        }

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """What composes the job with these `values` for its dimensions, beside what all trials share."""
        merged = {**self.fixed, **{key: str(value) for key, value in values.items()}}
        for name, items in self.items.items():
            length = int(merged.pop(name + LENGTH))
            kept = [merged.get(f"{name}.{i}", items[i] if i < len(items) else "") for i in range(length)]
            merged = {key: value for key, value in merged.items() if _position(key, name) < 0}
            merged[name] = f"[{','.join(kept)}]"
        return [f"{key}={value}" for key, value in merged.items()] + self.others

    def changed(self, changes: Mapping[str, Any]) -> list[str]:
        """Overrides that change the job as composed; among the keys may be items and lengths of lists.

        Raises:
            SweepError: A list would have an item that is given nowhere.
        """
        lists = [name for name in self.items if any(_is_item(key, [name]) for key in changes)]
        lengths = {name + LENGTH: len(self.items[name]) for name in lists}
        of_lists = self._replace(fixed={}, others=[], items={name: self.items[name] for name in lists})
        overrides = of_lists.overrides(lengths | dict(changes))
        for override in overrides:
            if override.partition("=")[0] in lists and re.search(r"[\[,][,\]]", override):
                raise SweepError(f"{override}: an item is missing; give each that the job as composed has not")
        return overrides

    def extremes(self) -> dict[str, list[str]]:
        """Every choice, or the lowest and the highest, of each dimension; of a list's length the longest."""
        values = {key: _extremes(distribution) for key, distribution in self.dimensions.items()}
        return values | {key: [str(max(lengths))] for key, lengths in self._searched_lengths().items()}

    def shortest(self) -> dict[str, str]:
        """The lowest of every length that is searched, by its key."""
        return {key: str(min(lengths)) for key, lengths in self._searched_lengths().items()}

    def _searched_lengths(self) -> dict[str, list[int]]:
        lengths = {name + LENGTH: self.lengths(name) for name in self.items}
        return {key: found for key, found in lengths.items() if key in self.dimensions}

    def as_choices(self) -> list[str]:
        """Overrides that give choices or a value where there is an interval, or a list whose length is searched."""
        lists = [name for name in self.items if name + LENGTH in self.dimensions]
        return [f"{name}=[{','.join(self.items[name])}]" for name in lists] + [
            f"{key}=choice({','.join(few)})"
            for key, dimension in self.dimensions.items()
            if not _is_item(key, lists) and (few := _few_of(dimension))
        ]

    def suggested_lengths(self, trial: Trial) -> dict[str, int]:
        """How many items each list has in `trial`: what Optuna suggests, or what is fixed."""
        lengths = {}
        for name in self.items:
            key = name + LENGTH
            is_searched = key in self.dimensions
            lengths[name] = int(trial._suggest(key, self.dimensions[key]) if is_searched else self.fixed[key])
        return lengths

    def lengths(self, name: str) -> list[int]:
        """The lengths that the list `name` can have, or the shortest and the longest.

        Raises:
            SweepError: They are not whole numbers.
        """
        key = name + LENGTH
        given = _extremes(self.dimensions[key]) if key in self.dimensions else [self.fixed[key]]
        if not all(length.isdigit() for length in given):
            raise SweepError(
                f"{key}={','.join(given)}: must be a whole number, or a range of them, as in '{key}=range(1,4)'"
            )
        return [int(length) for length in given]

    @property
    def common(self) -> list[str]:
        """Overrides that all trials share, without those that make up a list."""
        shared = {key: value for key, value in self.fixed.items() if not _is_item(key, list(self.items))}
        return [f"{key}={value}" for key, value in shared.items()] + self.others

    def covers(self, key: str) -> bool:
        """Whether the setting `key` differs, or may, between trials."""
        return _is_under(key, [searched.lstrip("+") for searched in [*self.dimensions, *self.items]])

    def describe(self) -> dict[str, str]:
        """Each dimension in words, to compare and to show."""
        return {key: _describe(distribution) for key, distribution in self.dimensions.items()}

    def require_searched(self, changes: Iterable[str], job: DictConfig) -> None:
        """Raise a SweepError unless each of the keys `changes` is searched, or is a list of `job` with such items."""
        dimensions = [one.lstrip("+") for one in self.dimensions]
        for key in changes:
            is_searched = _is_under(key, dimensions)
            if not is_searched and isinstance(OmegaConf.select(job, key), ListConfig):
                is_searched = any(_is_under(one, [key]) for one in dimensions)
            if not is_searched:
                raise SweepError(f"{key}={_text(_value_in(job, key))}: not searched, so no trial would have it")

    def point_of(self, job: DictConfig) -> dict[str, Any]:
        """The values that the composed `job` has for the dimensions.

        Raises:
            SweepError: One lies outside of its dimension.
        """
        lengths = {name: len(OmegaConf.select(job, name)) for name in self.items}
        point = {}
        for key, distribution in self.active(lengths).items():
            value = _value_in(job, key)
            point[key] = _member(distribution, value)
            if point[key] is None:
                raise SweepError(f"{key}={_text(value)}: outside of {_describe(distribution)}")
        return point


class Edge(NamedTuple):
    """A value at one end of its dimension."""

    value: float
    low: float
    high: float
    side: str
    """ "lower" or "upper"."""
    beyond: float
    """A value a little further out."""


def edge_of(dimension: BaseDistribution, value: Any) -> Edge | None:
    """Where `value` lies within NEAR_AN_END of an end of `dimension`; None elsewhere, or where there are no ends.

    Choices have ends if they are numbers.
    """
    if isinstance(dimension, CategoricalDistribution):
        numbers = sorted({one for one in dimension.choices if isinstance(one, int | float) and _is_number(one)})
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
    """`dimensions` as text that `from_json` reads back."""
    described = {key: json.loads(distribution_to_json(dimension)) for key, dimension in dimensions.items()}
    return json.dumps(described, indent=1)


def from_json(text: str) -> dict[str, BaseDistribution]:
    """What `to_json` wrote.

    Raises:
        SweepError: It is damaged.
    """
    try:
        return {key: json_to_distribution(json.dumps(described)) for key, described in json.loads(text).items()}
    except Exception as error:  # whatever JSON and Optuna raise of what they cannot read
        raise SweepError(f"{SPACE_FILE}: it is damaged ({in_one_line(error, 100)})") from error


def of_choices(values: Mapping[str, Sequence[str]]) -> dict[str, BaseDistribution]:
    """The dimensions of a grid of `values`, as they were typed."""
    return {key: CategoricalDistribution([_number_in(value) for value in choices]) for key, choices in values.items()}


def value_of(dimension: BaseDistribution, recorded: str) -> Any:
    """The value of `dimension` that a record has as text; None if there is none, or none of the dimension's."""
    if isinstance(dimension, CategoricalDistribution):
        number = _number_in(recorded)
        return next((one for one in dimension.choices if _text(one) == _text(recorded) or one == number), None)
    number = _number_in(recorded)
    return None if isinstance(number, str) else _member(dimension, number)


def _number_in(text: str) -> float | int | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def require_each_goes(
    values: Mapping[str, Sequence[str]], attempt: Callable[[dict[str, str]], None]
) -> list[dict[str, str]]:
    """See that `attempt` takes each of `values` in some combination, and return the combinations that it took.

    One that it refuses does not count against its values as long as others with them go: the trials that meet it
    will say so. In which order the values were given makes no difference.

    Args:
        values: Of each key, those to try.
        attempt: Raises a SweepError, or one of Hydra's, of a combination that does not go.

    Raises:
        SweepError: And Hydra's: what `attempt` says of a value that went in none of the combinations tried.
    """
    values = {key: sorted(set(given)) for key, given in sorted(values.items())}
    drawn = random.Random(0)
    taken: list[dict[str, str]] = []

    def refusal(combination: dict[str, str]) -> Exception | None:
        try:
            attempt(combination)
        except (SweepError, HydraException, OmegaConfBaseException) as error:
            return error
        taken.append(combination)
        return None

    def refusal_of_all(combinations: Iterable[dict[str, str]]) -> Exception | None:
        """The first, None as soon as one is taken."""
        first = None
        for combination in combinations:
            error = refusal(combination)
            if error is None:
                return None
            first = first or error
        return first

    def some_with(fixed: dict[str, str]) -> Iterator[dict[str, str]]:
        yield from [combination | fixed for combination in taken]
        for _ in range(MOST_TRIED):
            yield {key: drawn.choice(given) for key, given in values.items()} | fixed

    refusals = [error for combination in _holding_all(values) if (error := refusal(combination))]
    if not taken and refusal_of_all(some_with({})):
        raise refusals[0]
    for key, given in values.items():
        for value in given:
            if any(combination[key] == value for combination in taken):
                continue
            if error := refusal_of_all(some_with({key: value})):
                raise error
    return taken


def _holding_all(values: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    """As few combinations as hold every one of `values` at least once."""
    for i in range(max(map(len, values.values()), default=1)):
        yield {key: choices[min(i, len(choices) - 1)] for key, choices in values.items()}


def read(
    params: Mapping[str, Any],
    arguments: Sequence[str],
    loader: ConfigLoader,
    config: DictConfig,
    *,
    can_be_empty: bool = False,
) -> Space:
    """The space of a study's `params`, as the command line's `arguments` change it.

    A key given on the command line replaces its dimension and those below it: `model.widths=[512]` ends the
    search for `model.widths.0`.

    Args:
        params: From key to its dimension or value, both in Hydra's override syntax.
        arguments: The command line's overrides.
        loader: Knows which keys are config groups, and composes.
        config: Hydra's, of the whole sweep.
        can_be_empty: Whether there may be dimensions that are not known here.

    Raises:
        SweepError: A dimension cannot be read, or there is none.
    """
    parsed = parse(arguments, loader)
    given = [o.get_key_element().lstrip("+") for o in parsed if not loader.get_group_options(o.get_key_element())]
    kept = [f"{key!s}={value}" for key, value in params.items() if not _is_under(str(key), given)]
    spelled_out = [_spelled_out(override) for override in [*parse(kept, loader), *parsed]]
    try:
        dimensions, fixed, others = create_params_from_overrides(spelled_out)
    except ValueError as error:
        raise SweepError(f"the search space cannot be read: {error}") from error
    dimensions = {key: distribution for key, distribution in dimensions.items() if key not in fixed}
    if not dimensions and not can_be_empty:
        raise SweepError(
            "the search space is empty: give a dimension, as in 'optimizer.lr=tag(log,interval(1e-4,1e-1))'"
        )
    for key, distribution in dimensions.items():
        if isinstance(distribution, CategoricalDistribution) and loader.get_group_options(key.lstrip("+")):
            groups = [f"{k}={v}" for k, v in fixed.items() if loader.get_group_options(k.lstrip("+"))]
            params_of = {
                choice: loader.load_sweep_config(config, [*groups, f"{key}={choice}"]).hydra.sweeper.params or {}
                for choice in distribution.choices
            }
            _require_one_space(key, params_of, given)
    named = [key.removesuffix(LENGTH) for key in [*dimensions, *fixed] if key.endswith(LENGTH)]
    items = {}
    if named:
        job = loader.load_sweep_config(
            config, [f"{k}={v}" for k, v in fixed.items() if not _is_item(k, named)] + others
        )
        lists = {name: OmegaConf.select(job, name) for name in named}
        items = {name: [str(item) for item in value] for name, value in lists.items() if isinstance(value, ListConfig)}
    space = Space(dimensions, {key: str(value) for key, value in fixed.items()}, others, items)
    for name in items:
        space = _with_reachable_items(space, name, given)
    return space


def parse(arguments: Sequence[str], loader: ConfigLoader) -> list[Override]:
    """The overrides of a sweep, as Hydra reads them.

    Raises:
        SweepError: One cannot have the effect that it seems to have.
    """
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(arguments))
    for override in parsed:
        key, given = override.get_key_element().lstrip("+"), override.input_line
        if override.value_type == ValueType.GLOB_CHOICE_SWEEP and not list(override.sweep_string_iterator()):
            options = loader.get_group_options(key)
            raise SweepError(f"{given}: {one_of(options) if options else f'{key} is no config group to choose from'}")
        twins = {other.input_line or "": None for other in parsed if other.get_key_element().lstrip("+") == key}
        if override.is_sweep_override() and len(twins) > 1:
            raise SweepError(f"{' and '.join(twins)}: {key} is given more than once; give it once")
    return parsed


def _spelled_out(override: Override) -> str:
    """The override in what Optuna's sweeper reads, which has no glob."""
    if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        return f"{override.get_key_element()}=choice({','.join(override.sweep_string_iterator())})"
    return override.input_line or ""


def _require_one_space(group: str, params_of: Mapping[Any, Mapping[str, Any]], given: Sequence[str]) -> None:
    """Raise a SweepError if the choices of a config group bring search spaces that differ in what is not `given`."""
    spaces = {
        choice: {str(key): str(value) for key, value in params.items() if not _is_under(str(key), given)}
        for choice, params in params_of.items()
    }
    keys = list(dict.fromkeys(key for found in spaces.values() for key in found))
    differing = [key for key in keys if len({found.get(key) for found in spaces.values()}) > 1]
    if differing:
        key = differing[0]
        found = "; ".join(f"{key}={spaces[choice].get(key, 'not there')} with {choice}" for choice in spaces)
        shared = all(key in one for one in spaces.values() for key in differing)
        instead = f", or give one range or value for {', '.join(differing)}" if shared else ""
        raise SweepError(
            f"{group}=choice({','.join(map(str, spaces))}): each brings a search space of its own ({found}), and a "
            f"study has one; choose one{instead}"
        )


def _is_under(key: str, parents: Sequence[str]) -> bool:
    return any(f"{key}.".startswith(f"{parent}.") for parent in parents)


def _with_reachable_items(space: Space, name: str, given: Sequence[str]) -> Space:
    """`space` without what no trial has of the list `name`; one of those must not be `given`."""
    longest = max(space.lengths(name))
    for i in range(len(space.items[name]), longest):
        item = f"{name}.{i}"
        if item not in space.dimensions and item not in space.fixed:
            raise SweepError(
                f"{name}{LENGTH}={longest}: there is no {item}; give it a dimension, as in '{item}=range(32,257)'"
            )
    for item in given:
        if _position(item, name) >= longest:
            raise SweepError(f"{item}: {name} has at most {longest} items, counted from 0; see {name}{LENGTH}")
    return space._replace(
        dimensions={key: value for key, value in space.dimensions.items() if _position(key, name) < longest},
        fixed={key: value for key, value in space.fixed.items() if _position(key, name) < longest},
    )


def _is_item(key: str, names: Sequence[str]) -> bool:
    return any(key == name + LENGTH or _position(key, name) >= 0 for name in names)


def _position(key: str, name: str) -> int:
    """The place of the item `key` in the list `name`; -1 if it is no item of it."""
    place = key.removeprefix(f"{name}.")
    return int(place) if place != key and place.isdigit() else -1


def _extremes(distribution: BaseDistribution) -> list[str]:
    """All choices, or the lowest and the highest."""
    choices = getattr(distribution, "choices", None)
    if choices is None:
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        choices = (distribution.low, distribution.high)
    return [str(choice) for choice in choices]


def _few_of(distribution: BaseDistribution) -> list[str]:
    """The ends and the middle of an interval, nothing where all values can be listed."""
    if isinstance(distribution, CategoricalDistribution):
        return []
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high, is_whole = distribution.low, distribution.high, isinstance(distribution, IntDistribution)
    if distribution.step is not None and not distribution.log:
        return []
    middle = math.sqrt(low * high) if distribution.log else (low + high) / 2
    return [str(low), str(round(middle)) if is_whole else f"{middle:.3g}", str(high)]


def _describe(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return f"choice({', '.join(map(str, distribution.choices))})"
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    kind = "int" if isinstance(distribution, IntDistribution) else "float"
    step = f", step {distribution.step}" if distribution.step not in (None, 1) else ""
    return f"{kind} {distribution.low} to {distribution.high}{', log' * distribution.log}{step}"


def require_same(keys: Iterable[str], wanted: DictConfig, made: DictConfig) -> None:
    """Raise a SweepError if the job `made` of a point differs in one of `keys` from that which was `wanted`."""
    for key in keys:
        if _text(_value_in(wanted, key)) != _text(found := _value_in(made, key)):
            raise SweepError(
                f"{key}={_text(_value_in(wanted, key))}: not all of it is searched, a trial would have {_text(found)}"
            )


def _value_in(job: DictConfig, key: str) -> Any:
    if key in job.hydra.runtime.choices:
        return job.hydra.runtime.choices[key]
    if key.endswith(LENGTH) and isinstance(items := OmegaConf.select(job, key.removesuffix(LENGTH)), ListConfig):
        return len(items)
    return OmegaConf.select(job, key.lstrip("+"))


def _member(distribution: BaseDistribution, value: Any) -> Any:
    """`value` as one of the distribution's own, None if it is outside."""
    if isinstance(distribution, CategoricalDistribution):
        return next((choice for choice in distribution.choices if _text(choice) == _text(value)), None)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if not _is_number(value):
        return None
    if not distribution.low <= value <= distribution.high:
        return None
    if distribution.step and not math.isclose(
        value, distribution.low + round((value - distribution.low) / distribution.step) * distribution.step
    ):
        return None
    return int(value) if isinstance(distribution, IntDistribution) else float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if isinstance(value, ListConfig):
        return f"[{','.join(map(_text, value))}]"
    return str(value).strip("'\"").replace(" ", "")
