"""The plots of a study and of its best trial: first the facts, then the drawing.

What is interactive is Plotly's, in HTML that needs no network; what is a picture is Matplotlib's.
"""

import base64
import io
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sweep.digits.predictions import Mistake

FINISHED, PRUNED = "#1f6fb4", "#b9bec4"
BEST = "#d1495b"
LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 60, "r": 20, "t": 30, "b": 50},
    "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1.0, "xanchor": "right"},
}
LOG_TICKS = ((1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0), (1.0, 2.0, 3.0, 5.0), (1.0, 2.0, 5.0), (1.0,))
"""What may be written on a logarithmic axis, times the powers of ten: the first of these that are not too many."""
LINEAR_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
MOST_TICKS, MOST_TICKS_UPWARDS = 6, 9
NARROWEST_GAP = 0.1
"""The share of an axis that two values must lie apart to be written beside each other."""
LONGEST_LABEL = 20
LOG = " (log)"


class Trial(NamedTuple):
    """A trial of a study, as far as plots go."""

    number: int
    is_pruned: bool
    value: float
    """The objective's; of a pruned trial the last one."""
    settings: Mapping[str, Any]
    """What was searched: a value for each dimension that the trial has."""
    curve: Sequence[tuple[int, float]] = ()
    """The objective after each epoch."""


class History(NamedTuple):
    """How the best value of a study came about."""

    numbers: list[int]
    values: list[float]
    pruned: list[bool]
    best: list[float]
    """The best of the finished trials so far; not a number before the first of them."""


class Plot(NamedTuple):
    """What belongs together under one heading of a page."""

    title: str
    explanation: str
    figures: list[go.Figure]


class Axis(NamedTuple):
    """One searched setting against the objective."""

    key: str
    name: str
    """What is written along the axis."""
    is_log: bool
    settings: list[Any]
    values: list[float]
    numbers: list[int]
    pruned: list[bool]


class Coordinate(NamedTuple):
    """One axis of the parallel coordinates: a place for each trial, and what is written at which places."""

    name: str
    places: list[float]
    ticks: dict[float, str]


def by_number(trials: Sequence[Trial]) -> list[Trial]:
    """`trials` in their order."""
    return sorted(trials, key=lambda trial: trial.number)


def history(trials: Sequence[Trial], direction: str) -> History:
    """The facts of the optimisation history, in the order of the trials' numbers."""
    ordered = by_number(trials)
    better: Callable[[float, float], float] = min if direction == "minimize" else max
    best: list[float] = []
    so_far = math.nan
    for trial in ordered:
        if not trial.is_pruned:
            so_far = trial.value if math.isnan(so_far) else better(so_far, trial.value)
        best.append(so_far)
    return History(
        [trial.number for trial in ordered],
        [trial.value for trial in ordered],
        [trial.is_pruned for trial in ordered],
        best,
    )


def axis(trials: Sequence[Trial], key: str, is_log: bool, name: str = "") -> Axis:
    """The facts of one setting's plot: the trials that have it, by their numbers; a logarithmic axis says so."""
    having = [trial for trial in by_number(trials) if key in trial.settings]
    return Axis(
        key,
        (name or key) + LOG * is_log,
        is_log,
        [trial.settings[key] for trial in having],
        [trial.value for trial in having],
        [trial.number for trial in having],
        [trial.is_pruned for trial in having],
    )


def coordinate(trials: Sequence[Trial], key: str, is_log: bool, name: str = "") -> Coordinate:
    """The facts of one axis of the parallel coordinates.

    Numbers lie where they are, or where their logarithms are; other settings in the order of their names. A
    trial that has no such setting lies below all others, at a place marked "none".
    """
    given = [trial.settings.get(key) for trial in trials]
    known = [value for value in given if value is not None]
    if all(is_number(value) for value in known):
        where = {value: math.log10(value) if is_log else float(value) for value in known}
        low, high = min(where.values()), max(where.values())
        ticks = _ticks(known, is_log)
    else:
        names = sorted({str(value) for value in known})
        where = {value: float(names.index(str(value))) for value in known}
        low, high = 0.0, float(len(names) - 1)
        ticks = {float(i): _cut(name) for i, name in enumerate(names)}
    nowhere = low - max((high - low) / 6, 1e-3)
    if len(known) < len(given):
        ticks = {nowhere: "none"} | ticks
    return Coordinate(
        _cut(name or key) + LOG * is_log, [nowhere if value is None else where[value] for value in given], ticks
    )


