"""An ordinary Hydra program that knows nothing of the framework, searched where nothing of the digits job exists."""

import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ROOT, Project
from optuna.trial import TrialState

from sweep.study import storage
from sweep.study.trials import counts, was_interrupted

STUDY = (
    "-m", "hydra/sweeper=study", "hydra.sweeper.direction=minimize", "hydra.sweeper.study_name=hill",
    "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=6",
)  # fmt: skip


def start(project: Project, env: dict[str, str], *overrides: str) -> "subprocess.Popen[str]":
    command = [env["SWEEP_TEST_PYTHON"], "train.py", *overrides]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=project.folder / "plain", env=env | project.env, text=True, stdout=pipe, stderr=pipe
    )


def num_finished(journal: Path) -> int:
    found = storage.stored_study(str(journal), "hill") if journal.exists() else None
    return 0 if found is None else sum(trial.state == TrialState.COMPLETE for trial in found.get_trials())


def test_a_plain_function_gets_slots_a_record_and_a_study_that_survives_a_kill(
    project: Project, installed: dict[str, str]
) -> None:
    shutil.copytree(ROOT / "examples" / "plain", project.folder / "plain")
    journal = project.folder / "plain" / "multirun" / "hill" / "optuna.journal"
    killed = start(project, installed, *STUDY)
    while num_finished(journal) < 2:
        assert killed.poll() is None, killed.communicate()
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = num_finished(journal)
    again = start(project, installed, *STUDY)
    out, err = again.communicate()
    assert again.returncode == 0, err
    found = storage.stored_study(str(journal), "hill")
    assert found is not None
    trials = found.get_trials()
    assert sum(map(counts, trials)) == 6
    assert before >= 2
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    assert all(was_interrupted(trial) for trial in trials if trial.state == TrialState.FAIL)
    for trial in trials:
        if trial.state == TrialState.COMPLETE:
            x, y = trial.params["x"], trial.params["y"]
            assert trial.value == pytest.approx((x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2)
    runs = {int(run.data.tags["sweep.trial"]): run for run in project.runs("trial")}
    assert {number: run.info.status for number, run in runs.items()} == {
        trial.number: "FINISHED" if trial.state == TrialState.COMPLETE else "FAILED" for trial in trials
    }
    best = found.best_trial
    assert runs[best.number].data.metrics["objective"] == best.value
    assert runs[best.number].data.params == {"x": str(best.params["x"]), "y": str(best.params["y"])}
    (parent,) = project.runs("study")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert f"best    trial {best.number}: objective " in out
    page = project.folder / "plain" / "multirun" / "hill" / "report.html"
    page.unlink()
    report = [installed["SWEEP_TEST_PYTHON"], "-m", "sweep.cli", "report", "--study", "hill"]
    made = subprocess.run(report, cwd=page.parents[2], env=installed | project.env, capture_output=True, check=False)
    assert made.returncode == 0, made.stderr
    assert "objective" in page.read_text()


def test_a_plain_function_without_a_direction_is_told_what_to_say(project: Project, installed: dict[str, str]) -> None:
    shutil.copytree(ROOT / "examples" / "plain", project.folder / "plain")
    refused = start(project, installed, "-m", "hydra/sweeper=study", "x=interval(-5,5)")
    out, err = refused.communicate()
    assert refused.returncode == 1
    assert out == ""
    assert err == (
        "error: hydra.sweeper.direction=null: whether objective is to be minimized or maximized is not known; "
        "give hydra.sweeper.direction=minimize, or maximize\n"
    )


OWN_RUNS = """
import hydra, mlflow

class Rejected(Exception):
    def __init__(self, what, why):
        super().__init__(f"{what}\\n{why}")

@hydra.main(config_path="conf", config_name="config")
def main(cfg):
    mlflow.start_run(run_name=f"own {cfg.x}")
    mlflow.log_metric("height", cfg.x)
    if cfg.x > 2:
        raise Rejected("too", "high")
    return cfg.x

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_runs_that_a_plain_job_starts_itself_are_children_of_its_trials_and_end_with_them(
    project: Project, installed: dict[str, str], n_jobs: int
) -> None:
    shutil.copytree(ROOT / "examples" / "plain", project.folder / "plain")
    (project.folder / "plain" / "train.py").write_text(OWN_RUNS)
    ended = start(
        project, installed, "-m", "hydra/sweeper=study", "hydra.sweeper.direction=minimize",
        f"hydra.sweeper.n_jobs={n_jobs}", "hydra/sweeper/study/sampler=grid", "x=choice(1,3)",
        "hydra.sweeper.params=null",
        "hydra.sweeper.experiment=own",
    )  # fmt: skip
    out, err = ended.communicate()
    assert ended.returncode == 0, err
    assert re.search(r"failed: (Remote __main__.Rejected: )?too high", out)
    client = project.client()
    trials = {run.info.run_id: run for run in project.runs("trial")}
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    own = [run for run in client.search_runs(ids) if run.info.run_name.startswith("own ")]
    assert {run.info.run_name: run.info.status for run in own} == {"own 1": "FINISHED", "own 3": "FAILED"}
    for run in own:
        trial = trials[run.data.tags["mlflow.parentRunId"]]
        assert trial.data.params["x"] == run.info.run_name.removeprefix("own ")
        assert trial.info.status == run.info.status
    assert {run.info.status for run in project.runs("study")} == {"FINISHED"}


IMPORTED_ONLY = (
    "import hydra\n{before}@hydra.main(config_path='conf', config_name='config')\ndef main(cfg): return cfg.x\n"
)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            IMPORTED_ONLY.format(before="if __name__ != '__main__': import no_such\n")
            + "if __name__ == '__main__': main()",
            "worker processes cannot import it (ModuleNotFoundError: No module named 'no_such'); mend that, or take",
        ),
        (IMPORTED_ONLY.format(before="") + "main()", "it runs its main function when it is imported, which worker"),
    ],
)
def test_a_program_that_workers_cannot_import_is_told_in_one_line(
    project: Project, installed: dict[str, str], program: str, message: str
) -> None:
    shutil.copytree(ROOT / "examples" / "plain", project.folder / "plain")
    (project.folder / "plain" / "train.py").write_text(program)
    refused = start(project, installed, *STUDY, "hydra.sweeper.n_trials=2")
    out, err = refused.communicate()
    assert refused.returncode == 1
    assert err.startswith("error: none of 2 trials finished; the first said: ")
    assert f"train.py: {message}" in err
    assert err.count("\n") == 1
    assert out.count("\n") == 4


def test_a_function_that_cannot_be_sent_to_workers_is_told_before_the_first_trial(
    project: Project, installed: dict[str, str]
) -> None:
    shutil.copytree(ROOT / "examples" / "plain", project.folder / "plain")
    holding = IMPORTED_ONLY.format(before="import threading; LOCK = threading.Lock()\n").replace(
        "return", "LOCK; return"
    )
    (project.folder / "plain" / "train.py").write_text(holding + "if __name__ == '__main__': main()")
    refused = start(project, installed, *STUDY)
    out, err = refused.communicate()
    assert (refused.returncode, out) == (1, "")
    assert err == (
        "error: the job's function cannot be sent to worker processes (cannot pickle '_thread.lock' object); make what "
        "it uses inside of it, or run one trial at a time in this process: hydra.sweeper.n_jobs=1\n"
    )
    assert not (project.folder / "plain" / "multirun").exists()
