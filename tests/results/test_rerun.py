"""Training a logged run again."""

import os
import re
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
import torch
from conftest import Finished, Project, inputs_of
from mlflow.entities import Run

from sweep.digits.job import DEVICE_TAG, DIGITS, PRECISION_TAG, PROCESSOR_TAG, THREADS_TAG, TORCH_TAG
from sweep.record.runs import RunRecord
from sweep.record.tags import (
    COMMIT_TAG,
    DIRTY_TAG,
    RERUN_TAG,
    STUDY_TAG,
    TRIAL_TAG,
)
from sweep.results.repetition import differing_metrics, why

# A grid of three learning rates, of which it is certain how they end: one is pruned after its first epoch, with
# one guess in ten right, and one diverges in it.
STUDY = (
    "-m", "hydra/sweeper=optuna", "hydra.sweeper.study_name=s", "data=digits", "epochs=2", "num_threads=1",
    "model.widths=[16]", "model.dropout=0.2", "model.batch_norm=false", "data.shift=1", "data.batch_size=64",
    "optimizer=sgd", "optimizer.lr=choice(0.05,1e-6,1e30)", "hydra.sweeper.n_jobs=1",
    "hydra/sweeper/sampler=grid", "hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.lower=0.15",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A study with a trial that finished, one that was pruned and one that failed; what a test changes it puts back."""
    project = Project(tmp_path_factory.mktemp("trained"))
    finished = project.train(*STUDY)
    assert finished.status == 0, finished
    return project


def trial(project: Project, status: str) -> Run:
    """The trial that ended so."""
    (found,) = [run for run in project.runs("trial") if run.info.status == status]
    return found


def rerun(project: Project, run: Run) -> Finished:
    """`sweep rerun` of `run`."""
    return project.run("rerun", run.info.run_id)


@contextmanager
def changed(project: Project, change: str, undo: str, *values: object) -> Iterator[None]:
    """The record with an SQL statement done to it, and then `undo`."""
    for statement in (change, undo):
        with closing(sqlite3.connect(project.folder / "mlflow.db")) as database, database:
            assert database.execute(statement, values).rowcount == 1
        if statement == change:
            yield


def test_a_run_trained_again_on_one_thread_is_the_same_bit_for_bit(trained: Project) -> None:
    run = trial(trained, "FINISHED")
    finished = rerun(trained, run)
    assert finished.status == 0, finished
    assert "\nthe same, bit for bit: 3 metrics in 2 epochs, and what was kept\n" in finished.out
    again = trained.runs("rerun")[-1]
    assert again.info.status == "FINISHED"
    assert again.info.experiment_id == run.info.experiment_id
    assert again.info.run_name == f"rerun-of-{run.info.run_name}"
    assert again.data.tags[RERUN_TAG] == run.info.run_id
    assert again.data.metrics == run.data.metrics
    assert finished.out.endswith(f"recorded as {again.info.run_name} ({again.info.run_id})\n")


def test_a_pruned_run_is_trained_to_the_epoch_it_reached_and_compared_up_to_there(trained: Project) -> None:
    finished = rerun(trained, trial(trained, "KILLED"))
    assert finished.status == 0, finished
    assert "epoch 1/2" in finished.out
    assert "epoch 2/2" not in finished.out
    assert "the same, bit for bit: 3 metrics in 1 epoch; nothing else, since the run did not fin" in finished.out
    assert trained.runs("rerun")[-1].info.status == "KILLED"


def test_a_run_that_failed_is_the_same_if_it_fails_with_the_same_error(trained: Project) -> None:
    run = trial(trained, "FAILED")
    finished = rerun(trained, run)
    assert finished.status == 0, finished
    assert (
        f"the same, bit for bit: it ended before its first epoch did, with {run.data.tags['sweep.error']}\n"
        in finished.out
    )
    assert finished.err == ""
    client = trained.client()
    client.set_tag(run.info.run_id, "sweep.error", "out of memory")
    other = rerun(trained, run)
    client.set_tag(run.info.run_id, "sweep.error", run.data.tags["sweep.error"])
    assert other.status == 1
    assert "not the same\n  then  out of memory\n  now   train/loss=" in other.out


def test_reruns_are_no_trials_of_the_study_and_are_not_found_as_its_best(trained: Project) -> None:
    run = trial(trained, "FINISHED")
    assert rerun(trained, run).status == 0
    for choice in ("--study", "s"), ("--experiment", "digits"):
        assert f"of 3 runs by test/accuracy is {run.info.run_name} ({run.info.run_id})" in trained.best(*choice).out
    again = trained.runs("rerun")[-1]
    assert {"mlflow.parentRunId", STUDY_TAG, TRIAL_TAG}.isdisjoint(again.data.tags)


def test_a_metric_that_was_tampered_with_is_named_with_its_epoch(trained: Project) -> None:
    run = trial(trained, "FINISHED")
    where = "WHERE key = 'test/loss' AND step = 1 AND run_uuid = ?"
    with changed(
        trained,
        f"UPDATE metrics SET value = value * 2 {where}",
        f"UPDATE metrics SET value = value / 2 {where}",
        run.info.run_id,
    ):
        finished = rerun(trained, run)
    assert finished.status == 1
    assert re.search(r"\nnot the same\n  test/loss: \S+ then, \S+ now, after epoch 1\nit may be because", finished.out)


def test_a_weight_that_was_tampered_with_is_found(trained: Project) -> None:
    run = trial(trained, "FINISHED")
    (file,) = trained.folder.glob(f"mlruns/*/{run.info.run_id}/artifacts/weights.pt")
    intact = file.read_bytes()
    weights = torch.load(file)
    weights["network.0.weight"][3, 5] += 0.25
    torch.save(weights, file)
    finished = rerun(trained, run)
    file.write_bytes(intact)
    assert finished.status == 1
    assert "weights: 1 differ, in 1 of 6 tensors, by up to 0.25 (in network.0.weight)" in finished.out


def test_other_data_than_it_was_trained_on_are_refused_before_training(trained: Project) -> None:
    run = trial(trained, "FINISHED")
    num_reruns = len(trained.runs("rerun"))
    (dataset,) = inputs_of(run)
    digest = dataset.dataset.digest
    change = "UPDATE datasets SET digest = '{}' WHERE digest = '{}'"
    with changed(trained, change.format("0123", digest), change.format(digest, "0123")):
        finished = rerun(trained, run)
    assert finished.status == 1
    assert re.fullmatch(
        r"error: run=\w+: \S+: digits is not the same here as it was trained on [^\n]+recorded 0123[^\n]+\n",
        finished.err,
    )
    assert len(trained.runs("rerun")) == num_reruns


def test_an_interrupted_run_is_compared_up_to_the_epoch_it_reached_and_an_interrupted_rerun_ends_quietly(
    project: Project,
) -> None:
    small = ("data=digits", "epochs=200", "num_threads=1", "model.widths=[16]")
    started = project.start("train.py", f"output_dir={project.folder}", *small)
    started.wait_for(lambda: "epoch 20/" in started.out)
    os.kill(started.process.pid, signal.SIGINT)
    assert started.wait().status == 130
    (run,) = project.runs("trial")
    again = project.start("rerun", run.info.run_id)
    again.wait_for(lambda: "epoch 1/" in again.out)
    os.kill(again.process.pid, signal.SIGINT)
    ended = again.wait()
    assert (ended.status, ended.err) == (130, "")
    assert project.runs("rerun")[0].data.tags["sweep.error"] == "interrupted"
    finished = rerun(project, run)
    assert finished.status == 0, finished
    assert re.search(r"same, bit for bit: 3 metrics in \d+ epochs; [^\n]*: interrupted\n", finished.out)


def test_what_cannot_be_trained_again_is_told_in_one_line(trained: Project) -> None:
    client = trained.client()
    (study,) = trained.runs("study")
    first = min(trained.runs("trial"), key=lambda run: run.data.tags[TRIAL_TAG])
    experiment, parent = study.info.experiment_id, {"mlflow.parentRunId": study.info.run_id}
    copy = client.create_run(experiment, run_name="c", tags=parent | {"sweep.copy_of": "0", "sweep.trial": "8"})
    bare = client.create_run(experiment, run_name="bare")
    client.set_terminated(bare.info.run_id)
    for run_id, message in [
        ("abc", "run=abc: MLflow knows no run with this id"),
        (study.info.run_id, f"s is a study; give one of its trials, such as {first.info.run_name}: sweep rerun"),
        (
            copy.info.run_id,
            f"c is a copy and was not trained itself; its twin was: sweep rerun {first.info.run_id}",
        ),
        (bare.info.run_id, "bare is FINISHED and has no config.yaml to train it from; give a run that was trained"),
    ]:
        finished = trained.run("rerun", run_id)
        assert (finished.status, finished.out) == (1, "")
        assert finished.err.startswith("error: run=")
        assert message in finished.err
        assert finished.err.count("\n") == 1
    running = client.create_run(experiment, run_name="running")
    assert "running is still RUNNING, or its process has died" in rerun(trained, running).err
    for made in (copy, bare, running):
        client.delete_run(made.info.run_id)


def record(**tags: str) -> RunRecord:
    alike = {
        COMMIT_TAG: "abc", DIRTY_TAG: "false", TORCH_TAG: "2.15", DEVICE_TAG: "cpu",
        PROCESSOR_TAG: "AVX512", PRECISION_TAG: "float32", THREADS_TAG: "1",
    }  # fmt: skip
    return RunRecord("id", "1", "run", "FINISHED", {}, {}, alike | tags, 1.0)


@pytest.mark.parametrize(
    ("tag", "value", "reason"),
    [
        (COMMIT_TAG, "def", "the code: abc then, def now"),
        (DIRTY_TAG, "true", "the code: some files were not as committed now, and may have mattered"),
        (TORCH_TAG, "2.16", "torch: 2.15 then, 2.16 now"),
        (PROCESSOR_TAG, "AVX2", "the processor: AVX512 then, AVX2 now"),
        (PRECISION_TAG, "bfloat16", "the precision: float32 then, bfloat16 now"),
        (THREADS_TAG, "2", "2 threads: they may add in another order each time"),
        (DEVICE_TAG, "cuda", "cuda: some of its kernels may add in another order each time"),
    ],
)
def test_what_may_have_made_a_difference_is_told(tag: str, value: str, reason: str) -> None:
    assert reason in why(record(), record(**{tag: value}), DIGITS)


def test_without_a_recorded_difference_the_record_itself_is_in_doubt() -> None:
    (reason,) = why(record(), record(), DIGITS)
    assert reason.startswith("nothing that is recorded")


def test_a_metric_differs_by_any_epoch_that_is_missing_or_not_the_same() -> None:
    then = {"a": {1: 0.5, 2: 0.5}, "b": {1: 0.1, 2: 0.2}, "same": {1: 1.0}}
    now = {"a": {1: 0.5}, "b": {1: 0.4, 2: 0.2 + 1e-16}, "same": {1: 1.0}, "new": {1: 3.0}}
    assert differing_metrics(then, now) == [("a", 2, 0.5, None), ("b", 1, 0.1, 0.4), ("new", 1, None, 3.0)]