def draw_history(facts: History, objective: str) -> go.Figure:
    """Each trial's value, and the best so far."""
    scale = _Scale(objective, facts.values)
    figure = go.Figure(layout=LAYOUT)
    for name, is_pruned, colour in (("finished", False, FINISHED), ("pruned", True, PRUNED)):
        chosen = [i for i, pruned in enumerate(facts.pruned) if pruned == is_pruned]
        if chosen:
            figure.add_scatter(
                x=[facts.numbers[i] for i in chosen],
                y=[scale.place(facts.values[i]) for i in chosen],
                text=[f"trial {facts.numbers[i]}: {scale.text(facts.values[i])}" for i in chosen],
                hoverinfo="text",
                mode="markers",
                marker={"color": colour, "size": 9},
                name=name,
            )
    figure.add_scatter(
        x=facts.numbers,
        y=[scale.place(value) for value in facts.best],
        mode="lines",
        line={"color": BEST, "shape": "hv"},
        name="best so far",
        hoverinfo="skip",
    )
    figure.update_xaxes(title="trial", **_tick_settings(_ticks(facts.numbers, is_log=False)))
    figure.update_yaxes(**scale.axis())
    return figure


def draw_importances(shares: Mapping[str, float]) -> go.Figure:
    """A bar for each setting, the most important one on top."""
    figure = go.Figure(layout=LAYOUT)
    keys = list(shares)[::-1]
    figure.add_bar(
        x=[shares[key] for key in keys],
        y=[_cut(key) for key in keys],
        orientation="h",
        marker={"color": FINISHED},
        text=[f"{shares[key]:.0%}" for key in keys],
        textposition="outside",
        cliponaxis=False,
    )
    figure.update_xaxes(title="share of the difference", range=[0, 1.12 * max(shares.values())], tickformat=".0%")
    figure.update_yaxes(automargin=True, ticksuffix=" ")
    return figure


def draw_parallel(coordinates: Sequence[Coordinate], values: Sequence[float], objective: str) -> go.Figure:
    """A line for each trial through all its settings, coloured by the objective."""
    scale = _Scale(objective, values)
    heights = [math.log10(scale.place(value)) for value in values]
    if scale.is_reversed:
        heights = [-height for height in heights]
    ticks = {(-1 if scale.is_reversed else 1) * math.log10(place): text for place, text in scale.ticks().items()}
    dimensions = [
        {"label": one.name, "values": one.places, "tickvals": list(one.ticks), "ticktext": list(one.ticks.values())}
        for one in coordinates
    ]
    dimensions.append(
        {"label": _cut(objective) + LOG, "values": heights, "tickvals": list(ticks), "ticktext": list(ticks.values())}
    )
    figure = go.Figure(layout=LAYOUT)
    figure.add_parcoords(
        dimensions=dimensions,
        line={"color": heights, "colorscale": "Viridis", "reversescale": not scale.is_reversed},
        labelangle=-15 if len(dimensions) > 5 else 0,
        labelfont={"size": 13},
        tickfont={"size": 11, "color": "#45525f"},
        rangefont={"size": 1, "color": "rgba(0,0,0,0)"},  # the ticks tell the ends
    )
    figure.update_layout(margin={"t": 110, "l": 60, "r": 60, "b": 30}, meta=80 * len(dimensions))
    return figure


