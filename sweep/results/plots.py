"""The plots of a study: facts are taken from its table first, then drawn with Plotly.

Optuna's own figures are used where they show the same: the importances and the Pareto front. The other plots show more
here. Optuna's history, slices and parallel coordinates leave out pruned trials, which may be half of all, and their
axes are linear, on which 98.5% and 98.6% are one point; its learning curves show neither which trials were pruned nor
which is the best. Here pruned trials are grey and the best one is red, shares have an axis of 1 - value, and choices
such as 16, 64, 256 a logarithmic one.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from optuna.visualization import plot_param_importances, plot_pareto_front

from sweep.errors import SweepError, is_number
from sweep.results.axes import LOG, Scale, cut, log_or_linear, tick_settings, ticks_of
from sweep.results.importance import evaluator
from sweep.results.table import Curve, StudyTable, TrialRow

try:
    import plotly.graph_objects as go
except ModuleNotFoundError as missing:
    raise SweepError(
        "the figures of a report are Plotly's, which is not installed; pip install 'sweep[report]'"
    ) from missing

FINISHED, PRUNED = "#1f6fb4", "#b9bec4"
BEST = "#d1495b"
LAYOUT: dict[str, Any] = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 60, "r": 20, "t": 30, "b": 50},
    "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1.0, "xanchor": "right"},
}
MOST_AXES_OF_A_FRONT = 3
"""Most objectives that Optuna's figure of the Pareto front can show."""


class History(NamedTuple):
    """The optimisation history of a study: each trial's value, and the best so far."""

    numbers: list[int]
    values: list[float]
    pruned: list[bool]
    best: list[float]
    """The best value of the finished trials so far; NaN before the first of them."""


class Axis(NamedTuple):
    """One searched setting against the objective."""

    key: str
    name: str
    """Label along the axis."""
    is_log: bool
    rows: list[TrialRow]
    """The trials that have the setting, by their numbers."""

    @property
    def settings(self) -> list[Any]:
        """The setting's value in each of the trials."""
        return [row.settings[self.key] for row in self.rows]


class Coordinate(NamedTuple):
    """One axis of the parallel coordinates: a place for each trial, and ticks."""

    name: str
    places: list[float]
    ticks: dict[float, str]


def history(table: StudyTable) -> History:
    """Return the optimisation history, in the order of the trials' numbers."""
    better: Callable[[float, float], float] = min if table.direction == "minimize" else max
    values = [row.values[table.objective] for row in table.scored]
    best: list[float] = []
    so_far = math.nan
    for row, value in zip(table.scored, values, strict=True):
        if not row.is_pruned:
            so_far = value if math.isnan(so_far) else better(so_far, value)
        best.append(so_far)
    return History([row.number for row in table.scored], values, [row.is_pruned for row in table.scored], best)


def axis(table: StudyTable, key: str, is_log: bool, name: str = "") -> Axis:
    """Return the scored trials that have the setting `key`, for its plot; the name of a logarithmic axis says so."""
    return Axis(key, (name or key) + LOG * is_log, is_log, [row for row in table.scored if key in row.settings])


def coordinate(table: StudyTable, key: str, is_log: bool, name: str = "") -> Coordinate:
    """Return one axis of the parallel coordinates, for the scored trials.

    Numbers lie at their value, or its logarithm; other settings in alphabetical order. A trial that has no such setting
    lies below all others, at a place marked "none".
    """
    given = [row.settings.get(key) for row in table.scored]
    known = [value for value in given if value is not None]
    if all(is_number(value) for value in known):
        where = {value: math.log10(value) if is_log else float(value) for value in known}
        low, high = min(where.values()), max(where.values())
        ticks = ticks_of(known, is_log)
    else:
        names = sorted({str(value) for value in known})
        where = {value: float(names.index(str(value))) for value in known}
        low, high = 0.0, float(len(names) - 1)
        ticks = {float(i): cut(name) for i, name in enumerate(names)}
    nowhere = low - max((high - low) / 6, 1e-3)
    if len(known) < len(given):
        ticks = {nowhere: "none"} | ticks
    return Coordinate(
        cut(name or key) + LOG * is_log, [nowhere if value is None else where[value] for value in given], ticks
    )


