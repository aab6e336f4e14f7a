"""Reads the search space of a study from its settings and the command line, in Hydra's override syntax."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from omegaconf import DictConfig, ListConfig, OmegaConf
from optuna.distributions import CategoricalDistribution

from sweep.errors import SweepError, one_of
from sweep.study.borrowed import create_params_from_overrides
from sweep.study.space import LENGTH, Space, is_item, is_under, position_of


def read_space(
    params: Mapping[str, Any],
    arguments: Sequence[str],
    loader: ConfigLoader,
    config: DictConfig,
    *,
    can_be_empty: bool = False,
    in_order: bool = False,
) -> Space:
    """Read the search space from a study's `params`, as the command line's `arguments` change it.

    A key given on the command line replaces its dimension and those below it: `model.widths=[512]` ends the
    search for `model.widths.0`.

    Args:
        params: The dimension or value of each key, in Hydra's override syntax.
        arguments: The command line's overrides.
        loader: Knows which keys are config groups, and composes.
        config: Hydra's, of the whole sweep.
        can_be_empty: Whether there may be no dimension here.
        in_order: Whether all values of each dimension are listed, in the order in which Hydra itself tries them.

    Raises:
        SweepError: A dimension cannot be read, or there is none.
    """
    parsed = parse_overrides(arguments, loader)
    given = [o.get_key_element().lstrip("+") for o in parsed if not loader.get_group_options(o.get_key_element())]
    kept = [f"{key!s}={value}" for key, value in params.items() if not is_under(str(key), given)]
    overrides = [*parse_overrides(kept, loader), *parsed]
    try:
        dimensions, fixed, others = create_params_from_overrides([_spelled_out(override) for override in overrides])
    except ValueError as error:
        raise SweepError(f"the search space cannot be read: {error}") from error
    if in_order:
        dimensions = {one.get_key_element(): _as_listed(one) for one in overrides if one.is_sweep_override()}
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
        job = loader.load_sweep_config(config, [f"{k}={v}" for k, v in fixed.items() if not is_item(k, named)] + others)
        lists = {name: OmegaConf.select(job, name) for name in named}
        items = {name: [str(item) for item in value] for name, value in lists.items() if isinstance(value, ListConfig)}
    space = Space(dimensions, {key: str(value) for key, value in fixed.items()}, others, items)
    for name in items:
        space = _with_reachable_items(space, name, given)
    return space


def parse_overrides(arguments: Sequence[str], loader: ConfigLoader) -> list[Override]:
    """Return the overrides of a sweep, as Hydra reads them.

    Raises:
        SweepError: An override cannot have the effect that it seems to have.
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
    """Return the override without a glob, which Optuna's plugin cannot read."""
    if override.value_type == ValueType.GLOB_CHOICE_SWEEP:
        return f"{override.get_key_element()}=choice({','.join(override.sweep_string_iterator())})"
    return override.input_line or ""


def _as_listed(override: Override) -> CategoricalDistribution:
    """Return the values of a sweep in their order, each as Hydra's own grids give it to a job."""
    texts = list(override.sweep_string_iterator())
    values = [_typed(text) for text in texts]
    are_told_apart = len({*values}) == len({*texts})  # Optuna takes 1, 1.0 and true for one choice
    return CategoricalDistribution(values if are_told_apart else texts)


def _typed(text: str) -> bool | int | float | str:
    """Return the value that Hydra reads in `text`, if it is written as `text` again; else the text."""
    for kind in (int, float):
        with suppress(ValueError):
            if str(number := kind(text)) == text and math.isfinite(number):
                return number
    return {"True": True, "False": False}.get(text, text)


def _require_one_space(group: str, params_of: Mapping[Any, Mapping[str, Any]], given: Sequence[str]) -> None:
    """Raise a SweepError if the choices of a config group bring search spaces that differ in what is not `given`."""
    spaces = {
        choice: {str(key): str(value) for key, value in params.items() if not is_under(str(key), given)}
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


def _with_reachable_items(space: Space, name: str, given: Sequence[str]) -> Space:
    """Return `space` without the items of the list `name` that no trial has; none may be `given`."""
    longest = max(space.lengths(name))
    for i in range(len(space.items[name]), longest):
        item = f"{name}.{i}"
        if item not in space.dimensions and item not in space.fixed:
            raise SweepError(
                f"{name}{LENGTH}={longest}: there is no {item}; give it a dimension, as in '{item}=range(32,257)'"
            )
    for item in given:
        if position_of(item, name) >= longest:
            raise SweepError(f"{item}: {name} has at most {longest} items, counted from 0; see {name}{LENGTH}")
    return space._replace(
        dimensions={key: value for key, value in space.dimensions.items() if position_of(key, name) < longest},
        fixed={key: value for key, value in space.fixed.items() if position_of(key, name) < longest},
    )
