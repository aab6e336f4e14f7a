"""What a study came to: plots, tables and one page with all of it, made from the record in MLflow.

sweep report                 of the newest study
sweep report --study NAME    of this study

A study makes them at its end; this makes them again. They are kept in the study's run in MLflow, and the page
lies in the study's folder as report.html, a file that needs no other and no network.
"""

import contextlib
import csv
import io
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import BaseDistribution

from sweep import ROOT
from sweep.arguments import Parser
from sweep.digits import config, data, predictions
from sweep.digits.predictions import Predictions
from sweep.digits.train import CONFIG_FILE, recorded_config
from sweep.errors import SweepError, in_one_line, told_in_one_line
from sweep.files import as_folder, replacing
from sweep.record import tracking
from sweep.record.tracking import RunRecord
from sweep.results import plots, summary, trust
from sweep.results.importance import importances
from sweep.study.dimensions import SPACE_FILE, edge_of, from_json, value_of
from sweep.study.space import LENGTH

REPORT_FILE = "report.html"
CONFIRMATION_FILE = "confirmation.txt"
TABLE_FILE = "trials"
MOST_MISTAKES = 24
FAR_APART = 8
"""By how much the largest of choices is larger than the smallest where a logarithmic axis suits them."""


class Facts(NamedTuple):
    """A study as its report needs it."""

    study: RunRecord
    """Its parent run."""
    trials: list[RunRecord]
    front: list[RunRecord]
    """The best trial, or the Pareto front."""
    dimensions: dict[str, BaseDistribution]
    """What was searched."""
    plotted: list[plots.Trial]
    """The finished and pruned trials, without copies."""
    remarks: list[str]
    """How far the best value can be trusted, and where the best trial is at the edge of the space."""

    @property
    def name(self) -> str:
        """The study's."""
        return self.study.tags[tracking.STUDY_TAG]

    @property
    def objective(self) -> str:
        """The metric that plots show: of several objectives the first."""
        return self.study.objectives[0]

    @property
    def best(self) -> RunRecord:
        """The best trial by that."""
        return summary.ranked(self.front, self.study.objectives, self.study.directions)[0]

    @property
    def direction(self) -> str:
        """Which way that is better."""
        return self.study.directions[0]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = Parser("report", __doc__)
    parser.add_argument("--study", metavar="NAME", help="by default the newest")
    options = parser.parse_args(arguments)
    with told_in_one_line():
        tracking.connect()
        facts = gather(tracking.find_study(options.study))
        path = write(facts)
    print(
        summary.tell(
            facts.study, facts.trials, facts.front, list(facts.dimensions), facts.remarks, where(facts.study, path)
        )
    )


def where(study: RunRecord, page: Path | None) -> list[str]:
    """The lines that say where to look: at the `page`, if it was made, and in MLflow."""
    look, *more = tracking.where_to_look(study)
    return [
        *([f"report  {os.path.relpath(page)}"] if page else []),
        f"look    {look}",
        *(f"        {line}" for line in more),
    ]


def gather(study: RunRecord) -> Facts:
    """The facts of `study`, from MLflow alone.

    Raises:
        SweepError: No trial has finished, or it has no search space recorded.
    """
    trials = tracking.trials_of(study)
    front = tracking.front_of(trials, study.objectives, study.directions)
    if not front:
        raise SweepError(f"study={study.name}: none of its {len(trials)} trials has finished, so there is no best one")
    recorded = tracking.read_text(study, SPACE_FILE)
    if recorded is None:
        raise SweepError(f"study={study.name}: its run in MLflow has no {SPACE_FILE}, so what it searched is not known")
    with tracking.naming(study):
        dimensions = from_json(recorded)
    scored = [one for one in trials if _is_scored(one, study.objectives[0])]
    plotted = [_plotted(one, study, dimensions) for one in scored]
    remarks: list[str] = []
    if len(study.objectives) == 1:
        remarks += trust.in_words(trust.judge(front[0], scored, trust.shows_test(study.objectives, dimensions)))
        remarks += _edges(front[0], {key: one for key, one in dimensions.items() if key != "seed"})
    return Facts(study, trials, front, dimensions, plotted, remarks)


def _is_scored(run: RunRecord, objective: str) -> bool:
    return summary.status_in_words(run) in ("finished", "pruned") and objective in run.metrics


def _plotted(run: RunRecord, study: RunRecord, dimensions: dict[str, BaseDistribution]) -> plots.Trial:
    objective = study.objectives[0]
    values = {key: value_of(dimension, run.setting(key)) for key, dimension in dimensions.items()}
    return plots.Trial(
        number=run.trial_number,
        is_pruned=run.status == "KILLED",
        value=run.metrics[objective],
        settings={key: value for key, value in values.items() if value is not None},
        curve=tracking.curve_of(run, objective),
    )


