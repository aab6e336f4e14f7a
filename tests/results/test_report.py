"""What a study leaves behind in MLflow, and the page with all of it."""

import csv
import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Project

from sweep.arguments import study_command
from sweep.digits import data, predictions
from sweep.record.connect import connect
from sweep.record.lifecycle import open_run
from sweep.record.runs import find_study
from sweep.record.tags import KIND_TAG, STUDY_TAG
from sweep.results import conclude, gather, plots
from sweep.results.gather import Findings
from sweep.results.known import KeptRun
from sweep.results.page import draw_plots
from sweep.results.table import table_of
from sweep.results.uncertainty import interval

STUDY = (
    "-m", "hydra/sweeper=optuna", "data=digits", "epochs=2", "model.widths=[16]", "num_threads=1",
    "hydra.sweeper.n_jobs=1", "hydra.sweeper.n_trials=6", "hydra.sweeper/sampler=random",
)  # fmt: skip
PLOTS = ("optimisation_history", "learning_curves", "parameter_importances", "parameters", "parallel_coordinates")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A study of six trials, some of them pruned, and one by validation accuracy."""
    project = Project(tmp_path_factory.mktemp("searched"))
    overrides = [one for one in STUDY if "sampler" not in one]
    finished = project.train(*overrides, "hydra.sweeper.study_name=found")
    assert finished.status == 0, finished.err
    (project.folder / "summary.txt").write_text(finished.out)
    return project


@pytest.fixture
def findings(searched: Project, monkeypatch: pytest.MonkeyPatch) -> Findings:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", searched.uri)
    monkeypatch.setenv("SWEEP_ROOT", str(ROOT))  # whose pyproject.toml names the job
    connect()
    return gather.gather(find_study("found"))


def printed(project: Project) -> str:
    """What the study said."""
    return (project.folder / "summary.txt").read_text()


def artifact(project: Project, run_id: str, path: str) -> Path:
    (found,) = project.folder.glob(f"mlruns/*/{run_id}/artifacts/{path}")
    return found


def test_the_study_s_run_holds_its_config_space_plots_tables_and_page(searched: Project, findings: Findings) -> None:
    for path in (
        "config.yaml", "search_space.json", "optimization_results.yaml", "trials.csv", "trials.json", "report.html",
        *(f"plots/{name}.html" for name in PLOTS),
    ):  # fmt: skip
        assert artifact(searched, findings.table.study.run_id, path).stat().st_size > 100, path
    assert findings.table.study.digest == findings.table.best.run.digest != ""
    composed = artifact(searched, findings.table.study.run_id, "config.yaml").read_text()
    assert "epochs: 2" in composed
    assert "optimizer.lr: tag(log, interval" in composed
    assert "n_trials: 6" in composed
    assert findings.table.study.params["optimizer.lr"] == findings.table.best.params["optimizer.lr"]
    assert findings.table.study.metrics["test/accuracy"] == findings.table.best.metrics["test/accuracy"]


def test_both_tables_hold_every_trial_best_first_with_its_values(searched: Project, findings: Findings) -> None:
    with artifact(searched, findings.table.study.run_id, "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["trial"]) for row in rows) == list(range(6))
    assert int(rows[0]["trial"]) == findings.table.best.number
    runs = {run.run_id: run for run in findings.table.rows}
    for row in rows:
        run = runs[row["run_id"]]
        assert float(row["test/accuracy"]) == run.metrics["test/accuracy"]
        assert float(row["optimizer.lr"]) == float(run.params["optimizer.lr"])
        assert row["status"] == ("finished" if run.run.status == "FINISHED" else "pruned")
    table = json.loads(artifact(searched, findings.table.study.run_id, "trials.json").read_text())
    assert table["columns"] == [name.replace(".", "/") for name in rows[0]]
    assert [str(row[0]) for row in table["data"]] == [row["trial"] for row in rows]
    # So that MLflow's page of the run shows it as a table.
    assert json.loads(findings.table.study.tags["mlflow.loggedArtifacts"]) == [{"path": "trials.json", "type": "table"}]


def test_mlflow_s_page_of_the_study_lists_its_trials_best_first_with_what_was_searched(
    searched: Project, findings: Findings
) -> None:
    page = r"http://127\.0\.0\.1:5000/#/experiments/(\d+)/runs\?\S*viewStateShareKey=(\S+)"
    assert re.findall(page, printed(searched)) == [(findings.table.study.experiment_id, "found")]
    experiment = searched.client().get_experiment(findings.table.study.experiment_id)
    view = json.loads(experiment.tags["mlflow.sharedViewState.found"])
    assert view["orderByKey"] == "metrics.`test/accuracy`"
    assert view["selectedColumns"][0] == "metrics.`test/accuracy`"
    assert {"params.`optimizer.lr`", "params.`data.batch_size`"} <= set(view["selectedColumns"])
    shown = searched.client().search_runs([findings.table.study.experiment_id], view["searchFilter"])
    assert {run.info.run_id for run in shown} == {run.run_id for run in findings.table.rows}


def test_the_plots_show_every_trial_as_it_was_recorded(searched: Project, findings: Findings) -> None:
    rows = findings.table.rows
    assert findings.curves.keys() == {row.number for row in rows}
    assert {row.state for row in rows} == {"finished", "pruned"}
    for row in rows:
        history = searched.client().get_metric_history(row.run_id, "test/accuracy")
        assert findings.curves[row.number] == [(point.step, point.value) for point in history]
        assert row.values == {"test/accuracy": history[-1].value}
        assert row.settings["optimizer.lr"] == float(row.params["optimizer.lr"])
        assert row.settings["data.batch_size"] == int(row.params["data.batch_size"])
    assert plots.history(findings.table).best[-1] == findings.table.best.metrics["test/accuracy"]


def test_the_best_trial_keeps_what_it_gets_wrong(searched: Project, findings: Findings) -> None:
    best = findings.table.best
    assert artifact(searched, best.run_id, "evaluation/confusion_matrix.png").read_bytes().startswith(b"\x89PNG")
    assert artifact(searched, best.run_id, "evaluation/most_confidently_wrong.png").read_bytes().startswith(b"\x89PNG")
    with artifact(searched, best.run_id, "evaluation/accuracy_per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list("0123456789")
    correct, images = (sum(int(row[column]) for row in rows) for column in ("correct", "images"))
    assert images == 360
    assert correct / images == pytest.approx(best.metrics["test/accuracy"])


def test_predictions_are_of_the_test_images_in_their_order(
    searched: Project, findings: Findings, compose: Callable[..., object]
) -> None:
    from sweep.digits.classifier import load_classifier

    best = findings.table.best
    with KeptRun(best.run) as kept:
        path = kept.file(predictions.PREDICTIONS_FILE)
        assert path is not None
        found = predictions.load_predictions(path, "test")
    config = compose("data=digits")
    test = data.load(config.data).splits.test  # type: ignore[attr-defined]
    assert torch.equal(torch.from_numpy(found.labels), test.labels)
    folder = searched.folder / "multirun" / "found" / str(best.number)
    with torch.inference_mode():
        logits = load_classifier(folder)(test.images.float() / 255)
    assert (logits.argmax(dim=1).numpy() == found.predicted).mean() > 0.99
    assert (
        predictions.most_confidently_wrong(found, 1)[0].label
        != predictions.most_confidently_wrong(found, 1)[0].predicted
    )


def test_the_summary_states_the_interval_and_what_picking_does(searched: Project, findings: Findings) -> None:
    told = printed(searched)
    accuracy = findings.table.best.metrics["test/accuracy"]
    low, high = interval(accuracy, 360)
    assert f"test/accuracy {accuracy:.2%}: 95% interval {low:.2%} to {high:.2%}, 360 examples" in told
    assert re.search(r"picked from 6 trials by these same examples: expected selection bias \d\.\d\d points", told)
    assert "report  multirun/found/report.html" in told


def test_the_page_is_one_file_that_needs_no_other_and_holds_all_of_it(searched: Project, findings: Findings) -> None:
    page = (searched.folder / "multirun" / "found" / "report.html").read_text()
    assert not re.search(r'<link|<script[^>]* src|<img[^>]* src="(?!data:)', page)
    words = unescape(page)
    for remark in findings.remarks:
        assert remark in words
    assert page.count('class="plotly-graph-div"') == sum(len(plot.figures) for plot in draw_plots(findings).values())
    assert "<tr><th>optimizer.lr</th><td>" in page  # the best settings, a line for each
    assert page.count("<img alt=") == 2
    assert all(run.run_id in page for run in findings.table.rows)
    assert "optimizer.lr: tag(log, interval" in words


def test_it_can_be_made_again_at_any_time_also_where_the_data_are_gone(searched: Project, findings: Findings) -> None:
    page = searched.folder / "multirun" / "found" / "report.html"
    before = page.read_text()
    page.unlink()
    finished = searched.run("report", "--study", "found")
    assert finished.status == 0, finished.err
    assert "report  multirun/found/report.html" in finished.out
    ids = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")  # Plotly draws a new one for each figure
    assert ids.sub("", page.read_text()) == ids.sub("", before)
    assert finished.err == ""


def test_a_best_trial_at_the_edge_of_the_space_is_warned_of_but_not_at_a_natural_bound(project: Project) -> None:
    # The highest of three rates that are all too low is the best, and dropout 0 the least one there is.
    finished = project.train(
        "-m", "data=digits", "epochs=1", "model.widths=[8]", "optimizer.lr=1e-5,2e-4,2e-3", "model.dropout=0,0.9",
        "hydra.sweeper.study_name=edge",
    )  # fmt: skip
    assert (
        "optimizer.lr=0.002 is at the upper end of what was searched, 1e-05 to 0.002: a better one may lie"
        in finished.out
    )
    assert "model.dropout=" not in finished.out.partition("\nbest ")[2]
    assert (project.folder / "multirun" / "edge" / "report.html").exists()


def test_by_validation_the_test_set_has_no_part_in_the_choice(project: Project) -> None:
    finished = project.train(
        "-m", "data=digits", "epochs=1", "model.widths=[8]", "optimizer.lr=1e-3,1e-2,1e-1", "objective=val/accuracy",
        "data.validation=300", "hydra.sweeper.study_name=held",
    )  # fmt: skip
    lines = [line.strip() for line in finished.out.partition("\nbest ")[2].splitlines()]
    assert re.match(r"val/accuracy \d\d\.\d\d%: 95% interval .*, 300 examples$", lines[1])
    assert lines[2].startswith("picked from 3 trials by these same examples")
    assert re.match(r"test/accuracy \d\d\.\d\d%: 95% interval .*, 360 examples$", lines[3])
    assert lines[4] == "these examples had no part in the choice"


def test_several_objectives_have_a_report_too(project: Project) -> None:
    finished = project.train(
        *STUDY[:-2], "hydra.sweeper.n_trials=3", "objective=[test/accuracy,model/parameters]",
        "hydra.sweeper.study_name=front",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    assert (project.folder / "multirun" / "front" / "report.html").exists()
    assert "could not be made" not in finished.out


def test_what_cannot_be_reported_is_told_in_one_line(project: Project) -> None:
    for arguments, message in [
        ((), f"no study yet; start one: {study_command()}"),
        (("--study", "none"), "study=none: MLflow knows no study of this name"),
    ]:
        finished = project.run("report", *arguments)
        assert finished.status == 1
        assert finished.err.startswith(f"error: {message}")
        assert finished.err.count("\n") == 1
    diverging = ("optimizer=sgd", "optimizer.lr=1e30,1e31", "model.batch_norm=false", "model.widths=[8]")
    project.train("-m", "data=digits", "epochs=1", *diverging, "hydra.sweeper.study_name=broken")
    finished = project.run("report")
    assert finished.status == 1
    assert finished.err == "error: study=broken: none of its 2 trials has finished, so there is no best one\n"


def test_a_report_that_cannot_be_made_costs_no_study(project: Project) -> None:
    connect()
    tags = {KIND_TAG: "study", STUDY_TAG: "kept"}
    with open_run("digits", "kept", tags=tags):  # one that has no search space recorded
        pass
    remarks, where_to_look = conclude._report(table_of(find_study("kept"), dimensions={}))
    assert remarks == []
    assert where_to_look[0].startswith("report  could not be made (study=kept: none of its 0 trials has finished")
    assert where_to_look[0].endswith("again: sweep report --study kept")
