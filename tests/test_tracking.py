import http.server
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest
from conftest import PROCESSES, Project, free_port, wait_for_answer

from sweep import record, tracking
from sweep.config import Config
from sweep.errors import Stopped, SweepError, TakenOver


def test_an_error_closes_the_run_as_failed_with_what_it_said(project: Project) -> None:
    tracking.connect()
    with (
        pytest.raises(ZeroDivisionError),
        tracking.open_run("mine", "broken", tags={tracking.KIND_TAG: "trial"}) as run,
    ):
        run.log_metrics({"train/loss": 1.0}, step=1)
        _ = 1 / 0
    (found,) = project.runs("trial")
    assert found.info.status == "FAILED"
    assert found.data.tags[tracking.ERROR_TAG] == "division by zero"
    assert found.data.metrics == {"train/loss": 1.0}


def test_a_trial_that_others_took_over_is_interrupted_whoever_writes_last(
    project: Project, compose: Callable[..., Config]
) -> None:
    job = compose("data=digits", "tracking.experiment=mine")
    tracking.connect()
    with tracking.open_run("mine", "s", tags={tracking.KIND_TAG: "study", tracking.STUDY_TAG: "s"}) as parent:
        study = tracking.find_run(parent.run_id)
    tags = {tracking.KIND_TAG: "trial", tracking.TRIAL_TAG: "0"}
    for stopped in (TakenOver("taken over"), Stopped("as an older version closed it"), SweepError("as it ends there")):
        with suppress(Stopped, SweepError), tracking.open_run("mine", "trial-000", tags=tags, parent=study) as run:
            raise stopped
        if not isinstance(stopped, TakenOver):
            record.settle("s", job, project.folder, {0: record.Ending("FAILED", tracking.INTERRUPTED)})
        found = tracking.find_run(run.run_id)
        assert (found.status, found.tags[tracking.ERROR_TAG]) == ("FAILED", tracking.INTERRUPTED)
        assert tracking.STOPPED_TAG not in found.tags
        project.client().delete_run(run.run_id)


def test_a_run_lasts_as_long_as_it_takes_though_the_clock_is_set_back(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking.connect()
    by_clock = time.time
    with tracking.open_run("mine", "run", tags={}) as run:
        monkeypatch.setattr(time, "time", lambda: by_clock() - 3600)
    found = project.client().get_run(run.run_id).info
    assert found.end_time >= found.start_time
    project.client().set_terminated(run.run_id, end_time=found.start_time - 3_598_000)
    assert tracking.find_run(run.run_id).seconds == 0


def test_a_run_opened_within_another_is_its_child_only_if_so_said(project: Project) -> None:
    tracking.connect()
    with tracking.open_run("mine", "study", tags={}) as parent:
        with tracking.open_run("mine", "trial", tags={}, parent=tracking.find_run(parent.run_id)) as child:
            pass
        assert tracking.find_run(parent.run_id).status == "RUNNING"
    found = tracking.find_run(child.run_id)
    assert found.tags["mlflow.parentRunId"] == parent.run_id
    assert tracking.find_run(parent.run_id).status == "FINISHED"


def test_trials_come_by_their_numbers_however_many_there_are(project: Project) -> None:
    tracking.connect()
    with tracking.open_run("mine", "s", tags={tracking.KIND_TAG: "study", tracking.STUDY_TAG: "s"}) as parent:
        for number in (2, 0, 1):
            tags = {tracking.TRIAL_TAG: str(number)}
            with tracking.open_run("mine", f"trial-{number}", tags=tags, parent=tracking.find_run(parent.run_id)):
                pass
    assert [t.trial_number for t in tracking.trials_of(tracking.find_study("s"))] == [0, 1, 2]


def test_a_setting_is_found_as_a_value_a_group_s_choice_or_a_list(project: Project) -> None:
    tracking.connect()
    with tracking.open_run("mine", "run", tags={}) as run:
        run.log_params({"optimizer.lr": 0.1, "model.name": "mlp", "model.widths.0": 8, "model.widths.1": 4})
    found = tracking.find_run(run.run_id)
    assert found.setting("optimizer.lr") == "0.1"
    assert found.setting("model") == "mlp"
    assert found.setting("model.widths") == "[8,4]"
    assert found.setting("model.depth") == ""


def test_a_deleted_experiment_is_named(project: Project) -> None:
    tracking.connect()
    experiment = project.client().create_experiment("gone")
    project.client().delete_experiment(experiment)
    with (
        pytest.raises(SweepError, match=r"^tracking\.experiment=gone: it was deleted"),
        tracking.open_run("gone", "r", tags={}),
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
    tracking.connect()
    with tracking.open_run("shared", "run", tags={}):
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
            tracking.connect()
        server.shutdown()


def test_an_address_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    with pytest.raises(SweepError, match=r"^MLFLOW_TRACKING_URI=http://\*\*\*@127\.0\.0\.1:9") as caught:
        tracking.connect()
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
        project.env["MLFLOW_TRACKING_URI"] = project.uri = f"http://127.0.0.1:{port}"
        finished = project.train("-m", "data=digits", "epochs=1", "seed=0,1", "hydra.sweeper.study_name=served")
        assert finished.status == 0, finished.err
        assert f"look    http://127.0.0.1:{port}" in finished.out
        fetched = project.best("--output", "mine")
        assert fetched.status == 0, fetched.err
        assert fetched.out.count("as recorded") == 2
        assert not (tmp_path / "mlruns").exists()
    finally:
        server.terminate()
        server.wait()


def test_plain_mlflow_finds_what_was_recorded(project: Project) -> None:
    tracking.connect()
    with tracking.open_run("mine", "run", tags={}) as run:
        run.log_metrics({"test/accuracy": 0.5}, step=1)
    found = mlflow.search_runs(experiment_names=["mine"])
    assert found["metrics.test/accuracy"].tolist() == [0.5]