def _scale(table: StudyTable, values: Sequence[float]) -> Scale:
    return Scale(table.objective, table.metric, table.direction, values)


def draw_history(table: StudyTable) -> go.Figure:
    """Draw each trial's value, and the best so far."""
    facts = history(table)
    scale = _scale(table, facts.values)
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
                marker={"color": colour, "size": 9 if len(facts.numbers) <= 200 else 5},
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
    figure.update_xaxes(title="trial", **tick_settings(ticks_of(facts.numbers, is_log=False)))
    figure.update_yaxes(**scale.axis())
    return figure


def draw_importances(table: StudyTable, shares: Mapping[str, float], names: Mapping[str, str]) -> go.Figure:
    """Draw Optuna's figure of the importances with `shares` above 0, highest on top, with short `names`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a setting which few trials have is judged by few
        figure = plot_param_importances(
            table.scored_in_optuna(),
            evaluator=evaluator(table),
            params=list(shares),
            target_name=table.objective,
        )
    (bars,) = figure.data
    bars.update(
        y=[cut(names[key]) for key in bars.y],
        marker={"color": FINISHED},
        texttemplate="%{x:.0%}",
        hovertemplate=[f"{key}: {share:.1%}<extra></extra>" for key, share in zip(bars.y, bars.x, strict=True)],
    )
    figure.update_layout(**LAYOUT, title=None)
    figure.update_xaxes(title="share of the difference", range=[0, 1.12 * max(bars.x)], tickformat=".0%")
    figure.update_yaxes(title=None, automargin=True, ticksuffix=" ")
    return figure


def draw_front(table: StudyTable) -> go.Figure:
    """Draw Optuna's figure of the Pareto front of two or three objectives, or of the first three of more."""
    shown = table.objectives[:MOST_AXES_OF_A_FRONT]
    figure = plot_pareto_front(
        table.to_optuna(), target_names=list(shown), targets=lambda trial: trial.values[: len(shown)]
    )
    on_front = {row.number for row in table.front}
    rows = [row for row in table.rows if row.is_candidate and len(row.values) == len(table.objectives)]
    others = [row for row in rows if row.number not in on_front]
    for trace, chosen, name, colour, size in (
        (figure.data[0], others, "beaten", PRUNED, 7),
        (figure.data[1], table.front, "on the front", BEST, 10),
    ):
        for letter, objective in zip("xyz", shown, strict=False):
            trace[letter] = [row.values[objective] for row in chosen]
        trace.update(
            text=[f"trial {row.number}: {table.job.in_words(row.values)}" for row in chosen],
            hovertemplate="%{text}<extra></extra>",
            name=name,
            showlegend=True,
        )
        trace.marker = {"color": colour, "size": size}
    figure.update_layout(**LAYOUT, title=None)
    formats = [".6~%" if table.job.metric(objective).is_share else None for objective in shown]
    if len(shown) == MOST_AXES_OF_A_FRONT:
        figure.update_layout(
            scene={f"{letter}axis": {"tickformat": form} for letter, form in zip("xyz", formats, strict=True)}
        )
    else:
        figure.update_xaxes(tickformat=formats[0], automargin=True)
        figure.update_yaxes(tickformat=formats[1], automargin=True)
    return figure


