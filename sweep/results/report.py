"""The report of a study: plots, tables and one page with all of it, made from the record in MLflow.

sweep report                 of the newest study
sweep report --study NAME    of this study

A study makes them at its end; this makes them again. They are kept in the study's run in MLflow, and the page
lies in the study's folder as report.html, a file that needs no other and no network.
"""

import csv
import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweep.arguments import Parser
from sweep.errors import exit_with_one_line
from sweep.files import is_name, replacing
from sweep.record.connect import connect
from sweep.record.pages import where_to_look
from sweep.record.run import MLflowRun
from sweep.record.runs import RunRecord, find_study
from sweep.results import summary
from sweep.results.folder import folder_of
from sweep.results.gather import Findings, gather
from sweep.results.table import StudyTable

REPORT_FILE = "report.html"
TABLE_FILE = "trials"


def main(arguments: list[str] | None = None) -> None:
    """Run the verb `sweep report`."""
    parser = Parser("report", __doc__)
    parser.add_argument("--study", metavar="NAME", help="by default the newest")
    options = parser.parse_args(arguments)
    with exit_with_one_line():
        connect()
        findings = gather(find_study(options.study))
        path = write(findings)
    print(summary.summary_in_words(findings.table, findings.remarks, where(findings.table.study, path)))


def where(study: RunRecord, page: Path | None) -> list[str]:
    """Return lines on where to look: at the `page`, if it was made, and in MLflow."""
    look, *more = where_to_look(study)
    return [
        *([f"report  {os.path.relpath(page)}"] if page else []),
        f"look    {look}",
        *(f"        {line}" for line in more),
    ]


def write(findings: Findings) -> Path:
    """Make the report of a study, keep it with the study's run and its best trial's, and write the page.

    Returns:
        Path of the page.
    """
    from sweep.results.page import draw_plots, page_of, page_of_plot  # what draws is not installed everywhere

    table = findings.table
    run = MLflowRun(table.study.run_id)
    figures = draw_plots(findings)
    rows = rows_of(table)
    page = page_of(findings, figures)
    path = folder_of(table.study) / REPORT_FILE
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "plots").mkdir()
        for name, plot in figures.items():
            (folder / "plots" / f"{name}.html").write_text(page_of_plot(plot), encoding="utf-8")
        (folder / f"{TABLE_FILE}.csv").write_text(_csv(rows), encoding="utf-8")
        (folder / REPORT_FILE).write_text(page, encoding="utf-8")
        run.log_folder(folder)
    # MLflow's page takes a dot in a column's name for a level of nesting, and finds nothing there.
    run.log_table({key.replace(".", "/"): [row[key] for row in rows] for key in rows[0]}, f"{TABLE_FILE}.json")
    _keep_sections(findings)
    return path


def _keep_sections(findings: Findings) -> None:
    """Keep the sections of the job with the best trial's run, under evaluation/."""
    found = {name: file for one in findings.sections for name, file in (*one.pictures.items(), *one.files.items())}
    kept = {name: content for name, content in found.items() if is_name(name)}
    if not kept:
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "evaluation"
        folder.mkdir()
        for name, content in kept.items():
            (folder / name).write_bytes(content)
        MLflowRun(findings.table.best.run_id).log_folder(Path(temporary))


def rows_of(table: StudyTable) -> list[dict[str, Any]]:
    """Return a row for each trial, best first: its objectives, its searched settings, and its run."""
    return [
        {
            "trial": row.number,
            "status": summary.status_in_words(row),
            **{objective: row.values.get(objective) for objective in table.objectives},
            **{key: row.settings.get(key, row.run.setting(key)) for key in table.dimensions},
            "seconds": round(row.seconds, 1),
            "run_id": row.run_id,
        }
        for row in table.ranked
    ]


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
