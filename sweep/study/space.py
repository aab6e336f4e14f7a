"""The search space of a study: its dimensions, and how a trial's values become a job.

Besides the dimensions that the hydra-optuna-sweeper plugin reads, `LIST.length` is the number of items of a list. With
`model.widths.length: range(1, 4)` a trial has one, two or three hidden layers, and `model.widths.2` is a dimension only
of trials that have a third.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf
from optuna.distributions import BaseDistribution
from optuna.trial import Trial

from sweep.errors import SweepError
from sweep.study.dimensions import dimension_in_words, extremes, few_of, member_of, text_of, values_of

LENGTH = ".length"


class Space(NamedTuple):
    """The dimensions of a study, and the overrides that all its trials share."""

    dimensions: dict[str, BaseDistribution]
    """The dimensions by key, as Optuna's distributions."""
    fixed: dict[str, str]
    """Keys with one value each."""
    others: list[str]
    """Overrides that delete a key."""
    items: dict[str, list[str]]
    """The lists whose length is searched or set, with their items in the job as composed."""

    def active(self, lengths: Mapping[str, int]) -> dict[str, BaseDistribution]:
        """Return the dimensions of a trial whose lists have these `lengths`."""
        return {
            key: distribution
            for key, distribution in self.dimensions.items()
            if not any(position_of(key, name) >= length for name, length in lengths.items())
        }

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Return the overrides that compose the job with these `values`, without those that all trials share."""
        merged = {**self.fixed, **{key: str(value) for key, value in values.items()}}
        for name, items in self.items.items():
            length = int(merged.pop(name + LENGTH))
            kept = [merged.get(f"{name}.{i}", items[i] if i < len(items) else "") for i in range(length)]
            merged = {key: value for key, value in merged.items() if position_of(key, name) < 0}
            merged[name] = f"[{','.join(kept)}]"
        return [f"{key}={value}" for key, value in merged.items()] + self.others

    def changed(self, changes: Mapping[str, Any]) -> list[str]:
        """Return overrides that change the job as composed; `changes` may have items and lengths of lists.

        Raises:
            SweepError: A list would have an item that is given nowhere.
        """
        lists = [name for name in self.items if any(is_item(key, [name]) for key in changes)]
        lengths = {name + LENGTH: len(self.items[name]) for name in lists}
        of_lists = self._replace(fixed={}, others=[], items={name: self.items[name] for name in lists})
        overrides = of_lists.overrides(lengths | dict(changes))
        for override in overrides:
            if override.partition("=")[0] in lists and re.search(r"[\[,][,\]]", override):
                raise SweepError(f"{override}: an item is missing; give each that the job as composed has not")
        return overrides

    def extremes(self) -> dict[str, list[str]]:
        """Return every choice, or the lowest and the highest, of each dimension; of a list's length the longest."""
        values = {key: extremes(distribution) for key, distribution in self.dimensions.items()}
        return values | {key: [str(max(lengths))] for key, lengths in self._searched_lengths().items()}

    def shortest(self) -> dict[str, str]:
        """Return the lowest of every length that is searched, by its key."""
        return {key: str(min(lengths)) for key, lengths in self._searched_lengths().items()}

    def _searched_lengths(self) -> dict[str, list[int]]:
        lengths = {name + LENGTH: self.lengths(name) for name in self.items}
        return {key: found for key, found in lengths.items() if key in self.dimensions}

    def values(self) -> dict[str, list[Any]]:
        """Return all values of each dimension, none where they cannot be listed."""
        return {key: values_of(dimension) for key, dimension in self.dimensions.items()}

    def combinations(self) -> list[dict[str, Any]]:
        """Return every combination of the dimensions' values in order, the last dimension varying fastest."""
        values = self.values()
        return [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]

    def suggest(self, trial: Trial) -> None:
        """Have Optuna suggest a value for every dimension of `trial`."""
        for key, dimension in self.active(self.suggested_lengths(trial)).items():
            trial._suggest(key, dimension)

    def as_choices(self) -> list[str]:
        """Return overrides that name a value or choices where an interval or a list's length is searched."""
        lists = [name for name in self.items if name + LENGTH in self.dimensions]
        return [f"{name}=[{','.join(self.items[name])}]" for name in lists] + [
            f"{key}=choice({','.join(few)})"
            for key, dimension in self.dimensions.items()
            if not is_item(key, lists) and (few := few_of(dimension))
        ]

    def suggested_lengths(self, trial: Trial) -> dict[str, int]:
        """Return how many items each list has in `trial`: what Optuna suggests, or what is fixed."""
        lengths = {}
        for name in self.items:
            key = name + LENGTH
            is_searched = key in self.dimensions
            lengths[name] = int(trial._suggest(key, self.dimensions[key]) if is_searched else self.fixed[key])
        return lengths

    def lengths(self, name: str) -> list[int]:
        """Return the lengths that the list `name` can have, or the shortest and the longest.

        Raises:
            SweepError: A length is no whole number.
        """
        key = name + LENGTH
        given = extremes(self.dimensions[key]) if key in self.dimensions else [self.fixed[key]]
        if not all(length.isdigit() for length in given):
            raise SweepError(
                f"{key}={','.join(given)}: must be a whole number, or a range of them, as in '{key}=range(1,4)'"
            )
        return [int(length) for length in given]

    @property
    def common(self) -> list[str]:
        """Overrides that all trials share, without those that make up a list."""
        shared = {key: value for key, value in self.fixed.items() if not is_item(key, list(self.items))}
        return [f"{key}={value}" for key, value in shared.items()] + self.others

    def covers(self, key: str) -> bool:
        """Return whether the setting `key` can differ between trials."""
        return is_under(key, [searched.lstrip("+") for searched in [*self.dimensions, *self.items]])

    def describe(self) -> dict[str, str]:
        """Return each dimension as text, to compare and to show."""
        return {key: dimension_in_words(distribution) for key, distribution in self.dimensions.items()}

    def require_searched(self, changes: Iterable[str], job: DictConfig) -> None:
        """Raise a SweepError unless each of the keys `changes` is searched, or is a list with searched items."""
        dimensions = [one.lstrip("+") for one in self.dimensions]
        for key in changes:
            is_searched = is_under(key, dimensions)
            if not is_searched and isinstance(OmegaConf.select(job, key), ListConfig):
                is_searched = any(is_under(one, [key]) for one in dimensions)
            if not is_searched:
                raise SweepError(f"{key}={text_of(_value_in(job, key))}: not searched, so no trial would have it")

    def point_of(self, job: DictConfig) -> dict[str, Any]:
        """Return the value that the composed `job` has in each dimension.

        Raises:
            SweepError: A value lies outside of its dimension.
        """
        lengths = {name: len(OmegaConf.select(job, name)) for name in self.items}
        point = {}
        for key, distribution in self.active(lengths).items():
            value = _value_in(job, key)
            point[key] = member_of(distribution, value)
            if point[key] is None:
                raise SweepError(f"{key}={text_of(value)}: outside of {dimension_in_words(distribution)}")
        return point


