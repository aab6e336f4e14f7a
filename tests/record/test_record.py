import http.server
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
import sqlalchemy
from conftest import PROCESSES, ROOT, Project, free_port, wait_for_answer

from sweep.errors import RecordError, Stopped, SweepError, TakenOver, concerns_record
from sweep.goal import Goal
from sweep.outcome import INTERRUPTED, Ended, Outcome
from sweep.record import connect as connecting
from sweep.record import mirror
from sweep.record.connect import connect
from sweep.record.files import read_text
from sweep.record.lifecycle import close_run, open_run, reopen
from sweep.record.run import MLflowRun
from sweep.record.runs import RunRecord, find_run, find_study, runs_in, studies, trials_of
from sweep.record.tags import ERROR_TAG, FOLDER_TAG, KIND_TAG, RUN_FILE, STOPPED_TAG, STUDY_TAG, TRIAL_TAG
from sweep.results.folder import folder_of

GOAL = Goal(["test/accuracy"], ["maximize"], "mine", is_recorded=True)


def test_an_error_closes_the_run_as_failed_with_what_it_said(project: Project) -> None:
    connect()
    with (
        pytest.raises(ZeroDivisionError),
        open_run("mine", "broken", tags={KIND_TAG: "trial"}) as run,
    ):
        run.log_metrics({"train/loss": 1.0}, step=1)
        _ = 1 / 0
    (found,) = project.runs("trial")
    assert found.info.status == "FAILED"
    assert found.data.tags[ERROR_TAG] == "division by zero"
    assert found.data.metrics == {"train/loss": 1.0}


def test_a_trial_that_others_took_over_is_interrupted_whoever_writes_last(
    project: Project,
) -> None:
    connect()
    with open_run("mine", "s", tags={KIND_TAG: "study", STUDY_TAG: "s"}) as parent:
        study = find_run(parent.run_id)
    tags = {KIND_TAG: "trial", TRIAL_TAG: "0"}
    for stopped in (TakenOver("taken over"), Stopped("as an older version closed it"), SweepError("as it ends there")):
        with suppress(Stopped, SweepError), open_run("mine", "trial-000", tags=tags, parent=study) as run:
            raise stopped
        if not isinstance(stopped, TakenOver):
            mirror.settle_runs(GOAL, mirror.Parent("s", None), {0: Ended(Outcome("interrupted", INTERRUPTED))})
        found = find_run(run.run_id)
        assert (found.status, found.tags[ERROR_TAG]) == ("FAILED", INTERRUPTED)
        assert STOPPED_TAG not in found.tags
        project.client().delete_run(run.run_id)


