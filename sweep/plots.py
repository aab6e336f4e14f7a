"""The plots of a study and of its best trial: first the facts, then the drawing.

What is interactive is Plotly's, in HTML that needs no network; what is a picture is Matplotlib's.
"""

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from sweep.predictions import Mistake

FINISHED, PRUNED = "#1f6fb4", "#b9bec4"
BEST = "#d1495b"
LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 70, "r": 30, "t": 80, "b": 60},
    "title_font_size": 15,
    "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1.0, "xanchor": "right"},
}
FINE_TICKS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
COARSE_TICKS = (1.0, 2.0, 5.0)
MOST_TICKS = 9


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


class Axis(NamedTuple):
    """One searched setting against the objective."""

    key: str
    is_log: bool
    settings: list[Any]
    values: list[float]
    numbers: list[int]
    pruned: list[bool]


class Coordinate(NamedTuple):
    """One axis of the parallel coordinates: a place for each trial, and what is written at which places."""

    key: str
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


def axis(trials: Sequence[Trial], key: str, is_log: bool) -> Axis:
    """The facts of one setting's plot: the trials that have it, by their numbers."""
    having = [trial for trial in by_number(trials) if key in trial.settings]
    return Axis(
        key,
        is_log,
        [trial.settings[key] for trial in having],
        [trial.value for trial in having],
        [trial.number for trial in having],
        [trial.is_pruned for trial in having],
    )


def coordinate(trials: Sequence[Trial], key: str, is_log: bool) -> Coordinate:
    """The facts of one axis of the parallel coordinates.

    Numbers lie where they are, or where their logarithms are; other settings in the order of their names. A
    trial that has no such setting lies below all others, at a place marked "none".
    """
    given = [trial.settings.get(key) for trial in trials]
    known = [value for value in given if value is not None]
    if all(_is_number(value) for value in known):
        where = {value: math.log10(value) if is_log else float(value) for value in known}
        low, high = min(where.values()), max(where.values())
        ticks = _ticks(known, is_log)
    else:
        names = sorted({str(value) for value in known})
        where = {value: float(names.index(str(value))) for value in known}
        low, high = 0.0, float(len(names) - 1)
        ticks = {float(i): name for i, name in enumerate(names)}
    nowhere = low - max((high - low) / 6, 1e-3)
    if len(known) < len(given):
        ticks = {nowhere: "none"} | ticks
    return Coordinate(key, [nowhere if value is None else where[value] for value in given], ticks)


def draw_history(facts: History, objective: str) -> go.Figure:
    """Each trial's value, and the best so far."""
    scale = _Scale(objective, facts.values)
    figure = go.Figure(layout=LAYOUT | {"title": f"{objective} of each trial, and the best so far"})
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
    figure.update_xaxes(title="trial", rangemode="nonnegative")
    figure.update_yaxes(**scale.axis())
    return figure


def draw_importances(shares: Mapping[str, float], num_trials: int) -> go.Figure:
    """A bar for each setting, the most important one on top."""
    figure = go.Figure(
        layout=LAYOUT | {"title": f"What set the best of {num_trials} trials apart (PED-ANOVA; a rough guide below 50)"}
    )
    keys = list(shares)[::-1]
    figure.add_bar(
        x=[shares[key] for key in keys],
        y=keys,
        orientation="h",
        marker={"color": FINISHED},
        text=[f"{shares[key]:.0%}" for key in keys],
    )
    figure.update_xaxes(title="importance, in all 1", rangemode="tozero")
    figure.update_yaxes(automargin=True)
    return figure


def draw_parallel(coordinates: Sequence[Coordinate], values: Sequence[float], objective: str) -> go.Figure:
    """A line for each trial through all its settings, coloured by the objective."""
    scale = _Scale(objective, values)
    heights = [math.log10(scale.place(value)) for value in values]
    if scale.is_reversed:
        heights = [-height for height in heights]
    ticks = {(-1 if scale.is_reversed else 1) * math.log10(place): text for place, text in scale.ticks().items()}
    dimensions = [
        {"label": one.key, "values": one.places, "tickvals": list(one.ticks), "ticktext": list(one.ticks.values())}
        for one in coordinates
    ]
    dimensions.append(
        {"label": objective, "values": heights, "tickvals": list(ticks), "ticktext": list(ticks.values())}
    )
    figure = go.Figure(layout=LAYOUT | {"title": "All settings of each trial; drag along an axis to select"})
    figure.add_parcoords(
        dimensions=dimensions,
        line={"color": heights, "colorscale": "Viridis", "reversescale": not scale.is_reversed},
        labelangle=-15 if len(dimensions) > 5 else 0,
        labelfont={"size": 13},
        tickfont={"size": 11, "color": "#45525f"},
        rangefont={"size": 1, "color": "rgba(0,0,0,0)"},  # the ticks tell the ends
    )
    figure.update_layout(margin={"t": 140, "l": 90, "r": 90})
    return figure