def is_under(key: str, parents: Sequence[str]) -> bool:
    """Return whether `key` is one of `parents`, or lies below one."""
    return any(f"{key}.".startswith(f"{parent}.") for parent in parents)


def is_item(key: str, names: Sequence[str]) -> bool:
    """Return whether `key` is an item, or the length, of one of the lists `names`."""
    return any(key == name + LENGTH or position_of(key, name) >= 0 for name in names)


def position_of(key: str, name: str) -> int:
    """Return the place of the item `key` in the list `name`; -1 if it is no item of it."""
    place = key.removeprefix(f"{name}.")
    return int(place) if place != key and place.isdigit() else -1


def require_same_settings(keys: Iterable[str], wanted: DictConfig, made: DictConfig) -> None:
    """Raise a SweepError if the job `made` of a point differs from the `wanted` one in one of `keys`."""
    for key in keys:
        if text_of(_value_in(wanted, key)) != text_of(found := _value_in(made, key)):
            told = f"{key}={text_of(_value_in(wanted, key))}"
            raise SweepError(f"{told}: not all of it is searched, a trial would have {text_of(found)}")


def _value_in(job: DictConfig, key: str) -> Any:
    if key in job.hydra.runtime.choices:
        return job.hydra.runtime.choices[key]
    if key.endswith(LENGTH) and isinstance(items := OmegaConf.select(job, key.removesuffix(LENGTH)), ListConfig):
        return len(items)
    return OmegaConf.select(job, key.lstrip("+"))
