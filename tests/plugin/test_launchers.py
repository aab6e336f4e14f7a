"""Studies beyond one machine: Hydra's launchers under the same slots, and databases in place of files."""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import pytest
from conftest import Finished, Project, Started, models_of
from hydra.errors import MissingConfigException
from optuna.trial import TrialState
from test_public_apps import SPHERE, SPHERE_CONF, App

from sweep.errors import explain, without_password
from sweep.plugin import workers
from sweep.record.tags import STOPPED_TAG, TRIAL_TAG
from sweep.study import storage as storages
from sweep.study.trials import ERROR, OUTCOME, OWNER, WORKER

# A grid, so that what is tried is certain, and bounds of which it is certain who leaves them: one of the
# learning rates is so low that the first epoch ends with one guess in ten right.
STUDY = (
    "-m", "hydra/sweeper=optuna", "hydra.sweeper.study_name=tiny", "data=digits", "epochs=3", "model.widths=[16]",
    "model.dropout=0", "data.batch_size=64", "optimizer.lr=choice(0.01,0.02,0.03,1e-6)", "hydra.sweeper.n_jobs=2",
    "hydra/sweeper/sampler=grid", "hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.lower=0.3",
)  # fmt: skip
LONG = "epochs=40"  # some seconds

PASSWORD = "not-to-be-told"
MLFLOW_STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}


def find(project: Project, storage: str | None = None) -> optuna.Study | None:
    return storages.stored_study(storage or str(project.folder / "multirun" / "tiny" / "optuna.journal"), "tiny")


def study_of(project: Project, storage: str | None = None) -> optuna.Study:
    found = find(project, storage)
    assert found is not None
    return found


def start(project: Project, *overrides: str, **env: str) -> Started:
    return project.start("train.py", f"output_dir={project.folder / 'multirun'}", *STUDY, *overrides, **env)


def workers_of(made: optuna.Study) -> dict[int, int]:
    """The process of each trial's job, once it has begun."""
    return {
        trial.number: int(trial.user_attrs[WORKER].split()[-1]) for trial in made.trials if WORKER in trial.user_attrs
    }


def running(project: Project) -> dict[int, int]:
    """The processes whose jobs train at this moment and will not be pruned, by their trials' numbers."""
    made = find(project)
    if made is None:
        return {}
    training = {
        trial.number
        for trial in made.trials
        if trial.state == TrialState.RUNNING and (trial.last_step or 0) > 1 and OUTCOME not in trial.user_attrs
    }
    return {number: pid for number, pid in workers_of(made).items() if number in training}


def kill_one(project: Project, started: Started) -> int:
    """Kill a process whose job trains, and return its trial's number."""
    killed: list[int] = []

    def kill() -> list[int]:
        for number, pid in list(running(project).items())[:1]:
            os.kill(pid, signal.SIGSTOP)  # else it might be at its end, or at another trial, by the time it is killed
            is_caught = running(project).get(number) == pid
            os.kill(pid, signal.SIGKILL if is_caught else signal.SIGCONT)
            killed.extend([number] * is_caught)
        return killed

    started.wait_for(kill)
    return killed[0]


def assert_optuna_and_mlflow_agree(
    project: Project, made: optuna.Study, *, finished: int, pruned: int = 0, failed: int = 0
) -> None:
    """On how many trials ended how, one by one, under the one parent."""
    counted = Counter({TrialState.COMPLETE: finished, TrialState.PRUNED: pruned, TrialState.FAIL: failed})
    errors = [trial.user_attrs[ERROR] for trial in made.trials if ERROR in trial.user_attrs]
    assert Counter(trial.state for trial in made.trials) == +counted, errors
    (parent,) = project.runs("study")
    assert parent.info.status == "FINISHED"
    runs = {int(run.data.tags[TRIAL_TAG]): run for run in project.runs("trial")}
    assert len(runs) == len(project.runs("trial"))
    assert {trial.number: MLFLOW_STATUS[trial.state] for trial in made.trials} == {
        number: run.info.status for number, run in runs.items()
    }
    for run in runs.values():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert (run.info.status == "KILLED") == (STOPPED_TAG in run.data.tags)
        assert (run.info.status == "FINISHED") == bool(models_of(run))


