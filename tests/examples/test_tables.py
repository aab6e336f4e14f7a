"""A regression on a table by scikit-learn, where there is no torch."""

import re
from pathlib import Path

import mlflow
import numpy as np
import pytest
from conftest import models_of
from example import Ended, Example, num_lines
from optuna.trial import TrialState
from sklearn.datasets import load_diabetes
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import train_test_split

STUDY = (
    "-m", "hydra/sweeper=study", "hydra.sweeper.study_name=t", "hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=2",
    "stages=3", "trees_per_stage=4",
)  # fmt: skip


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory, empty_record: Path, installed: dict[str, str]) -> Example:
    absent = {"SWEEP_TEST_ABSENT": "torch,torchvision,lightning,flask"}
    return Example("tables", tmp_path_factory.mktemp("their jobs"), empty_record, installed | absent)


@pytest.fixture(scope="module")
def studied(example: Example) -> Ended:
    """A study that was killed in its middle and went on."""
    ended = example.kill_in_the_middle_and_go_on("t", *STUDY)
    assert ended.status == 0, ended.err
    return ended


def best_run(example: Example) -> mlflow.entities.Run:
    runs = [run for run in example.project.runs("trial") if run.info.status == "FINISHED"]
    return min(runs, key=lambda run: run.data.metrics["val/rmse"])


def test_it_is_forty_lines_and_imports_no_torch(example: Example) -> None:
    program = example.folder / "train.py"
    assert num_lines(program) <= 40
    assert "torch" not in program.read_text()


def test_a_killed_study_goes_on_to_its_exact_total_and_mlflow_says_the_same(example: Example, studied: Ended) -> None:
    example.require_agreement("t", 5)
    found = example.find("t")
    assert found is not None
    assert found.best_value == best_run(example).data.metrics["val/rmse"]
    for trial in found.get_trials():
        if trial.state == TrialState.FAIL:  # by the kill, maybe while it was being made
            continue
        assert trial.params.keys() == {
            "model.learning_rate", "model.max_depth", "model.min_samples_leaf", "model.subsample",
        }  # fmt: skip
        if trial.state == TrialState.COMPLETE:
            assert sorted(trial.intermediate_values) == [1, 2, 3]


def test_its_table_has_each_trial_best_first(example: Example, studied: Ended) -> None:
    header = re.search(r"^trial +val/rmse +learning_rate +max_depth .*$", studied.out, re.MULTILINE)
    assert header is not None
    rows = studied.out[header.end() :].split("\n\n")[0].strip().splitlines()
    counted = [trial for trial in example.trials("t") if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert len([row for row in rows if "finished" in row or "pruned" in row]) == len(counted)
    found = example.find("t")
    assert found is not None
    assert rows[0].split()[:2] == [str(found.best_trial.number), f"{found.best_value:.2f}"]
    assert f"best    trial {found.best_trial.number}: val/rmse {found.best_value:.2f}" in studied.out


def test_the_model_of_a_trial_is_one_of_mlflow_s_sklearn_flavour_with_the_error_that_was_recorded(
    example: Example, studied: Ended
) -> None:
    run = best_run(example)
    (output,) = models_of(run)
    mlflow.set_tracking_uri(example.project.uri)
    model = mlflow.sklearn.load_model(f"models:/{output.model_id}")
    _, x, _, y = train_test_split(*load_diabetes(return_X_y=True), test_size=0.25, random_state=0)
    assert np.isclose(root_mean_squared_error(y, model.predict(x)), run.data.metrics["val/rmse"])


def test_its_studies_are_listed_from_its_own_folder(example: Example, studied: Ended) -> None:
    listed = example.sweep("list")
    assert listed.status == 0, listed.err
    (line,) = [line for line in listed.out.splitlines() if line.endswith("  t")]
    assert "finished" in line


def test_its_report_is_a_page_in_its_own_folder(example: Example, studied: Ended) -> None:
    page = example.folder / "multirun" / "t" / "report.html"
    page.unlink(missing_ok=True)
    reported = example.sweep("report", "--study", "t")
    assert reported.status == 0, reported.err
    assert "val/rmse" in page.read_text()
    assert "report  multirun/t/report.html" in reported.out


def test_the_best_trial_s_files_and_model_are_fetched(example: Example, studied: Ended) -> None:
    fetched = example.sweep("best", "--study", "t")
    assert fetched.status == 0, fetched.err
    folder = example.folder / "multirun" / "best" / best_run(example).info.run_id
    assert (folder / "config.yaml").is_file()
    assert (folder / "model" / "MLmodel").is_file()


def test_the_best_settings_are_confirmed_with_fresh_seeds(example: Example, studied: Ended) -> None:
    confirmed = example.sweep("confirm", "--study", "t", "--best", "2", "--seeds", "2", "hydra.sweeper.n_jobs=1")
    assert confirmed.status == 0, confirmed.err
    again = example.trials("t-confirm-2x2")
    assert [trial.state for trial in again] == [TrialState.COMPLETE] * 4
    assert len({trial.params["seed"] for trial in again} | {0}) == 3
    assert "val/rmse" in confirmed.out


def test_a_trial_is_trained_again_with_the_same_result(example: Example, studied: Ended) -> None:
    again = example.sweep("rerun", best_run(example).info.run_id)
    assert again.status == 0, again
    assert "the same, bit for bit: 1 metric in 3 stages\n" in again.out