def draw_axes(axes: Sequence[Axis], objective: str, best: int) -> list[go.Figure]:
    """A figure for each setting, all with the same scale; trial `best` stands out."""
    scale = _Scale(objective, [value for one in axes for value in one.values])
    return [_draw_axis(facts, scale, best) for facts in axes]


def _draw_axis(facts: Axis, scale: "_Scale", best: int) -> go.Figure:
    figure = go.Figure(layout=LAYOUT)
    for name, is_pruned, colour in (("finished", False, FINISHED), ("pruned", True, PRUNED), ("best", False, BEST)):
        chosen = [
            i
            for i, number in enumerate(facts.numbers)
            if (number == best if name == "best" else facts.pruned[i] == is_pruned and number != best)
        ]
        figure.add_scatter(
            x=[facts.settings[i] if is_number(facts.settings[i]) else _cut(str(facts.settings[i])) for i in chosen],
            y=[scale.place(facts.values[i]) for i in chosen],
            text=[
                f"trial {facts.numbers[i]}: {scale.text(facts.values[i])}<br>{facts.key}={facts.settings[i]}"
                for i in chosen
            ],
            hoverinfo="text",
            mode="markers",
            marker={"color": colour, "size": 11 if name == "best" else 8},
            name=name,
        )
    figure.update_xaxes(title=facts.name, **_axis_of(facts))
    figure.update_yaxes(**scale.axis())
    figure.update_layout(showlegend=False)
    return figure


def draw_curves(trials: Sequence[Trial], objective: str, best: int) -> go.Figure:
    """The objective of each trial by epoch; pruned ones end with a cross, trial `best` stands out."""
    scale = _Scale(objective, [value for trial in trials for _, value in trial.curve])
    figure = go.Figure(layout=LAYOUT)
    named = set()
    for trial in sorted(trials, key=lambda trial: (trial.number == best, not trial.is_pruned, trial.number)):
        name = "best" if trial.number == best else "pruned" if trial.is_pruned else "finished"
        figure.add_scatter(
            x=[epoch for epoch, _ in trial.curve],
            y=[scale.place(value) for _, value in trial.curve],
            text=[f"trial {trial.number}, epoch {epoch}: {scale.text(value)}" for epoch, value in trial.curve],
            hoverinfo="text",
            mode="lines+markers",
            line={
                "color": {"best": BEST, "pruned": PRUNED, "finished": FINISHED}[name],
                "width": 3 if name == "best" else 1.2,
            },
            marker={
                "symbol": ["circle"] * (len(trial.curve) - 1) + ["x" if trial.is_pruned else "circle"],
                "size": [4] * (len(trial.curve) - 1) + [9 if trial.is_pruned else 6],
            },
            opacity=1.0 if name == "best" else 0.75,
            name=name,
            legendgroup=name,
            showlegend=name not in named,
        )
        named.add(name)
    epochs = sorted({epoch for trial in trials for epoch, _ in trial.curve})
    figure.update_xaxes(title="epoch", **_tick_settings(_ticks(epochs, is_log=False)))
    figure.update_yaxes(**scale.axis())
    return figure


STYLE = """
.plot { height: 400px; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(320px, 100%), 1fr)); gap: .5rem; }
.plots .plot { height: 300px; }
.scroll { overflow-x: auto; }
@media (max-width: 600px) { .plot { height: 330px; } }
@media print {
  .plot { break-inside: avoid; min-width: 0 !important; } .scroll { overflow: visible; }
  h2, h2 + .remark { break-after: avoid; }
}
"""

