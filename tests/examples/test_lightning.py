"""A LightningModule under Lightning's Trainer, with one callback of ours."""

import io
import re
from pathlib import Path

import mlflow
import pytest
import torch
from conftest import lend_packages
from example import Ended, Example, num_lines
from optuna.trial import TrialState

# Pruned after the first epoch are those trials of which nearly nothing is right by then: their rate is next to nothing.
STUDY = (
    "-m", "hydra/sweeper=study", "hydra.sweeper.study_name=l", "hydra.sweeper.n_jobs=1", "trainer.max_epochs=3",
    "model.lr=choice(0.02,1e-9)", "model.width=16,32", "model.dropout=0", "batch_size=64",
    "hydra/sweeper/study/sampler=grid", "hydra/sweeper/study/pruner=threshold", "hydra.sweeper.pruner.lower=0.3",
)  # fmt: skip


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory, empty_record: Path, installed: dict[str, str]) -> Example:
    return Example("lightning", tmp_path_factory.mktemp("their jobs"), empty_record, lend_packages(installed))


@pytest.fixture(scope="module")
def studied(example: Example) -> Ended:
    """A study that was killed in its middle and went on."""
    ended = example.kill_in_the_middle_and_go_on("l", *STUDY)
    assert ended.status == 0, ended.err
    return ended


def best_run(example: Example) -> mlflow.entities.Run:
    runs = [run for run in example.project.runs("trial") if run.info.status == "FINISHED"]
    return max(runs, key=lambda run: run.data.metrics["val/accuracy"])


def test_it_is_forty_lines(example: Example) -> None:
    assert num_lines(example.folder / "train.py") <= 40


def test_a_killed_study_goes_on_to_its_exact_total_and_mlflow_says_the_same(example: Example, studied: Ended) -> None:
    example.require_agreement("l", 4)
    client = example.project.client()
    for run in example.project.runs("trial"):
        (trial,) = [one for one in example.trials("l") if str(one.number) == run.data.tags["sweep.trial"]]
        curve = {point.step: point.value for point in client.get_metric_history(run.info.run_id, "val/accuracy")}
        if run.info.status != "FAILED":
            assert curve == trial.intermediate_values


def test_trials_that_the_study_stops_end_in_good_order_with_their_weights_saved(
    example: Example, studied: Ended
) -> None:
    pruned = [trial for trial in example.trials("l") if trial.state == TrialState.PRUNED]
    assert {trial.params["model.lr"] for trial in pruned} == {1e-9}
    assert len(pruned) == 2
    runs = {run.data.tags["sweep.trial"]: run for run in example.project.runs("trial")}
    for trial in pruned:
        assert list(trial.intermediate_values) == [1]
        # Kept by the line of train.py that stands after trainer.fit.
        (checkpoint,) = [file for file in example.kept(runs[str(trial.number)].info.run_id) if file.endswith(".ckpt")]
        assert checkpoint.startswith("epoch=0-")


def test_the_checkpoint_of_the_best_trial_is_kept_with_its_run(example: Example, studied: Ended) -> None:
    run = best_run(example)
    (name,) = [file for file in example.kept(run.info.run_id) if file.endswith(".ckpt")]
    assert name.startswith("epoch=2-")
    content = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=name)).read_bytes()
    weights = torch.load(io.BytesIO(content), weights_only=True)["state_dict"]
    assert weights["network.0.weight"].shape == (int(run.data.params["model.width"]), 64)


def test_the_terminal_has_the_study_s_lines_and_what_lightning_prints_is_in_the_trials_logs(
    example: Example, studied: Ended
) -> None:
    assert studied.err == ""
    assert "Seed set" not in studied.out
    told = r"^trial +\d  (pruned after epoch 1, )?val/accuracy \d+\.\d\d%  \d+\.\d s  \["
    assert re.search(told, studied.out, re.MULTILINE)
    number = best_run(example).data.tags["sweep.trial"]
    said = (example.folder / "multirun" / "l" / number / "train.log").read_text()
    assert "Seed set to 0" in said
    assert "epoch 1/3  val/accuracy" in said


def test_its_report_is_a_page_in_its_own_folder(example: Example, studied: Ended) -> None:
    page = example.folder / "multirun" / "l" / "report.html"
    page.unlink(missing_ok=True)
    reported = example.sweep("report", "--study", "l")
    assert reported.status == 0, reported.err
    assert "val/accuracy" in page.read_text()


def test_the_best_trial_s_checkpoint_is_fetched(example: Example, studied: Ended) -> None:
    fetched = example.sweep("best", "--study", "l")
    assert fetched.status == 0, fetched.err
    folder = example.folder / "multirun" / "best" / best_run(example).info.run_id
    assert len(list(folder.glob("*.ckpt"))) == 1
    assert (folder / "config.yaml").is_file()


def test_the_best_settings_are_confirmed_with_fresh_seeds(example: Example, studied: Ended) -> None:
    confirmed = example.sweep("confirm", "--study", "l", "--best", "2", "--seeds", "2", "hydra.sweeper.n_jobs=1")
    assert confirmed.status == 0, confirmed.err
    again = example.trials("l-confirm-2x2")
    assert [trial.state for trial in again] == [TrialState.COMPLETE] * 4
    assert len({trial.params["seed"] for trial in again} | {0}) == 3
