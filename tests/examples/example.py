"""What the tests of the examples share: a copy of one as a project of its own, its commands, and a kill in a study."""

import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from conftest import ROOT, Project
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from sweep.study import storage
from sweep.study.trials import counts, was_interrupted

STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}
"""MLflow's word for how a trial of Optuna's ended."""


AS_SOMEBODY = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]


class Ended(NamedTuple):
    """What a command came to."""

    status: int
    out: str
    err: str


class Example:
    """A copy of an example, with a record of its own."""

    def __init__(self, name: str, folder: Path, record: Path, installed: dict[str, str]) -> None:
        self.folder = folder / name
        shutil.copytree(ROOT / "examples" / name, self.folder, ignore=shutil.ignore_patterns("multirun", "outputs"))
        shutil.copy(record, self.folder / "mlflow.db")
        self.project = Project(self.folder)
        self.env = {key: value for key, value in installed.items() if key != "MLFLOW_TRACKING_URI"}
        for words in (["init", "--quiet"], ["add", "train.py"], [*AS_SOMEBODY, "commit", "--quiet", "-m", "Begin"]):
            subprocess.run(["git", *words], cwd=self.folder, check=True)
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=self.folder, check=True, capture_output=True, text=True
        )
        self.commit = commit.stdout.strip()

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """`python train.py` with these `words`, in a session of its own."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [self.env["SWEEP_TEST_PYTHON"], "train.py", *words],
            cwd=self.folder,
            env=self.env,
            text=True,
            stdout=pipe,
            stderr=pipe,
        )

    def train(self, *words: str) -> Ended:
        """The same to its end."""
        started = self.start(*words)
        out, err = started.communicate()
        return Ended(started.returncode, out, err)

    def sweep(self, *words: str) -> Ended:
        """`sweep` with these `words`."""
        command = [self.env["SWEEP_TEST_PYTHON"], "-m", "sweep.cli", *words]
        done = subprocess.run(command, cwd=self.folder, env=self.env, text=True, capture_output=True, check=False)
        return Ended(done.returncode, done.stdout, done.stderr)

    def find(self, name: str) -> Study | None:
        """The study of this name as Optuna knows it, None as long as there is none."""
        journal = self.folder / "multirun" / name / "optuna.journal"
        return storage.stored_study(str(journal), name) if journal.exists() else None

    def trials(self, name: str) -> list[FrozenTrial]:
        """The trials of this study as Optuna knows them."""
        found = self.find(name)
        return [] if found is None else found.get_trials()

    def kill_in_the_middle_and_go_on(self, name: str, *words: str) -> Ended:
        """A study killed once two of its trials have ended, and what the same command then comes to."""
        killed = self.start(*words)
        while sum(trial.state.is_finished() for trial in self.trials(name)) < 2:
            assert killed.poll() is None, killed.communicate()
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        return self.train(*words)

    def require_agreement(self, name: str, num_trials: int) -> None:
        """See that the study has come to its exact total, and that MLflow says of each trial what Optuna says."""
        trials = self.trials(name)
        assert sum(map(counts, trials)) == num_trials
        assert all(was_interrupted(trial) for trial in trials if trial.state == TrialState.FAIL)
        (parent,) = self.project.runs("study")
        runs = [run for run in self.project.runs("trial") if run.data.tags["sweep.study"] == name]
        assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
        assert {int(run.data.tags["sweep.trial"]): run.info.status for run in runs} == {
            trial.number: STATUS[trial.state] for trial in trials
        }
        assert {run.data.tags["mlflow.source.git.commit"] for run in runs} == {self.commit}
        assert Counter(run.info.status for run in runs) == Counter(STATUS[trial.state] for trial in trials)

    def kept(self, run_id: str) -> set[str]:
        """Names of the files that a run keeps in MLflow."""
        return {file.path for file in self.project.client().list_artifacts(run_id)}


def num_lines(path: Path) -> int:
    """Lines of a program that are not empty."""
    return sum(bool(line.strip()) for line in path.read_text().splitlines())
