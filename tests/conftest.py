"""What the tests share: the command line as a real process, a project folder of its own for each test, MNIST."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tests that run side by side would fight over the cores
os.environ.pop("COLUMNS", None)  # which pytest-xdist sets, though the tests' commands print into files

import multiprocessing
import runpy
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import empty_environment
import mlflow
import pytest
from mlflow.entities import DatasetInput, LoggedModelOutput
from mlflow.tracking import MlflowClient

from sweep import cli
from sweep.digits import config
from sweep.digits.datasets import MNISTConfig
from sweep.digits.job import DIGITS
from sweep.plugin.sweeper import register_plugin
from sweep.plugin.workers import PRELOADED
from sweep.record.tags import KIND_TAG

ROOT = Path(__file__).resolve().parents[1]

# A process that has imported everything and is forked for each command: a real process with its own
# command line, environment and exit status, without the seconds that the imports take.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        *PRELOADED,
        *DIGITS.preload,
        "sweep.results.best",
        "sweep.results.confirm",
        "sweep.results.rerun",
        "sweep.digits.visualize",
        "sweep.study.search",
        "hydra_plugins.hydra_optuna_sweeper._impl",
        "sklearn.datasets",
    ]
)

_COUNTER = count()

register_plugin()  # for what the tests compose; where the package is installed, Hydra finds it by entry points

MNIST_ROOT = Path(os.environ.get("SWEEP_DATA_ROOT", ROOT / "data"))


class Finished(NamedTuple):
    """What a command came to."""

    status: int
    out: str
    err: str


class Started:
    """A command that runs."""

    process: Any

    def __init__(self, output: Path) -> None:
        self.output = output

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._read(".out.txt")

    def _read(self, suffix: str) -> str:
        path = self.output.with_suffix(suffix)
        return path.read_text() if path.exists() else ""

    def wait(self) -> Finished:
        """Its end."""
        self.process.join()
        return Finished(self.process.exitcode, self.out, self._read(".err.txt"))

    def wait_for(self, is_true: Callable[[], object], *, may_end: bool = False) -> None:
        """Return as soon as `is_true`; that it ends first is an error unless it `may_end`."""
        while not is_true():
            if not self.process.is_alive():
                assert may_end, self.wait()
                return
            time.sleep(0.02)


class Project:
    """A folder of its own for a test's runs, and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.env = {"MLFLOW_TRACKING_URI": self.uri}

    def train(self, *overrides: str, **env: str) -> Finished:
        """`python sweep/train.py` with these overrides."""
        return self.run("train.py", f"output_dir={self.folder / 'multirun'}", *overrides, **env)

    def best(self, *arguments: str) -> Finished:
        """`sweep best` with these arguments."""
        return self.run("best", *arguments)

    def run(self, program: str, *arguments: str, **env: str) -> Finished:
        """`python sweep/PROGRAM`, or a verb of `sweep`, in this folder."""
        return self.start(program, *arguments, **env).wait()

    def start(self, program: str, *arguments: str, **env: str) -> "Started":
        """The same, without waiting for its end."""
        started = Started(self.folder / f"{next(_COUNTER)}")
        started.process = PROCESSES.Process(
            target=_run_program,
            args=(program, arguments, self.env | env, self.folder, started.output),
        )
        started.process.start()
        return started

    def client(self) -> MlflowClient:
        """MLflow's own client for this folder's record."""
        mlflow.set_tracking_uri(self.uri)
        return MlflowClient()

    def runs(self, kind: str) -> list[mlflow.entities.Run]:
        """All runs of this kind in the record, first to last."""
        client = self.client()
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return client.search_runs(experiments, f"tags.`{KIND_TAG}` = '{kind}'", order_by=["attributes.start_time ASC"])


def models_of(run: mlflow.entities.Run) -> list[LoggedModelOutput]:
    """The models logged with a run."""
    return run.outputs.model_outputs if run.outputs else []


def inputs_of(run: mlflow.entities.Run) -> list[DatasetInput]:
    """The data sets that a run was trained on."""
    return run.inputs.dataset_inputs if run.inputs else []


def _run_program(program: str, arguments: tuple[str, ...], env: dict[str, str], folder: Path, output: Path) -> None:
    for suffix, stream in {".out.txt": sys.stdout, ".err.txt": sys.stderr}.items():
        descriptor = os.open(output.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, stream.fileno())
    os.chdir(folder)
    os.environ.pop("HYDRA_FULL_ERROR", None)  # this process is forked from one that a test may have started with it
    os.environ.update(env)
    if program.endswith(".py"):
        sys.argv = [str(ROOT / "sweep" / program), *arguments]
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        sys.argv = ["sweep", program, *arguments]
        cli.main()


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for_answer(server: subprocess.Popen[bytes], url: str) -> None:
    """Return as soon as `server` answers at `url`; that it ends first is an error."""
    for _ in range(600):
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            assert server.poll() is None
            time.sleep(0.1)


@pytest.fixture(scope="session")
def empty_record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and nothing in them; making one takes two seconds."""
    project = Project(tmp_path_factory.mktemp("record"))
    project.client().search_experiments()
    return project.folder / "mlflow.db"


@pytest.fixture
def project(tmp_path: Path, empty_record: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    shutil.copy(empty_record, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    made = Project(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    monkeypatch.setenv("SWEEP_ROOT", str(ROOT))  # as for a command that is given in no project's folder
    return made


ABSENT = """
import os
from importlib.machinery import PathFinder

find_spec = PathFinder.find_spec
absent = os.environ["SWEEP_TEST_ABSENT"].split(",")
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in absent else find_spec(name, *rest)
"""


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of an environment in which this package is installed as a wheel, and its Python.

    In it nothing can be imported that only the job that ships needs, or what SWEEP_TEST_ABSENT names.
    """
    empty_environment.make()
    folder = tmp_path_factory.mktemp("absent")
    (folder / "sitecustomize.py").write_text(ABSENT)
    return os.environ | {
        "SWEEP_ROOT": "",
        "SWEEP_TEST_ABSENT": "torch,torchvision,sklearn,flask,PIL",
        "SWEEP_TEST_PYTHON": str(empty_environment.PYTHON),
        "PYTHONPATH": str(folder),
    }


def lend_packages(installed: dict[str, str]) -> dict[str, str]:
    """The same with what the tests themselves are run with: torch, Lightning, the launchers."""
    path = os.pathsep.join([installed["PYTHONPATH"], empty_environment.OURS])
    return installed | {"PYTHONPATH": path, "SWEEP_TEST_ABSENT": "flask"}


@pytest.fixture
def mnist_root() -> str:
    """The folder that holds MNIST; the test is skipped where there is none."""
    if not MNISTConfig(name="mnist", root=str(MNIST_ROOT), batch_size=1, validation=0, shift=0).folder.is_dir():
        pytest.skip("needs MNIST: set SWEEP_DATA_ROOT to a folder that has it")
    return str(MNIST_ROOT)


@pytest.fixture
def compose() -> Callable[..., config.Config]:
    """A job composed from conf/ as Hydra does it, and checked."""
    return lambda *overrides: config.compose(overrides)
