"""The page of a study: its findings and its plots in the template report.html, which Jinja2 fills and escapes."""

import base64
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape
from optuna.distributions import BaseDistribution

from sweep.errors import is_number
from sweep.results import plots, summary
from sweep.results.gather import Findings
from sweep.results.importance import importances
from sweep.results.table import StudyTable, TrialRow

TEMPLATE = "report.html"
FAR_APART = 8
"""Ratio of the largest to the smallest choice from which a logarithmic axis suits them."""
MOST_PRINTED = 100
"""Most rows of a table that are printed on paper; a longer one scrolls on the screen."""


class Plot(NamedTuple):
    """Figures under one heading of the page, with an explanation."""

    title: str
    explanation: str
    figures: Sequence[go.Figure]


class Cells(NamedTuple):
    """A table of the page."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: Sequence[int] = ()
    """Places of the rows that stand out."""
    note: str = ""
    """Sentence below the table."""

    @property
    def is_long(self) -> bool:
        """Whether the table scrolls by itself."""
        return len(self.rows) > MOST_PRINTED


def draw_plots(findings: Findings) -> dict[str, Plot]:
    """Return the interactive plots by the names of their files."""
    table = findings.table
    objective, trials = table.objective, table.scored
    best = table.best.number
    keys = [key for key in table.dimensions if len({str(row.settings.get(key)) for row in trials}) > 1]
    is_log = {key: _is_log(table.dimensions[key]) for key in keys}
    names = summary.short_names(table.dimensions)
    figures = {
        "optimisation_history": Plot(
            "Optimisation history",
            f"{objective} of each trial, and the best so far",
            [plots.draw_history(table)],
        )
    }
    if len(table.objectives) > 1:
        shown = ", ".join(table.objectives[: plots.MOST_AXES_OF_A_FRONT])
        figures["pareto_front"] = Plot(
            "Pareto front",
            f"{shown}: on the front no trial is beaten in one without being better in another",
            [plots.draw_front(table)],
        )
    if any(findings.curves.values()):
        of_each = "each trial"
        if len(findings.curves) < len(trials):
            of_each = f"the best {len(findings.curves)} of {len(trials)} trials"
        figures["learning_curves"] = Plot(
            "Learning curves",
            f"{objective} of {of_each} by {table.job.step}; pruned ones end in a cross",
            [plots.draw_curves(table, findings.curves)],
        )
    shares = importances(table)
    if shares:
        figures["parameter_importances"] = Plot(
            "Importances",
            f"What set the best of {len(trials)} trials apart (PED-ANOVA; a rough guide below 50 trials)",
            [plots.draw_importances(table, shares, names)],
        )
    if keys:
        axes = [plots.axis(table, key, is_log[key], names[key]) for key in keys]
        coordinates = [plots.coordinate(table, key, is_log[key], names[key]) for key in keys]
        figures["parameters"] = Plot(
            "Each parameter",
            f"{objective} along each setting: finished trials blue, pruned ones grey, trial {best} red",
            plots.draw_axes(table, axes),
        )
        figures["parallel_coordinates"] = Plot(
            "Parallel coordinates",
            "All settings of each trial, the better the brighter; drag along an axis to select",
            [plots.draw_parallel(table, coordinates)],
        )
    return figures


def _is_log(dimension: BaseDistribution) -> bool:
    """Return whether a logarithmic axis suits a dimension: it is a log one, or its choices lie apart like powers."""
    choices = getattr(dimension, "choices", ())
    if not choices:
        return bool(getattr(dimension, "log", False))
    are_positive = all(is_number(one) and one > 0 for one in choices)
    return are_positive and len(choices) > 2 and max(choices) / min(choices) >= FAR_APART


def page_of(findings: Findings, figures: Mapping[str, Plot]) -> str:
    """Return the page of a study with these `figures`, one HTML file that needs no other and no network."""
    table = findings.table
    several = len(table.objectives) > 1
    best = f"Best trial {table.best.number}: {table.job.in_words(table.best.values)}"
    if several:
        best = f"{len(table.front)} trials that no other beats in one objective without losing in another"
    settings = {} if several else summary.settings_of(table.best, table.dimensions)
    return _fill(
        title=table.name,
        findings=findings,
        plots=list(figures.values()),
        counts=summary.counts_in_words(table),
        objectives=", ".join(table.objectives),
        best=best,
        best_name=table.best.name,
        front=_cells(table, table.front) if several else None,
        settings={key: summary.short(value) for key, value in settings.items()},
        trials=_cells(table, table.ranked),
    )


def page_of_plot(plot: Plot) -> str:
    """Return `plot` as a page of its own, which needs no network."""
    return _fill(title=plot.title, plots=[plot])


def _fill(**facts: Any) -> str:
    from plotly.offline import get_plotlyjs

    return (
        _environment().get_template(TEMPLATE).render(**facts, plotly=Markup(get_plotlyjs()), most_printed=MOST_PRINTED)
    )


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"breakable": _breakable, "drawn": _drawn, "base64": _in_base64}
    return made


def _in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _breakable(name: str) -> Markup:
    """Return a long name that can be broken into lines after / and _."""
    return Markup(re.sub("([/_])", r"\1<wbr>", str(escape(name))))


def _drawn(figure: go.Figure) -> Markup:
    config = {"displayModeBar": False, "responsive": True}
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False, config=config, default_height="100%"))


def _cells(table: StudyTable, rows: Sequence[TrialRow]) -> Cells:
    """Return a row for each trial with what differs between them, and a note with what does not."""
    columns, common = summary.compared(rows, table.dimensions)
    best = {row.number for row in table.front}
    told = ", ".join(f"{key}={summary.short(value)}" for key, value in common.items())
    return Cells(
        ["trial", *table.objectives, *columns, "seconds", "status", "run"],
        [
            [
                str(row.number),
                *(summary.value_in_words(table, row, objective) for objective in table.objectives),
                *(summary.bare(cells[i]) for cells in columns.values()),
                f"{row.seconds:.1f}",
                summary.status_in_words(row),
                row.run_id,
            ]
            for i, row in enumerate(rows)
        ],
        marked=[i for i, row in enumerate(rows) if row.number in best and len(best) < len(rows)],
        note=f"The same in all: {told}" if told else "",
    )