def assert_a_study_pruned_one_of_four(project: Project, started: Started) -> Finished:
    """In other processes than the study's own, and with nothing on the terminal but the study's lines."""
    finished = started.wait()
    assert finished.status == 0, finished.err
    made = study_of(project)
    assert_optuna_and_mlflow_agree(project, made, finished=3, pruned=1)
    (pruned,) = (trial for trial in made.trials if trial.state == TrialState.PRUNED)
    assert pruned.params["optimizer.lr"] == 1e-6
    assert len(workers_of(made)) == 4
    assert started.process.pid not in workers_of(made).values()
    assert finished.err == ""
    assert finished.out.splitlines()[0].startswith("study tiny: searching optimizer.lr")
    assert len(re.findall(r"^trial +\d", finished.out, re.MULTILINE)) == 4
    return finished


def test_joblib_runs_a_study_with_pruning(project: Project) -> None:
    started = start(project, "hydra/launcher=joblib")
    assert_a_study_pruned_one_of_four(project, started)
    assert len(set(workers_of(study_of(project)).values())) == 2  # the slots share two processes, which stay


def test_a_study_goes_on_when_a_process_of_joblib_s_is_killed(project: Project) -> None:
    """Joblib then ends all of its processes, so that every trial that runs fails; the next ones get new processes."""
    started = start(project, "hydra/launcher=joblib", LONG)
    number = kill_one(project, started)
    finished = started.wait()
    assert finished.status == 0, finished.err
    made = study_of(project)
    assert "SIGKILL" in made.trials[number].user_attrs[ERROR]
    num = Counter(trial.state for trial in made.trials)
    assert 1 <= num[TrialState.FAIL] <= 2
    assert_optuna_and_mlflow_agree(
        project, made, finished=4 - num[TrialState.FAIL] - num[TrialState.PRUNED], pruned=num[TrialState.PRUNED],
        failed=num[TrialState.FAIL],
    )  # fmt: skip


def test_submitit_runs_a_study_with_pruning_in_processes_of_its_own(project: Project) -> None:
    started = start(project, "hydra/launcher=submitit_local")
    assert_a_study_pruned_one_of_four(project, started)
    assert len(set(workers_of(study_of(project)).values())) == 4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hydra/launcher=submitit_slurm"], "error: hydra/launcher=submitit_slurm: there is no Slurm here"),
        (
            ["hydra/launcher=ray", "hydra.launcher.ray.init.address=127.0.0.1:1"],
            "error: hydra.launcher.ray.init.address=127.0.0.1:1: no Ray cluster answers there",
        ),
        (
            ["hydra/launcher=submitit_local", "hydra.sweeper.n_jobs=auto"],
            "error: hydra.sweeper.n_jobs=auto: only this machine and a Ray cluster can be counted",
        ),
    ],
)
def test_a_launcher_with_nothing_to_run_jobs_on_is_refused_before_trial_0(
    project: Project, overrides: list[str], message: str
) -> None:
    if shutil.which("srun") and "slurm" in message:
        pytest.skip("there is a Slurm here")
    for sweeper in ([*STUDY, "hydra.sweeper.n_trials=4"], ["-m", "data=digits", "seed=0,1"]):
        is_grid = "hydra.sweeper.n_jobs=2" not in sweeper
        if is_grid and "hydra.sweeper.n_jobs=auto" in overrides:
            continue  # such a launcher is given all jobs of a grid at once
        finished = project.train(*sweeper, *overrides)
        assert finished.status == 1
        assert finished.err.startswith(message)
        assert finished.err.count("\n") == 1
    assert project.runs("study") == []
    assert not (project.folder / "multirun" / "tiny").exists()


@pytest.mark.parametrize(
    ("launcher", "extra"), [("ray", "ray"), ("ray_aws", "ray"), ("submitit_slurm", "submitit"), ("joblib", "joblib")]
)
def test_a_launcher_that_is_not_installed_is_told_with_how_to_install_it(launcher: str, extra: str) -> None:
    missing = MissingConfigException("not found", f"hydra/launcher/{launcher}", options=["basic"])
    assert explain(missing) == f"hydra/launcher={launcher}: it is not installed; pip install -e '.[{extra}]'"


def test_a_launcher_that_does_not_exist_is_told_with_those_that_do() -> None:
    missing = MissingConfigException("not found", "hydra/launcher/ray_gpc", options=["basic", "ray", "ray_aws"])
    assert explain(missing) == "hydra/launcher=ray_gpc: choose one of basic, ray, ray_aws"


