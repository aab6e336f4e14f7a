"""The axes of a study's plots: where the objective's values lie on them, and their ticks and titles."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sweep.description import Metric
from sweep.errors import is_number

LOG_TICKS = ((1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0), (1.0, 2.0, 3.0, 5.0), (1.0, 2.0, 5.0), (1.0,))
"""Multiples of the powers of ten that may be ticks of a logarithmic axis: the first choice that is not too many."""
LINEAR_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
MOST_TICKS, MOST_TICKS_UPWARDS = 6, 9
NARROWEST_GAP = 0.1
"""Share of an axis that two values must lie apart to be written beside each other."""
LONGEST_LABEL = 20
LOG = " (log)"


class Scale:
    """The axis of a metric, with the good end spread out, and on top where high values are good.

    A share that is maximized is drawn as its distance from 1, logarithmic, and labelled as itself: from 98% to 99% is
    as far as from 80% to 90%. What is minimized, and never below 0, is logarithmic; everything else is not.
    """

    def __init__(self, name: str, metric: Metric, direction: str, values: Sequence[float]) -> None:
        self.name = name
        self.metric = metric
        self.is_minimized = direction == "minimize"
        self.is_reversed = metric.is_share and not self.is_minimized
        is_positive = min(values, default=1.0) >= 0 and max(values, default=1.0) > 0
        self.is_log = self.is_reversed or (self.is_minimized and is_positive)
        places = [1 - value if self.is_reversed else value for value in values]
        self._lowest = min((place for place in places if place > 0), default=1e-4) / 2  # where 100% is drawn, or 0
        self._has_perfect = self.is_reversed and min(places, default=1) <= 0
        self._shown = [max(place, self._lowest) if self.is_log else place for place in places] or [1.0]

    def place(self, value: float) -> float:
        """Return where `value` lies on the axis."""
        if math.isnan(value) or not self.is_log:
            return value
        return max(self._lowest, 1 - value if self.is_reversed else value)

    def text(self, value: float) -> str:
        """Return `value` as text for a person."""
        return self.metric.in_words(value)

    def height(self, value: float) -> float:
        """Return where `value` lies on a parallel-coordinates axis, which in Plotly is linear and upwards only."""
        return self._height_of(self.place(value))

    def heights(self) -> dict[float, str]:
        """Return the ticks of a parallel-coordinates axis, by their heights."""
        return {self._height_of(place): text for place, text in self.ticks().items()}

    def _height_of(self, place: float) -> float:
        height = math.log10(place) if self.is_log else place
        return -height if self.is_reversed else height

    @property
    def title(self) -> str:
        """The metric's name, with a note if its axis is logarithmic."""
        return f"{self.name} (log of the error)" if self.is_reversed else self.name + LOG * self.is_log

    def ticks(self) -> dict[float, str]:
        """Return the ticks of the axis, by their places."""
        low, high = min(self._shown), max(self._shown)
        found = _log_ticks(low, high, MOST_TICKS_UPWARDS) if self.is_log else _linear_ticks(low, high)
        ticks = {place: self._tick(place) for place in found}
        if self._has_perfect:
            ticks = {self._lowest: "100%"} | {
                place: text for place, text in ticks.items() if place > 1.2 * self._lowest
            }
        return ticks

    def _tick(self, place: float) -> str:
        if self.metric.is_share:
            return f"{100 * (1 - place if self.is_reversed else place):.6g}%"
        return number(place)

    def axis(self) -> dict[str, Any]:
        """Return Plotly's settings for the axis."""
        low, high = (math.log10(end) if self.is_log else end for end in (min(self._shown), max(self._shown)))
        margin = 0.06 * (high - low) or 0.1
        ends = [low - margin, high + margin]
        return {
            "type": "log" if self.is_log else "linear",
            "range": ends[::-1] if self.is_reversed else ends,
            "title": self.title,
            "automargin": True,
            **tick_settings(self.ticks()),
        }


def tick_settings(ticks: Mapping[float, str]) -> dict[str, Any]:
    """Return Plotly's settings for an axis with these `ticks`."""
    return {"tickvals": list(ticks), "ticktext": list(ticks.values()), "tickangle": 0}


def log_or_linear(values: Sequence[Any], is_log: bool) -> dict[str, Any]:
    """Return Plotly's settings for an axis along which `values` lie: names, or numbers."""
    if not all(is_number(value) for value in values):
        return {"type": "category", "automargin": True}
    at = {10**place if is_log else place: text for place, text in ticks_of(values, is_log).items()}
    return {"type": "log" if is_log else "linear", **tick_settings(at)}


def ticks_of(values: Sequence[float], is_log: bool) -> dict[float, str]:
    """Return the ticks of an axis, by place: the values if they are round and lie apart, else round numbers."""
    ordered = sorted(set(values))
    places = [math.log10(value) if is_log else float(value) for value in ordered]
    gaps = [after - before for before, after in itertools.pairwise(places)]
    are_round = all((isinstance(value, int) and value < 10_000) or float(f"{value:.2g}") == value for value in ordered)
    if len(ordered) < 2 or (are_round and min(gaps) >= NARROWEST_GAP * sum(gaps)):
        step = math.ceil(len(ordered) / MOST_TICKS) or 1
        return {place: number(value) for place, value in list(zip(places, ordered, strict=True))[::step]}
    low, high = ordered[0], ordered[-1]
    if is_log:
        return {math.log10(value): number(value) for value in _log_ticks(low, high)}
    return {value: number(value) for value in _linear_ticks(low, high, all(isinstance(one, int) for one in ordered))}


def _log_ticks(low: float, high: float, most: int = MOST_TICKS) -> list[float]:
    """Return at `most` so many round numbers from `low` to `high`, above 0, evenly spread by their logarithms."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in LOG_TICKS:
        found = [round(step * 10.0**exponent, 15 - exponent) for exponent in exponents for step in steps]
        found = [one for one in found if low <= one <= high]
        if len(found) <= most:
            break
    found = found[:: math.ceil(len(found) / most)] if found else found
    return found if len(found) > 1 else _linear_ticks(low, high)


def _linear_ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Return round numbers from `low` to `high`, whole ones if `whole`."""
    if low == high:
        return [low]
    rough = (high - low) / (MOST_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [step * power for step in LINEAR_STEPS if not whole or (step * power).is_integer()] or [1.0]
    step = next((one for one in steps if one >= rough), steps[-1])
    return [round(i * step, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def number(value: float) -> str:
    """Return `value` as text for an axis: 1024, 0.0005, 20,000, 1e-5."""
    if value and not 1e-4 <= abs(value) < 1e7:
        return re.sub(r"e([+-])0*", lambda found: f"e{found[1].replace('+', '')}", f"{value:.3g}")
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.4g}"


def cut(name: str) -> str:
    """Return `name` without its middle, if it is too long for an axis."""
    half = LONGEST_LABEL // 2 - 1
    return name if len(name) <= LONGEST_LABEL else f"{name[:half]}..{name[-half:]}"