def _edges(best: RunRecord, dimensions: dict[str, BaseDistribution]) -> list[str]:
    job = recorded_config(best)
    if job is None:
        return []
    values = {key: value_of(dimension, best.setting(key)) for key, dimension in dimensions.items()}
    return [
        f"{key}={edge.value:.4g} is at the {edge.side} end of what was searched, {edge.low:.4g} to "
        f"{edge.high:.4g}: a better one may lie beyond"
        for key, dimension in dimensions.items()
        if (edge := edge_of(dimension, values[key])) and _is_allowed(job, key, edge.beyond)
    ]


def _is_allowed(recorded: config.Config, key: str, value: float) -> bool:
    """Whether the job `recorded` could be trained with another `value`: a dropout below 0 could not."""
    job, key = OmegaConf.create(asdict(recorded)), key.lstrip("+")
    try:
        if key.endswith(LENGTH):
            key = key.removesuffix(LENGTH)
            items = list(OmegaConf.select(job, key))
            OmegaConf.update(job, key, (items + items[-1:])[: int(value)])
        else:
            OmegaConf.update(job, key, value)
        config.parse(job)
    except (SweepError, OmegaConfBaseException):
        return False
    return True


def write(facts: Facts) -> Path:
    """Make everything there is to see of a study, keep it in the study's run and its best trial's, and the page.

    Returns:
        Where the page is.
    """
    run = tracking.MLflowRun(facts.study.run_id)
    figures = draw(facts)
    rows = table(facts)
    evaluation = None
    if len(facts.study.objectives) == 1 and trust.shows_test(facts.study.objectives, facts.dimensions):
        evaluation = _Evaluation.of(facts)
    page = _page(facts, figures, evaluation)
    path = folder_of(facts.study) / REPORT_FILE
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "plots").mkdir()
        for name, plot in figures.items():
            (folder / "plots" / f"{name}.html").write_text(plots.to_page(plot), encoding="utf-8")
        (folder / f"{TABLE_FILE}.csv").write_text(_csv(rows), encoding="utf-8")
        (folder / REPORT_FILE).write_text(page, encoding="utf-8")
        run.log_folder(folder)
    # MLflow's page takes a dot in a column's name for a level of nesting, and finds nothing there.
    run.log_table({key.replace(".", "/"): [row[key] for row in rows] for key in rows[0]}, f"{TABLE_FILE}.json")
    if evaluation is not None:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "evaluation"
            folder.mkdir()
            for name, content in evaluation.files.items():
                (folder / name).write_bytes(content)
            tracking.MLflowRun(facts.front[0].run_id).log_folder(Path(temporary))
    return path


def folder_of(study: RunRecord) -> Path:
    """Where the files of `study` lie, or would if it had run here."""
    folder = Path(study.tags.get(tracking.FOLDER_TAG, ""))
    with contextlib.suppress(OSError):  # a record can name any folder; its own says whose it is
        if folder.is_absolute() and (folder / tracking.RUN_FILE).read_text() == study.run_id:
            return folder
    return ROOT / "multirun" / as_folder(study.tags[tracking.STUDY_TAG])


def table(facts: Facts) -> list[dict[str, Any]]:
    """A row for each trial, best first: its objectives, what was searched, and where to find it."""
    ranked = summary.ranked(facts.trials, facts.study.objectives, facts.study.directions)
    return [
        {
            "trial": run.trial_number,
            "status": summary.status_in_words(run),
            **{objective: run.metrics.get(objective) for objective in facts.study.objectives},
            **{
                key: value if (value := value_of(dimension, run.setting(key))) is not None else run.setting(key)
                for key, dimension in facts.dimensions.items()
            },
            "seconds": round(run.seconds, 1),
            "run_id": run.run_id,
        }
        for run in ranked
    ]


def draw(facts: Facts) -> dict[str, plots.Plot]:
    """The interactive plots by the names of their files."""
    trials, objective = facts.plotted, facts.objective
    best = facts.best.trial_number
    keys = [key for key in facts.dimensions if len({str(one.settings.get(key)) for one in trials}) > 1]
    is_log = {key: _is_log(facts.dimensions[key]) for key in keys}
    names = summary.short_names(facts.dimensions)
    figures = {
        "optimisation_history": plots.Plot(
            "Optimisation history",
            f"{objective} of each trial, and the best so far",
            [plots.draw_history(plots.history(trials, facts.direction), objective)],
        )
    }
    curves = [one for one in trials if one.curve]
    if curves:
        figures["learning_curves"] = plots.Plot(
            "Learning curves",
            f"{objective} of each trial by epoch; pruned ones end in a cross",
            [plots.draw_curves(curves, objective, best)],
        )
    shares = importances(facts.dimensions, [(one.settings, one.value) for one in trials], facts.direction)
    if shares:
        figures["parameter_importances"] = plots.Plot(
            "Importances",
            f"What set the best of {len(trials)} trials apart (PED-ANOVA; a rough guide below 50 trials)",
            [plots.draw_importances({names[key]: share for key, share in shares.items()})],
        )
    if keys:
        axes = [plots.axis(trials, key, is_log[key], names[key]) for key in keys]
        coordinates = [plots.coordinate(trials, key, is_log[key], names[key]) for key in keys]
        figures["parameters"] = plots.Plot(
            "Each parameter",
            f"{objective} along each setting: finished trials blue, pruned ones grey, trial {best} red",
            plots.draw_axes(axes, objective, best),
        )
        figures["parallel_coordinates"] = plots.Plot(
            "Parallel coordinates",
            "All settings of each trial, the better the brighter; drag along an axis to select",
            [plots.draw_parallel(coordinates, [one.value for one in trials], objective)],
        )
    return figures