def draw_parallel(table: StudyTable, coordinates: Sequence[Coordinate]) -> go.Figure:
    """Draw a line for each scored trial through all its settings, coloured by the objective."""
    values = [row.values[table.objective] for row in table.scored]
    scale = _scale(table, values)
    heights, ticks = [scale.height(value) for value in values], scale.heights()
    title = cut(table.objective) + LOG * scale.is_log
    dimensions = [
        {"label": one.name, "values": one.places, "tickvals": list(one.ticks), "ticktext": list(one.ticks.values())}
        for one in [*coordinates, Coordinate(title, heights, ticks)]
    ]
    figure = go.Figure(layout=LAYOUT)
    figure.add_parcoords(
        dimensions=dimensions,
        line={"color": heights, "colorscale": "Viridis", "reversescale": scale.is_minimized},
        labelangle=-15 if len(dimensions) > 5 else 0,
        labelfont={"size": 13},
        tickfont={"size": 11, "color": "#45525f"},
        rangefont={"size": 1, "color": "rgba(0,0,0,0)"},  # the ticks tell the ends
    )
    figure.update_layout(margin={"t": 110, "l": 60, "r": 60, "b": 30}, meta=80 * len(dimensions))
    return figure


def draw_axes(table: StudyTable, axes: Sequence[Axis]) -> list[go.Figure]:
    """Draw a figure for each setting, all with the same scale; the best trial stands out."""
    scale = _scale(table, [row.values[table.objective] for facts in axes for row in facts.rows])
    return [_draw_axis(table, facts, scale) for facts in axes]


def _draw_axis(table: StudyTable, facts: Axis, scale: Scale) -> go.Figure:
    figure, best = go.Figure(layout=LAYOUT), table.best.number
    size = 8 if len(table.scored) <= 200 else 5
    for name, is_pruned, colour in (("finished", False, FINISHED), ("pruned", True, PRUNED), ("best", False, BEST)):
        chosen = [
            row
            for row in facts.rows
            if (row.number == best if name == "best" else row.is_pruned == is_pruned and row.number != best)
        ]
        found = [(row.number, row.settings[facts.key], row.values[table.objective]) for row in chosen]
        figure.add_scatter(
            x=[setting if is_number(setting) else cut(str(setting)) for _, setting, _ in found],
            y=[scale.place(value) for *_, value in found],
            text=[f"trial {i}: {scale.text(value)}<br>{facts.key}={setting}" for i, setting, value in found],
            hoverinfo="text",
            mode="markers",
            marker={"color": colour, "size": 11 if name == "best" else size},
            name=name,
        )
    figure.update_xaxes(title=facts.name, **log_or_linear(facts.settings, facts.is_log))
    figure.update_yaxes(**scale.axis())
    figure.update_layout(showlegend=False)
    return figure


def draw_curves(table: StudyTable, curves: Mapping[int, Curve]) -> go.Figure:
    """Draw the objective by step for each scored trial in `curves`.

    The curves of pruned trials end with a cross, and the best trial stands out.
    """
    scale = _scale(table, [value for curve in curves.values() for _, value in curve])
    figure, step, best = go.Figure(layout=LAYOUT), table.job.step, table.best.number
    named = set()
    having = [row for row in table.scored if curves.get(row.number)]
    for row in sorted(having, key=lambda row: (row.number == best, not row.is_pruned, row.number)):
        curve = curves[row.number]
        name = "best" if row.number == best else "pruned" if row.is_pruned else "finished"
        figure.add_scatter(
            x=[at for at, _ in curve],
            y=[scale.place(value) for _, value in curve],
            text=[f"trial {row.number}, {step} {at}: {scale.text(value)}" for at, value in curve],
            hoverinfo="text",
            mode="lines+markers",
            line={
                "color": {"best": BEST, "pruned": PRUNED, "finished": FINISHED}[name],
                "width": 3 if name == "best" else 1.2,
            },
            marker={
                "symbol": ["circle"] * (len(curve) - 1) + ["x" if row.is_pruned else "circle"],
                "size": [4] * (len(curve) - 1) + [9 if row.is_pruned else 6],
            },
            opacity=1.0 if name == "best" else 0.75,
            name=name,
            legendgroup=name,
            showlegend=name not in named,
        )
        named.add(name)
    steps = sorted({at for curve in curves.values() for at, _ in curve})
    figure.update_xaxes(title=step, **tick_settings(ticks_of(steps, is_log=False)))
    figure.update_yaxes(**scale.axis())
    return figure