class Cluster(NamedTuple):
    """A Ray cluster of two nodes with a CPU each."""

    address: str
    nodes: list[subprocess.Popen[bytes]]

    def node_of(self, pid: int) -> int | None:
        """Which node a process belongs to, None if it is gone: Ray's daemon starts it, `ray start` the daemon."""
        daemon = parent_of(pid)
        starter = None if daemon is None else parent_of(daemon)
        return next((i for i, node in enumerate(self.nodes) if node.pid == starter), None)


def parent_of(pid: int) -> int | None:
    said = subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return int(said) if said.strip() else None


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Its nodes know nothing of the tests' record."""
    pytest.importorskip("ray", reason="needs Ray: pip install -e '.[ray]'")
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "SWEEP_", "RAY_"))}
    common = ("--block", "--num-cpus=1", "--disable-usage-stats", "--object-store-memory=80000000",
              "--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0")  # fmt: skip
    command = (sys.executable, "-m", "ray.scripts.scripts", "start", *common)
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as made:  # a socket's path is short
        folder = Path(made)

        def is_up(i: int) -> Callable[[], bool]:
            return lambda: "Ray runtime started" in (folder / f"{i}.log").read_text()

        head = ("--head", f"--port={port}", f"--ray-client-server-port={free_port()}", "--include-dashboard=false",
                f"--temp-dir={folder}")  # fmt: skip
        with (
            daemon([*command, *head], folder / "0.log", is_up(0), env=env) as first,
            daemon([*command, f"--address=127.0.0.1:{port}"], folder / "1.log", is_up(1), env=env) as second,
        ):
            yield Cluster(f"127.0.0.1:{port}", [first, second])


def test_a_ray_cluster_runs_a_study_with_pruning_on_both_of_its_nodes(project: Project, cluster: Cluster) -> None:
    """As many trials at a time as it has CPUs, and the record is found from nodes that were started without it."""
    started = start(
        project, "hydra/launcher=ray", f"hydra.launcher.ray.init.address={cluster.address}", "hydra.sweeper.n_jobs=auto"
    )
    nodes: set[int | None] = set()
    while started.process.is_alive():
        if made := find(project):
            nodes |= {cluster.node_of(pid) for pid in workers_of(made).values()}
        time.sleep(0.1)
    finished = assert_a_study_pruned_one_of_four(project, started)
    assert finished.out.splitlines()[1].startswith("2 trials at a time")
    assert nodes - {None} == {0, 1}


def test_a_job_whose_process_on_a_ray_cluster_is_killed_fails_and_is_not_run_again(
    project: Project, cluster: Cluster
) -> None:
    started = start(project, "hydra/launcher=ray", f"hydra.launcher.ray.init.address={cluster.address}", LONG)
    number = kill_one(project, started)
    finished = started.wait()
    assert finished.status == 0, finished.err
    made = study_of(project)
    assert_optuna_and_mlflow_agree(project, made, finished=2, pruned=1, failed=1)
    assert made.trials[number].state == TrialState.FAIL
    assert f"trial {number:>3}  failed: " in finished.out