def draw_axes(axes: Sequence[Axis], objective: str, best: int) -> go.Figure:
    """A plot for each setting; trial `best` stands out."""
    scale = _Scale(objective, [value for one in axes for value in one.values])
    num_columns = min(3, len(axes))
    num_rows = math.ceil(len(axes) / num_columns)
    figure = make_subplots(num_rows, num_columns, shared_yaxes=True, horizontal_spacing=0.04)
    for i, facts in enumerate(axes):
        place = {"row": i // num_columns + 1, "col": i % num_columns + 1}
        for name, is_pruned, colour in (("finished", False, FINISHED), ("pruned", True, PRUNED), ("best", False, BEST)):
            chosen = [
                j
                for j, number in enumerate(facts.numbers)
                if (number == best if name == "best" else facts.pruned[j] == is_pruned and number != best)
            ]
            figure.add_scatter(
                x=[facts.settings[j] if _is_number(facts.settings[j]) else str(facts.settings[j]) for j in chosen],
                y=[scale.place(facts.values[j]) for j in chosen],
                text=[
                    f"trial {facts.numbers[j]}: {scale.text(facts.values[j])}<br>{facts.key}={facts.settings[j]}"
                    for j in chosen
                ],
                hoverinfo="text",
                mode="markers",
                marker={"color": colour, "size": 11 if name == "best" else 8},
                name=name,
                legendgroup=name,
                showlegend=i == 0,
                **place,
            )
        figure.update_xaxes(title=facts.key, **_axis_of(facts), **place)
    figure.update_yaxes(**scale.axis(title=False))
    figure.update_yaxes(title=objective, col=1)
    figure.update_layout(LAYOUT | {"title": f"{objective} along each setting", "height": max(450, 340 * num_rows)})
    return figure


def draw_curves(trials: Sequence[Trial], objective: str, best: int) -> go.Figure:
    """The objective of each trial by epoch; pruned ones end with a cross, trial `best` stands out."""
    scale = _Scale(objective, [value for trial in trials for _, value in trial.curve])
    figure = go.Figure(layout=LAYOUT | {"title": f"{objective} of each trial by epoch; pruned ones end in a cross"})
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
    figure.update_xaxes(title="epoch", dtick=1 if max((len(trial.curve) for trial in trials), default=0) < 20 else None)
    figure.update_yaxes(**scale.axis())
    return figure


def to_html(figure: go.Figure, *, whole: bool = True) -> str:
    """A page that needs no network; with `whole` false a part of one, which must have `plotly_script` before it."""
    return figure.to_html(
        full_html=whole,
        include_plotlyjs=whole,
        config={"displaylogo": False, "responsive": True},
        default_height="95vh" if whole else 520,
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

    def ticks(self) -> dict[float, str]:
        low, high = min(self._shown), max(self._shown)
        for steps in (FINE_TICKS, COARSE_TICKS, (1.0,)):
            exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            places = [step * 10.0**exponent for exponent in exponents for step in steps]
            places = [place for place in places if low <= place <= high]
            if len(places) <= MOST_TICKS:
                break
        places = sorted({low, high, *places}) if len(places) < 2 else places
        ticks = {place: self._tick(place) for place in places}
        if self._has_perfect:
            ticks = {self._lowest: "100%"} | {
                place: text for place, text in ticks.items() if place > 1.2 * self._lowest
            }
        return ticks

    def _tick(self, place: float) -> str:
        return f"{100 * (1 - place):.4g}%" if self.is_reversed else f"{place:.3g}"

    def axis(self, *, title: bool = True) -> dict[str, Any]:
        ticks = self.ticks()
        low, high = (math.log10(end) for end in (min(self._shown), max(self._shown)))
        margin = 0.06 * (high - low) or 0.1
        ends = [low - margin, high + margin]
        return {
            "type": "log",
            "range": ends[::-1] if self.is_reversed else ends,
            "tickvals": list(ticks),
            "ticktext": list(ticks.values()),
            "title": self.objective if title else None,
        }


def _axis_of(facts: Axis) -> dict[str, Any]:
    if not all(_is_number(value) for value in facts.settings):
        return {"type": "category"}
    ticks = _ticks(facts.settings, facts.is_log)
    return {
        "type": "log" if facts.is_log else "linear",
        "tickvals": [10**place if facts.is_log else place for place in ticks],
        "ticktext": list(ticks.values()),
    }


def _ticks(values: Sequence[float], is_log: bool) -> dict[float, str]:
    """What to write on an axis of a setting: its values if they are few, else five between the ends; by their place."""
    places = {math.log10(value) if is_log else float(value) for value in values}
    if len(places) > 5:
        low, high = min(places), max(places)
        places = {low + (high - low) * i / 4 for i in range(5)}
    return {place: f"{10**place if is_log else place:.3g}" for place in sorted(places)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
