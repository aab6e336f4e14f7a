"""The project that a job belongs to: its root, and the job that its pyproject.toml names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, lend_packages
from omegaconf import OmegaConf

import sweep
from sweep import arguments, project
from sweep.job import Job
from sweep.record import connect, tags
from sweep.train import main

TRAIN = """
import hydra
import sweep

@hydra.main(config_path=None)
@sweep.Job(seed="seed")
def main(cfg):
    return 0.5
"""


@pytest.fixture(autouse=True)
def _unsettled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(project.ROOT_VARIABLE, "")
    monkeypatch.chdir(tmp_path)


def test_the_root_is_that_of_the_job_wherever_it_is_started(tmp_path: Path) -> None:
    assert project.root() == tmp_path
    Job()(lambda cfg: cfg)
    assert project.root() == ROOT
    assert connect.default_uri() == f"sqlite:///{ROOT}/mlflow.db"
    os.chdir(os.sep)
    assert project.root() == ROOT


def test_the_command_is_about_the_project_of_the_working_directory_else_about_this_checkout(tmp_path: Path) -> None:
    project.settle_root_here()
    assert project.root() == ROOT
    os.environ[project.ROOT_VARIABLE] = ""
    (tmp_path / "below").mkdir()
    (tmp_path / "pyproject.toml").touch()
    os.chdir("below")
    project.settle_root_here()
    assert project.root() == tmp_path
    assert project.task() is None


def test_the_git_tags_speak_of_the_project_s_repository(tmp_path: Path) -> None:
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.example")
    for words in ("init -q", "commit -q --allow-empty -m first"):
        subprocess.run([*git, *words.split()], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert tags.git_tags() == {tags.COMMIT_TAG: head, tags.DIRTY_TAG: "false"}


def test_a_project_names_its_job_and_how_a_study_of_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert arguments.study_command() == "python PROGRAM.py -m hydra/sweeper=study"
    (tmp_path / "named_job.py").write_text(TRAIN)
    (tmp_path / "pyproject.toml").write_text('[tool.sweep]\njob = "named_job:main"')
    task = project.task()
    assert task is not None
    assert getattr(task, "sweep_job", None) == Job(seed="seed")
    assert arguments.study_command() == "python named_job.py -m hydra/sweeper=study"


def test_this_project_names_the_job_that_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(project.ROOT_VARIABLE, str(ROOT))
    assert project.task() is main.__wrapped__
    program = os.path.relpath(ROOT / "sweep" / "train.py")
    expected = min(program, str(ROOT / "sweep" / "train.py"), key=len)
    assert arguments.study_command() == f"python {expected} -m hydra/sweeper=optuna"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("job = 3", r"^\[tool\.sweep\] job=3: must be a text, in quotes"),
        (
            'job = "nowhere:main"',
            r"^\[tool\.sweep\] job=nowhere:main: cannot be imported \(No module named 'nowhere'\)",
        ),
        ('job = "json:main"', r"^\[tool\.sweep\] job=json:main: cannot be imported \(module 'json' has no attribute"),
        ("job =", r"pyproject\.toml: cannot be read \("),
    ],
)
def test_a_job_that_is_misnamed_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "pyproject.toml").write_text(f"[tool.sweep]\n{text}\n")
    with pytest.raises(sweep.SweepError, match=message) as caught:
        project.task()
    assert "\n" not in str(caught.value)


def test_a_foreign_project_holds_its_record_and_its_files_wherever_and_however_its_jobs_run(
    tmp_path: Path, installed: dict[str, str]
) -> None:
    folder = tmp_path / "my project"
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    (folder / "learn.py").write_text(f'{TRAIN}\nif __name__ == "__main__":\n    main()\n')
    words = (
        "-m", "hydra/sweeper=study", "hydra.sweeper.study_name=s", "hydra.sweeper.direction=minimize",
        "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2", "hydra/launcher=joblib", "hydra.job.chdir=true",
        "hydra/sweeper/study/sampler=grid", "+x=choice(1,2)", "+kept=${project:multirun}",
    )  # fmt: skip
    env = {key: value for key, value in lend_packages(installed).items() if key != "MLFLOW_TRACKING_URI"}
    ended = subprocess.run(
        [env["SWEEP_TEST_PYTHON"], str(folder / "learn.py"), *words],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"my project"}
    made = {path.name for path in folder.iterdir()} - {"mlflow.db.lock", "__pycache__"}
    assert made == {"pyproject.toml", "learn.py", "mlflow.db", "mlruns", "multirun"}
    (config,) = folder.glob("multirun/s/0/config.yaml")
    assert OmegaConf.load(config).kept == f"{folder}/multirun"