def _is_log(dimension: BaseDistribution) -> bool:
    """Whether a logarithmic axis suits: it was searched so, or the choices lie further apart the larger they are."""
    choices = getattr(dimension, "choices", ())
    if not choices:
        return bool(getattr(dimension, "log", False))
    are_positive = all(plots.is_number(one) and one > 0 for one in choices)
    return are_positive and len(choices) > 2 and max(choices) / min(choices) >= FAR_APART


class _Evaluation(NamedTuple):
    """What the best trial's model gets wrong."""

    files: dict[str, bytes]
    """To be kept with the trial, by name."""
    classes: Sequence[str]
    per_class: list[tuple[int, int]]
    without_images: str
    """Why the images of the mistakes cannot be shown, empty if they can."""

    @classmethod
    def of(cls, facts: Facts) -> "_Evaluation | None":
        """None where the trial has kept no predictions."""
        best = facts.front[0]
        found = trust.predictions_of(best, "test")
        job = recorded_config(best)
        if found is None or job is None:
            return None
        settings = job.data
        with tracking.naming(best):
            confusion = predictions.confusion_matrix(found, len(settings.classes))
        per_class = predictions.accuracy_per_class(confusion)
        rows = [
            {
                "class": name,
                "correct": correct,
                "images": images,
                "accuracy": round(correct / images, 5) if images else "",
            }
            for name, (correct, images) in zip(settings.classes, per_class, strict=True)
        ]
        files = {
            "confusion_matrix.png": plots.to_png(plots.draw_confusion(confusion, settings.classes)),
            "accuracy_per_class.csv": _csv(rows).encode(),
        }
        without = ""
        try:
            files["most_confidently_wrong.png"] = _draw_mistakes(found, settings, best.digest)
        except (SweepError, OSError) as error:
            without = in_one_line(error)
        return cls(files, settings.classes, per_class, without)


def _draw_mistakes(found: Predictions, settings: data.DataConfig, digest: str) -> bytes:
    dataset = data.load(data.here(settings))
    if dataset.digest != digest:
        raise SweepError(f"data.root={settings.root}: {settings.name} is not what the trial was trained on")
    if not np.array_equal(found.labels, dataset.splits.test.labels.numpy()):
        raise SweepError(f"{predictions.PREDICTIONS_FILE}: it is not on the test set of {settings.name}")
    mistakes = predictions.most_confidently_wrong(found, MOST_MISTAKES)
    images = dataset.splits.test.images[[mistake.image for mistake in mistakes]].numpy()
    return plots.to_png(plots.draw_mistakes(mistakes, images, settings.classes))


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