def test_a_run_lasts_as_long_as_it_takes_though_the_clock_is_set_back(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect()
    by_clock = time.time
    with open_run("mine", "run", tags={}) as run:
        monkeypatch.setattr(time, "time", lambda: by_clock() - 3600)
    found = project.client().get_run(run.run_id).info
    assert found.end_time >= found.start_time
    project.client().set_terminated(run.run_id, end_time=found.start_time - 3_598_000)
    assert find_run(run.run_id).seconds == 0


def test_a_run_opened_within_another_is_its_child_only_if_so_said(project: Project) -> None:
    connect()
    with open_run("mine", "study", tags={}) as parent:
        with open_run("mine", "trial", tags={}, parent=find_run(parent.run_id)) as child:
            pass
        assert find_run(parent.run_id).status == "RUNNING"
    found = find_run(child.run_id)
    assert found.tags["mlflow.parentRunId"] == parent.run_id
    assert find_run(parent.run_id).status == "FINISHED"


def test_trials_come_by_their_numbers_however_many_there_are(project: Project) -> None:
    connect()
    with open_run("mine", "s", tags={KIND_TAG: "study", STUDY_TAG: "s"}) as parent:
        for number in (2, 0, 1):
            tags = {TRIAL_TAG: str(number)}
            with open_run("mine", f"trial-{number}", tags=tags, parent=find_run(parent.run_id)):
                pass
    assert [t.trial_number for t in trials_of(find_study("s"))] == [0, 1, 2]


def test_a_setting_is_found_as_a_value_a_group_s_choice_or_a_list(project: Project) -> None:
    connect()
    with open_run("mine", "run", tags={}) as run:
        run.log_params({"optimizer.lr": 0.1, "model.name": "mlp", "model.widths.0": 8, "model.widths.1": 4})
    found = find_run(run.run_id)
    assert found.setting("optimizer.lr") == "0.1"
    assert found.setting("model") == "mlp"
    assert found.setting("model.widths") == "[8,4]"
    assert found.setting("model.depth") == ""


def test_a_deleted_experiment_is_named(project: Project) -> None:
    connect()
    experiment = project.client().create_experiment("gone")
    project.client().delete_experiment(experiment)
    with (
        pytest.raises(SweepError, match=r"^experiment=gone: it was deleted"),
        open_run("gone", "r", tags={}),
    ):
        pass


def test_processes_that_start_at_once_on_a_new_project_make_its_database_once(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    projects = [Project(tmp_path) for _ in range(3)]
    processes = [PROCESSES.Process(target=_connect, args=(project.uri, tmp_path)) for project in projects]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert projects[0].runs("trial") == []


def _connect(uri: str, folder: Path) -> None:
    import os

    os.chdir(folder)
    os.environ["MLFLOW_TRACKING_URI"] = uri
    connect()
    with open_run("shared", "run", tags={}):
        pass


def test_a_server_that_answers_with_errors_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(503)

        do_POST = do_GET

        def log_message(self, *arguments: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(SweepError, match=f"^MLFLOW_TRACKING_URI={uri}: cannot be reached"):
            connect()
        server.shutdown()


def test_an_address_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    with pytest.raises(SweepError, match=r"^MLFLOW_TRACKING_URI=http://\*\*\*@127\.0\.0\.1:9") as caught:
        connect()
    assert "secret" not in str(caught.value)


def test_a_run_is_recorded_and_its_model_fetched_through_a_real_server(tmp_path: Path, empty_record: Path) -> None:
    import shutil

    shutil.copy(empty_record, tmp_path / "server.db")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/server.db",
         "--artifacts-destination", str(tmp_path / "artifacts"), "--port", str(port), "--workers", "1"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for_answer(server, f"http://127.0.0.1:{port}/health")
        project = Project(tmp_path)
        project.env["MLFLOW_TRACKING_URI"] = project.uri = f"http://me:pla%40nted@127.0.0.1:{port}"
        storage = f"sqlite:///file:{tmp_path}/optuna.db?uri=true&password=planted"
        finished = project.train(
            "-m", "hydra/sweeper=optuna", "data=digits", "epochs=1", "hydra.sweeper.study_name=served",
            "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2", f"hydra.sweeper.storage='{storage}'",
        )  # fmt: skip
        assert finished.status == 0, finished.err
        assert f"look    http://***@127.0.0.1:{port}" in finished.out
        fetched = project.best("--output", "mine")
        assert fetched.status == 0, fetched.err
        assert fetched.out.count("as recorded") == 2
        assert not (tmp_path / "mlruns").exists()
        files = [path for path in tmp_path.rglob("*") if path.is_file()]  # what was printed, too
        assert len(files) > 50
        planted = (b"planted", b"pla@nted", b"pla%40nted")
        assert [path for path in files if any(word in path.read_bytes() for word in planted)] == []
    finally:
        server.terminate()
        server.wait()


def test_plain_mlflow_finds_what_was_recorded(project: Project) -> None:
    connect()
    with open_run("mine", "run", tags={}) as run:
        run.log_metrics({"test/accuracy": 0.5}, step=1)
    found = mlflow.search_runs(experiment_names=["mine"])
    assert found["metrics.test/accuracy"].tolist() == [0.5]


@pytest.fixture
def study(project: Project) -> RunRecord:
    """A study's run, with a file."""
    connect()
    tags = {KIND_TAG: "study", STUDY_TAG: "mine"}
    with open_run("made", "mine", tags=tags) as run:
        run.log_text("kept", "a.txt")
    return find_run(run.run_id)


@pytest.fixture
def lock(project: Project) -> Iterator[sqlite3.Connection]:
    """Another process's lock on MLflow's database; SQLite itself waits for it a moment, not MLflow's 20 s."""

    def wait_less(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> Any:
        return statement.replace("busy_timeout = 20000", "busy_timeout = 1"), parameters

    def wait_less_to_open(connection: sqlite3.Connection, _record: Any) -> None:
        connection.execute("PRAGMA busy_timeout = 1")

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", wait_less, retval=True)
    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", wait_less_to_open)
    with closing(sqlite3.connect(project.folder / "mlflow.db", isolation_level=None)) as other:
        yield other
    sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", wait_less)
    sqlalchemy.event.remove(sqlalchemy.Engine, "connect", wait_less_to_open)


def _closed(study: RunRecord) -> bool:
    close_run(study, Outcome("failed", "x"))
    return True


ASKING: dict[str, Callable[[RunRecord], Any]] = {
    "a study": lambda study: find_study("mine").run_id == study.run_id,
    "the newest study": lambda study: find_study(None).run_id == study.run_id,
    "a run": lambda study: find_run(study.run_id).name == "mine",
    "a study to go on with": lambda study: reopen(study.run_id),
    "trials": lambda study: trials_of(study) == [],
    "an experiment": lambda _: runs_in("made") == [],
    "a file": lambda study: read_text(study, "a.txt") == "kept",
    "a file that is missing": lambda study: read_text(study, "b.txt") is None,
    "a log": lambda study: MLflowRun(study.run_id).log_metrics({"m": 1.0}, 1) is None,
    "an end": _closed,
}


@pytest.mark.parametrize("what", ASKING)
def test_a_record_that_is_locked_for_a_moment_costs_no_more_than_the_moment(
    study: RunRecord, lock: sqlite3.Connection, what: str, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    lock.execute("BEGIN EXCLUSIVE")
    slept = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: lock.in_transaction and lock.execute("ROLLBACK"))
    monkeypatch.setattr(connecting, "time", slept)
    assert ASKING[what](study)
    told = capfd.readouterr().err
    assert "waiting up to 10 minutes for MLflow's record: database is locked" in told
    assert "MLflow's record answers again" in told


@pytest.mark.parametrize("what", ASKING)
def test_a_record_that_cannot_be_looked_into_is_not_one_that_is_empty(
    study: RunRecord, lock: sqlite3.Connection, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "SECONDS_OF_PATIENCE", 0)
    lock.execute("BEGIN EXCLUSIVE")
    with pytest.raises(RecordError, match="database is locked") as caught:
        ASKING[what](study)
    assert concerns_record(caught.value)  # so a trial is interrupted by it, and not failed for good


def test_a_database_that_is_locked_at_the_start_is_waited_for(
    project: Project, lock: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    lock.execute("BEGIN EXCLUSIVE")
    slept = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: lock.in_transaction and lock.execute("ROLLBACK"))
    monkeypatch.setattr(connecting, "time", slept)
    connect()
    assert "waiting up to 10 minutes for MLflow's record: database is locked" in capfd.readouterr().err


def test_a_study_that_is_taken_up_while_its_record_is_away_gets_no_second_parent_run(
    study: RunRecord, lock: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(connecting, "SECONDS_OF_PATIENCE", 0)
    lock.execute("BEGIN EXCLUSIVE")
    with pytest.raises(RecordError), mirror.open_study("mine", GOAL, tmp_path, [], study.run_id):
        pass
    lock.execute("ROLLBACK")
    assert [one.run_id for one in studies()] == [study.run_id]


def test_a_file_that_is_there_and_cannot_be_read_is_not_missing(study: RunRecord, project: Project) -> None:
    (file,) = project.folder.glob(f"mlruns/made/{study.run_id}/artifacts/a.txt")
    file.write_bytes(b"\xff")
    with pytest.raises(SweepError, match=r"mine: a\.txt: it is damaged: it is no text"):
        read_text(study, "a.txt")


@pytest.mark.parametrize(
    "name", ["/Shared/x", "..", "a/../../b", "~", "a b/c", "%2e%2e", "Ziffern", "\u6570\u5b57", "x" * 400]
)
def test_an_experiment_of_any_name_keeps_its_files_in_mlruns(project: Project, name: str) -> None:
    before = set(project.folder.rglob("*"))
    connect()
    with open_run(name, "r", tags={KIND_TAG: "trial"}) as run:
        run.log_text("x", "x.txt")
    assert read_text(find_run(run.run_id), "x.txt") == "x"
    made = {path.relative_to(project.folder).parts for path in set(project.folder.rglob("*")) - before}
    assert {parts[0] for parts in made} - {"mlflow.db.lock"} == {"mlruns"}
    assert ("mlruns",) in made
    assert len({parts[1] for parts in made if len(parts) > 1}) == 1


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "a\x00", "x" * 600])
def test_an_experiment_s_name_that_cannot_be_one_is_refused(
    project: Project, compose: Callable[..., Any], name: str
) -> None:
    with pytest.raises(SweepError, match=r"^tracking\.experiment=") as caught:
        compose(f"tracking.experiment='{name}'")
        connect()
        open_run(name, "r", tags={}).__enter__()
    assert "deleted" not in str(caught.value)


@pytest.mark.parametrize("name", ["../../x", "/etc", "a;b", "$(id)", "a b", "-x", ""])
def test_a_study_whose_name_none_made_here_can_have_is_not_found(project: Project, name: str) -> None:
    connect()
    with open_run("made", "x", tags={KIND_TAG: "study", STUDY_TAG: name}):
        pass
    assert studies() == []
    with pytest.raises(SweepError, match="no study"):
        find_study(name)


def test_a_study_s_folder_is_taken_from_its_record_only_if_the_folder_says_the_same(
    study: RunRecord, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    named = study._replace(tags=study.tags | {FOLDER_TAG: str(folder)})
    assert folder_of(named) == ROOT / "multirun" / "mine"
    (folder / RUN_FILE).write_text("another")
    assert folder_of(named) == ROOT / "multirun" / "mine"
    (folder / RUN_FILE).write_text(study.run_id)
    assert folder_of(named) == folder


def test_what_a_record_says_cannot_steer_a_terminal(project: Project) -> None:
    connect()
    with open_run("made", "r\x1b[2J", tags={"t": "a\nb", TRIAL_TAG: "x"}) as run:
        run.log_params({"p": "\x07"})
    found = find_run(run.run_id)
    assert (found.name, found.tags["t"], found.params["p"]) == (r"r\x1b[2J", r"a\nb", r"\x07")
    with pytest.raises(SweepError, match=r"its tag sweep\.trial is damaged"):
        _ = found.trial_number


@pytest.mark.parametrize("kind", ["a file", "under a file"])
def test_an_experiment_whose_place_cannot_be_written_is_named_before_training(project: Project, kind: str) -> None:
    (project.folder / "file").write_text("")
    place = project.folder / "file" / ("" if kind == "a file" else "below")
    project.client().create_experiment("elsewhere", artifact_location=f"file://{place}")
    refused = project.train(
        "-m", "hydra/sweeper=optuna", "data=digits", "hydra.sweeper.study_name=tiny", "tracking.experiment=elsewhere"
    )
    assert refused.status == 1
    assert f"error: experiment=elsewhere: MLflow keeps its files in {place}, which cannot be written" in refused.err
    assert refused.err.count("\n") == 1
    assert not (project.folder / "multirun").exists()
    assert project.runs("study") == []