PAGE_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2733; }
h2 { font-size: 1.2rem; margin: 0; } .remark { margin: .2rem 0; color: #45525f; }
"""

# What a screen is wide, paper is not; and a figure, once drawn, does not follow by itself.
PRINT_SCRIPT = """<script>
const figures = () => document.querySelectorAll(".plotly-graph-div");
addEventListener("beforeprint", () => figures().forEach(
  figure => {
    const room = figure.closest(".plots") ? 335 : 680, width = Math.max(room, figure.layout.meta || 0);
    figure.style.zoom = room / width;
    Plotly.relayout(figure, { width });
  }));
addEventListener("afterprint", () => figures().forEach(figure => {
  figure.style.zoom = 1;
  Plotly.relayout(figure, { width: null });
}));
</script>"""


def to_html(plot: Plot) -> str:
    """`plot` as part of a page, which has STYLE, `plotly_script` and PRINT_SCRIPT once."""
    parts = []
    for figure in plot.figures:
        part = figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            config={"displayModeBar": False, "responsive": True},
            default_height="100%",
        )
        narrowest = figure.layout.meta or 0  # so many axes need it; a narrower screen scrolls
        parts.append(f'<div class="scroll"><div class="plot" style="min-width: {narrowest}px">{part}</div></div>')
    body = "".join(parts) if len(parts) == 1 else f'<div class="plots">{"".join(parts)}</div>'
    return f'<h2>{escape(plot.title)}</h2><p class="remark">{escape(plot.explanation)}</p>{body}'


def to_page(plot: Plot) -> str:
    """`plot` as a page of its own, which needs no network."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(plot.title)}</title><style>{PAGE_STYLE}{STYLE}</style>"
        f"{plotly_script()}</head><body>{to_html(plot)}{PRINT_SCRIPT}</body></html>\n"
    )


def plotly_script() -> str:
    """The script that parts of a page need, once."""
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>"