class Postgres(NamedTuple):
    """A PostgreSQL server."""

    port: int

    def make_database(self, name: str) -> str:
        """Make it, and return its URL."""
        import psycopg

        server = f"postgresql://sweep:{PASSWORD}@127.0.0.1:{self.port}"
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"{server.replace('postgresql', 'postgresql+psycopg')}/{name}"


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    pytest.importorskip("psycopg", reason="needs psycopg: pip install -e '.[postgres]'")
    programs = postgres_programs()
    if programs is None:
        pytest.skip("needs PostgreSQL's server: apt-get install postgresql")
    port = free_port()
    # The server refuses to run as root, and its data must be its own user's.
    nobody = pwd.getpwnam("nobody")
    user: dict[str, Any] = (
        {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    )
    with tempfile.TemporaryDirectory(prefix="postgres-") as made:
        folder = Path(made)
        (folder / "password").write_text(PASSWORD)
        (folder / "log").touch()
        if user:
            for path in (folder, folder / "password"):
                shutil.chown(path, nobody.pw_uid)
        subprocess.run(
            [programs / "initdb", "--pgdata", folder / "data", "--username=sweep", "--auth=scram-sha-256",
             f"--pwfile={folder / 'password'}", "--no-sync", "--no-locale", "--encoding=UTF8"],
            check=True, capture_output=True, cwd=folder, **user,
        )  # fmt: skip
        command = [programs / "postgres", "-D", folder / "data", "-k", folder, "-h", "127.0.0.1", "-p", port, "-F"]

        def is_up() -> bool:
            return subprocess.run([programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]).returncode == 0

        with daemon(command, folder / "log", is_up, stop=signal.SIGINT, cwd=folder, **user):
            yield Postgres(port)


def postgres_programs() -> Path | None:
    """Where PostgreSQL's programs are; Debian keeps them out of the PATH."""
    found = [Path(path) for path in [shutil.which("initdb")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture
def served(tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project whose record is on an MLflow server, which keeps it in PostgreSQL."""
    made = Project(tmp_path)
    port = free_port()
    made.uri = f"http://127.0.0.1:{port}"
    made.env = {"MLFLOW_TRACKING_URI": made.uri}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    env = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": postgres.make_database("mlflow"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # more processes, for what is not used here
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1",
               f"--artifacts-destination={tmp_path / 'artifacts'}"]  # fmt: skip

    def is_up() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{made.uri}/health") as answer:
            return bool(answer.status == 200)
        return False

    with daemon(command, tmp_path / "server.log", is_up, env=env):
        yield made


def test_one_study_s_storage_and_record_are_both_on_postgresql(served: Project, postgres: Postgres) -> None:
    storage = postgres.make_database("optuna")
    finished = start(served, f"hydra.sweeper.storage={storage}").wait()
    assert finished.status == 0, finished.err
    assert_optuna_and_mlflow_agree(served, study_of(served, storage), finished=3, pruned=1)
    assert PASSWORD not in finished.out + finished.err
    assert "postgresql+psycopg://***@127.0.0.1" in finished.out  # in the command that goes on with it

    wrong = storage.replace(PASSWORD, "another-not-to-be-told")
    refused = start(served, f"hydra.sweeper.storage={wrong}").wait()
    assert refused.status == 1
    assert refused.err.startswith("error: hydra.sweeper.storage=postgresql+psycopg://***@127.0.0.1")
    assert "not-to-be-told" not in refused.out + refused.err


def test_two_processes_that_share_a_study_on_postgresql_come_to_its_number_of_trials(
    project: Project, postgres: Postgres
) -> None:
    """Started at the same time on a database without tables."""
    storage = postgres.make_database("shared")
    command = (f"hydra.sweeper.storage={storage}", "hydra.sweeper.n_jobs=1")
    for finished in [started.wait() for started in [start(project, *command), start(project, *command)]]:
        assert finished.status == 0, finished.err
    made = study_of(project, storage)
    assert_optuna_and_mlflow_agree(project, made, finished=3, pruned=1)
    assert len({trial.user_attrs[OWNER] for trial in made.trials}) == 2


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("postgresql://user:secret@host/name", "postgresql://***@host/name"),
        ("postgresql://user:se/cret@host:1/name", "postgresql://***@host:1/name"),
        ("postgresql:///name?user=me&password=secret&host=/run", "postgresql:///name?user=me&password=***&host=/run"),
        ("http://token@host/", "http://***@host/"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
    ],
)
def test_of_an_address_everything_is_told_but_who_may_enter(address: str, told: str) -> None:
    assert without_password(f"{address} and more") == f"{told} and more"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def daemon(
    command: list[Any], log: Path, is_up: Callable[[], bool], stop: signal.Signals = signal.SIGTERM, **settings: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that runs within, with all the processes that it starts, its output in `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True, **settings,
        )  # fmt: skip
    try:
        while not is_up():
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(stop)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        with suppress(ProcessLookupError):  # its session's, whatever it has left there
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_each_slot_has_a_gpu_of_its_own_and_those_beyond_share_them_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    def devices(num_slots: int, num_gpus: int) -> list[str]:
        return [workers.visible_gpu(slot, num_gpus).get("CUDA_VISIBLE_DEVICES", "all") for slot in range(num_slots)]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices(3, num_gpus=0) == ["all", "all", "all"]
    assert devices(3, num_gpus=1) == ["0", "0", "0"]
    assert devices(3, num_gpus=2) == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert devices(3, num_gpus=2) == ["3", "5", "3"]


def test_a_program_that_knows_nothing_of_studies_runs_on_a_ray_cluster(project: Project, cluster: Cluster) -> None:
    app = App(project, dict(os.environ) | {"SWEEP_TEST_PYTHON": sys.executable, "SWEEP_ROOT": ""}, SPHERE, SPHERE_CONF)
    address = f"hydra.launcher.ray.init.address={cluster.address}"
    app.search("hydra/launcher=ray", address, "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=4")
    assert len(app.trials()) == 4
