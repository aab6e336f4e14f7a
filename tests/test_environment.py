import os
from contextlib import AbstractContextManager
from pathlib import Path

import mlflow
import pytest
from conftest import Project
from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_TYPE

from sweep import environment
from sweep.errors import SweepError
from sweep.record.connect import connect
from sweep.record.lifecycle import open_run
from sweep.record.place import outermost
from sweep.record.run import MLflowRun
from sweep.record.runs import RunRecord, find_run
from sweep.record.tags import KIND_TAG


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "given", {})


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("sqlite:///my.db", "sqlite:///{folder}/my.db"),
        ("sqlite:///../my.db", "sqlite:///{parent}/my.db"),
        ("sqlite+pysqlite:///my.db?timeout=9", "sqlite+pysqlite:///{folder}/my.db?timeout=9"),
        ("sqlite:///~/my.db", "sqlite:///{home}/my.db"),
        ("sqlite:////srv/my.db", "sqlite:////srv/my.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("./mlruns", "{folder}/mlruns"),
        ("runs", "{folder}/runs"),
        ("file:runs", "file://{folder}/runs"),
        ("file:///srv/runs", "file:///srv/runs"),
        ("http://me:pw@host:5000/a", "http://me:pw@host:5000/a"),
        ("postgresql+psycopg://me@host/db", "postgresql+psycopg://me@host/db"),
        ("databricks", "databricks"),
    ],
)
def test_an_address_means_the_same_in_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    absolute = expected.format(folder=tmp_path, parent=tmp_path.parent, home="/home/me")
    for name in environment.ADDRESSES:
        monkeypatch.setenv(name, address)
    environment.settle()
    assert [os.environ[name] for name in environment.ADDRESSES] == [absolute, absolute]
    monkeypatch.chdir(tmp_path.parent)
    environment.settle()
    assert os.environ["MLFLOW_TRACKING_URI"] == absolute


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("./runs", "/runs: MLflow keeps no record in a plain folder now; give a database"),
        ("file:///srv/runs", "=file:///srv/runs: MLflow keeps no record in a plain folder now"),
        ("sqlite://", "=sqlite://: it names no database file; give a database"),
        ("sqlite:///:memory:", "=sqlite:///:memory:: it names no database file"),
        ("sqlite:my.db", "=sqlite:my.db: it names no database file"),
        ("htp://host", "=htp://host: no address that MLflow takes; one begins with databricks"),
    ],
)
def test_an_address_that_mlflow_does_not_take_is_refused_in_one_line(
    project: Project, monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(SweepError) as caught:
        connect()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("state", ["running", "finished", "deleted", "absent", "no id"])
def test_a_run_that_the_environment_names_is_never_touched(
    project: Project, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    client = project.client()
    run_id = {"absent": "0" * 32, "no id": "../x"}.get(state) or client.create_run("0").info.run_id
    if state == "finished":
        client.set_terminated(run_id)
    if state == "deleted":
        client.delete_run(run_id)
    is_there = state not in ("absent", "no id")
    before = client.get_run(run_id).to_dictionary() if is_there else None
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    connect()
    with pytest.raises(SweepError, match=r"^MLFLOW_RUN_ID=.*; unset MLFLOW_RUN_ID$"), _open("study"):
        pass
    if is_there:
        assert client.get_run(run_id).to_dictionary() == before
    assert project.runs("study") == []


@pytest.mark.parametrize("name", [name for name in environment.OF_ONE_RUN if name != environment.RUN_ID])
def test_where_runs_belong_is_not_taken_from_the_environment(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "mine")
    connect()
    with pytest.raises(SweepError, match=f"^{name}=mine: .*; unset it"), _open("study"):
        pass
    assert mlflow.get_experiment_by_name("mine") is None


def test_the_run_of_an_mlflow_run_is_the_outermost_one_alone(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = _opened_by_mlflow_run(project)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    connect()
    with _open("study") as study, _open("trial", find_run(study.run_id)) as trial:
        pass
    assert study.run_id == run_id
    assert trial.run_id != run_id
    with pytest.raises(SweepError, match=r"^MLFLOW_RUN_ID="), _open("study"):  # once only
        pass
    with pytest.raises(SweepError, match="the study goes on in its own run"):
        outermost(trial.run_id)


def test_a_study_under_mlflow_run_with_relative_addresses_is_one_record_whatever_folder_its_jobs_work_in(
    project: Project,
) -> None:
    run_id = _opened_by_mlflow_run(project)
    finished = project.train(
        "-m", "hydra/sweeper=optuna", "data=digits", "epochs=1", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2",
        "hydra.job.chdir=true",
        MLFLOW_TRACKING_URI="sqlite:///mlflow.db", MLFLOW_RUN_ID=run_id, MLFLOW_EXPERIMENT_ID="0",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    assert "2 trials, 2 finished" in finished.out
    assert [str(path.relative_to(project.folder)) for path in project.folder.rglob("*.db")] == ["mlflow.db"]
    assert [run.info.run_id for run in project.runs("study")] == [run_id]
    trials = project.runs("trial")
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {run_id}
    assert {run.info.status for run in trials} == {"FINISHED"}


def _opened_by_mlflow_run(project: Project) -> str:
    return project.client().create_run("0", tags={MLFLOW_SOURCE_TYPE: "PROJECT"}).info.run_id


def _open(kind: str, parent: RunRecord | None = None) -> AbstractContextManager[MLflowRun]:
    return open_run("made", kind, tags={KIND_TAG: kind}, parent=parent)