def draw_confusion(confusion: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """How many images of each class were taken for which; the diagonal is right."""
    size = max(4.5, 0.55 * len(classes) + 1.5)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.add_subplot()
    wrong = confusion.astype(float)
    np.fill_diagonal(wrong, np.nan)  # or the right ones would leave the mistakes no colour
    axes.imshow(wrong, cmap="Reds", vmin=0, vmax=max(1.0, np.nanmax(wrong, initial=0.0)))
    for row, column in np.ndindex(*confusion.shape):
        if confusion[row, column]:
            strong = row != column and wrong[row, column] > 0.6 * np.nanmax(wrong)
            axes.text(
                column,
                row,
                f"{confusion[row, column]}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if strong else "black",
                fontweight="bold" if row == column else "normal",
            )
    rotation = 0 if max(map(len, classes)) <= 3 else 90
    axes.set_xticks(range(len(classes)), classes, rotation=rotation)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    axes.set_title("Images by class, and what they were taken for", fontsize=11)
    return figure


def draw_mistakes(mistakes: Sequence[Mistake], images: NDArray[np.uint8], classes: Sequence[str]) -> Figure:
    """The images (N, C, H, W) of `mistakes`, with what they are and what they were taken for."""
    num_columns = min(6, max(1, len(mistakes)))
    num_rows = max(1, math.ceil(len(mistakes) / num_columns))
    figure = Figure(figsize=(max(4.5, 1.5 * num_columns), 1.95 * num_rows + 0.5), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, squeeze=False)
    for place in grid.flat:
        place.axis("off")
    for place, mistake, image in zip(grid.flat, mistakes, images, strict=False):
        pixels = image.transpose(1, 2, 0)
        if pixels.shape[2] == 1:
            place.imshow(pixels[:, :, 0], cmap="gray_r", vmin=0, vmax=255)
        else:
            place.imshow(pixels)
        place.set_title(
            f"is {classes[mistake.label]}\ntaken for {classes[mistake.predicted]}, {mistake.probability:.0%}",
            fontsize=9,
        )
    figure.suptitle("Most confidently wrong" if mistakes else "No mistakes", fontsize=11)
    return figure


def to_png(figure: Figure) -> bytes:
    """`figure` as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def as_image_tag(png: bytes, description: str) -> str:
    """A PNG as part of a page."""
    return f'<img alt="{description}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


class _Scale:
    """A logarithmic axis for an objective's values, on which the good end is spread out.

    An accuracy is drawn as its distance from 1 and labelled as itself: from 98% to 99% is as far as from 80% to 90%.
    """

    def __init__(self, objective: str, values: Sequence[float]) -> None:
        self.objective = objective
        self.is_reversed = objective.endswith("/accuracy")
        places = [1 - value if self.is_reversed else value for value in values]
        self._lowest = min((place for place in places if place > 0), default=1e-4) / 2  # where 100% is drawn, or 0
        self._has_perfect = self.is_reversed and min(places, default=1) <= 0
        self._shown = [max(place, self._lowest) for place in places] or [1.0]

    def place(self, value: float) -> float:
        return value if math.isnan(value) else max(self._lowest, 1 - value if self.is_reversed else value)

    def text(self, value: float) -> str:
        return f"{value:.2%}" if self.is_reversed else f"{value:.4g}"

    @property
    def title(self) -> str:
        """The objective, and that its axis is a logarithmic one."""
        return f"{self.objective} (log of the error)" if self.is_reversed else self.objective + LOG

    def ticks(self) -> dict[float, str]:
        low, high = min(self._shown), max(self._shown)
        ticks = {place: self._tick(place) for place in _log_ticks(low, high, MOST_TICKS_UPWARDS)}
        if self._has_perfect:
            ticks = {self._lowest: "100%"} | {
                place: text for place, text in ticks.items() if place > 1.2 * self._lowest
            }
        return ticks

    def _tick(self, place: float) -> str:
        return f"{100 * (1 - place):.6g}%" if self.is_reversed else number(place)

    def axis(self) -> dict[str, Any]:
        low, high = (math.log10(end) for end in (min(self._shown), max(self._shown)))
        margin = 0.06 * (high - low) or 0.1
        ends = [low - margin, high + margin]
        return {
            "type": "log",
            "range": ends[::-1] if self.is_reversed else ends,
            "title": self.title,
            "automargin": True,
            **_tick_settings(self.ticks()),
        }


def _axis_of(facts: Axis) -> dict[str, Any]:
    if not all(is_number(value) for value in facts.settings):
        return {"type": "category", "automargin": True}
    ticks = _ticks(facts.settings, facts.is_log)
    at = {10**place if facts.is_log else place: text for place, text in ticks.items()}
    return {"type": "log" if facts.is_log else "linear", **_tick_settings(at)}


def _tick_settings(ticks: Mapping[float, str]) -> dict[str, Any]:
    return {"tickvals": list(ticks), "ticktext": list(ticks.values()), "tickangle": 0}


def _ticks(values: Sequence[float], is_log: bool) -> dict[float, str]:
    """What to write on an axis, by its place: the values if they are round and lie apart, else round numbers."""
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
    """At `most` so many round numbers from `low` to `high`, both above 0, about as far apart by their logarithms."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in LOG_TICKS:
        found = [round(step * 10.0**exponent, 15 - exponent) for exponent in exponents for step in steps]
        found = [one for one in found if low <= one <= high]
        if len(found) <= most:
            break
    found = found[:: math.ceil(len(found) / most)] if found else found
    return found if len(found) > 1 else _linear_ticks(low, high)


def _linear_ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high`, `whole` ones if it is so."""
    if low == high:
        return [low]
    rough = (high - low) / (MOST_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    steps = [step * power for step in LINEAR_STEPS if not whole or (step * power).is_integer()] or [1.0]
    step = next((one for one in steps if one >= rough), steps[-1])
    return [round(i * step, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def number(value: float) -> str:
    """`value` as it is written on an axis: 1024, 0.0005, 20,000, 1e-5."""
    if value and not 1e-4 <= abs(value) < 1e7:
        return re.sub(r"e([+-])0*", lambda found: f"e{found[1].replace('+', '')}", f"{value:.3g}")
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.4g}"


def _cut(name: str) -> str:
    """`name` without its middle, if it is too long for an axis."""
    half = LONGEST_LABEL // 2 - 1
    return name if len(name) <= LONGEST_LABEL else f"{name[:half]}..{name[-half:]}"


def is_number(value: Any) -> bool:
    """Whether it can lie on an axis of numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool)
