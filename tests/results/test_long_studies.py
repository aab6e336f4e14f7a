"""Reports of studies with many trials, recorded without training: what they ask MLflow, and what they show."""

import re
from types import ModuleType

import pytest
from conftest import ROOT, Project

from sweep.record.connect import connect
from sweep.results import gather, page, trust
from sweep.results.report import write
from sweep.results.table import table_of


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, project: Project) -> ModuleType:
    """benchmarks/report.py, which makes such studies."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setenv("SWEEP_ROOT", str(project.folder))
    monkeypatch.setattr(gather, "MOST_CURVES", 5)
    monkeypatch.setattr(trust, "MOST_CANDIDATES", 4)
    connect()
    import report

    return report


def test_four_times_the_trials_ask_mlflow_no_more(bench: ModuleType) -> None:
    asked = []
    for num_trials in (15, 60):
        study = bench.record_study(f"of-{num_trials}", num_trials, num_examples=50)
        with bench.counted() as counts:
            write(gather.gather_for(table_of(study, bench.JOB)))
        asked.append(dict(counts))
    assert asked[0] == asked[1]
    assert asked[0]["get_metric_history"] == 5
    assert asked[0]["search_runs"] == 1


def test_the_curves_are_those_of_the_best_and_the_page_says_so(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MOST_PRINTED", 10)
    findings = gather.gather_for(table_of(bench.record_study("long", 20, num_examples=50), bench.JOB))
    table = findings.table
    assert set(findings.curves) == {row.number for row in table.ranked[:5]}
    assert page.draw_plots(findings)["learning_curves"].explanation == (
        "val/score of the best 5 of 20 trials by step; pruned ones end in a cross"
    )
    assert any(re.search(r"\(by the best 4 of the \d+ that finished\)$", one)
               for one in findings.remarks)  # fmt: skip
    made = write(findings).read_text()
    assert made.count("<tr") >= 20
    assert '<div class="scroll long"><table class="trials">' in made
    assert "The best 10 of 20 are printed." in made