WORD_BREAK = r"\1<wbr>"

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1280px; margin: 2rem auto; padding: 0 1rem; color: #1c2733; }
h1 { font-size: 1.6rem; margin-bottom: 0; overflow-wrap: anywhere; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; }
p.best { font-size: 1.25rem; font-weight: 600; margin: .8rem 0 .3rem; }
.remark { margin: .15rem 0; color: #45525f; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; margin: .5rem 0; }
th, td { padding: .25rem .5rem; text-align: right; border-bottom: 1px solid #e3e7eb; }
th { background: #f5f7f9; vertical-align: bottom; } tr.best td { background: #fdf0f1; font-weight: 600; }
.trials td { max-width: 9em; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.trials td:last-child { max-width: 4.5em; }
table.settings th { text-align: left; font-weight: 400; overflow-wrap: anywhere; }
pre { background: #f5f7f9; padding: .8rem; overflow-x: auto; font-size: .85rem; }
img { max-width: 100%; }
@page { size: A4; margin: 12mm; }
@media print {
  body { max-width: none; margin: 0; padding: 0; font-size: 13px; }
  tr, img { break-inside: avoid; } img { max-height: 240mm; }
  table { font-size: 11px; } .trials :is(th, td):last-child { display: none; } th, td { padding: .15rem .4rem; }
  pre { white-space: pre-wrap; font-size: 10px; }
}
"""


def _page(facts: Facts, figures: dict[str, plots.Plot], evaluation: _Evaluation | None) -> str:
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{escape(facts.name)}</title>',
            '<meta name="viewport" content="width=device-width">',
            f"<style>{plots.STYLE}{STYLE}</style>{plots.plotly_script()}</head><body>",
            *_sections(facts, figures, evaluation),
            f"{plots.PRINT_SCRIPT}</body></html>\n",
        ]
    )


def _sections(facts: Facts, figures: dict[str, plots.Plot], evaluation: _Evaluation | None) -> Iterator[str]:
    yield f"<h1>Study {escape(facts.name)}</h1>"
    counts, objectives = summary.counts_in_words(facts.trials), ", ".join(facts.study.objectives)
    yield f"<p>{escape(counts)}; searched for the best {escape(objectives)}</p>"
    yield from _best(facts)
    yield from (f'<p class="remark">{escape(remark)}</p>' for remark in facts.remarks)
    confirmation = tracking.read_text(facts.study, CONFIRMATION_FILE)
    if confirmation:
        yield f"<h2>Confirmed with fresh seeds</h2><pre>{escape(confirmation)}</pre>"
        if facts.best.name not in confirmation:
            yield f'<p class="remark">That was before {escape(facts.best.name)} was found.</p>'
    yield from map(plots.to_html, figures.values())
    if evaluation is not None:
        yield f"<h2>Trial {facts.front[0].trial_number} on the test set</h2>"
        for name in ("confusion_matrix.png", "most_confidently_wrong.png"):
            if name in evaluation.files:
                yield f"<p>{plots.as_image_tag(evaluation.files[name], name)}</p>"
        if evaluation.without_images:
            yield f'<p class="remark">The mistakes cannot be shown: {escape(evaluation.without_images)}</p>'
        yield _html_table(
            ["class", "accuracy", "correct", "images"],
            [
                [name, f"{correct / max(1, images):.2%}", f"{correct}", f"{images}"]
                for name, (correct, images) in zip(evaluation.classes, evaluation.per_class, strict=True)
            ],
        )
    yield "<h2>All trials</h2>"
    yield _table_of(facts, summary.ranked(facts.trials, facts.study.objectives, facts.study.directions))
    composed = tracking.read_text(facts.study, CONFIG_FILE)
    if composed:
        yield f"<h2>The composed config</h2><pre>{escape(composed)}</pre>"


def _best(facts: Facts) -> Iterator[str]:
    """The best trial with its settings, a line for each, or those on the Pareto front."""
    for line in summary.best_lines(facts.study, facts.front)[:1]:
        yield f'<p class="best">{escape(line[0].upper() + line[1:])}</p>'
    if len(facts.study.objectives) > 1:
        yield _table_of(facts, facts.front)
        return
    settings = summary.settings_of(facts.best, facts.dimensions)
    rows = "".join(
        f"<tr><th>{escape(key)}</th><td>{escape(summary.short(value))}</td></tr>" for key, value in settings.items()
    )
    yield f'<table class="settings">{rows}</table>'


def _table_of(facts: Facts, trials: Sequence[RunRecord]) -> str:
    """A row for each of `trials` with what differs between them, and below it what does not."""
    columns, common = summary.compared(trials, facts.dimensions)
    best = {run.run_id for run in facts.front}
    header = ["trial", *facts.study.objectives, *columns, "seconds", "status", "run"]
    rows = [
        [
            str(run.trial_number),
            *(summary.metric_in_words(run, objective) for objective in facts.study.objectives),
            *(summary.bare(cells[i]) for cells in columns.values()),
            f"{run.seconds:.1f}",
            summary.status_in_words(run),
            run.run_id,
        ]
        for i, run in enumerate(trials)
    ]
    marked = [i for i, run in enumerate(trials) if run.run_id in best and len(best) < len(trials)]
    told = ", ".join(f"{key}={summary.short(value)}" for key, value in common.items())
    below = f'<p class="remark">The same in all: {escape(told)}</p>' if told else ""
    return _html_table(header, rows, marked, "trials") + below


def _html_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[int] = (), kind: str = ""
) -> str:
    """A table, for STYLE of this `kind`, in which rows at the places `marked` stand out."""
    # A long name goes on in the next line; a long cell is cut by STYLE, and copied whole.
    head = "".join(f"<th>{re.sub('([/_])', WORD_BREAK, escape(name))}</th>" for name in header)
    body = "".join(
        f"<tr{' class=best' if i in marked else ''}>"
        + "".join(f'<td title="{escape(cell)}">{escape(cell)}</td>' for cell in row)
        + "</tr>"
        for i, row in enumerate(rows)
    )
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )
