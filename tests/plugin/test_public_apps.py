"""Programs as Hydra's own documentation shows them, unchanged, under hydra/sweeper=study."""

import subprocess
from collections import Counter

import optuna
import pytest
from conftest import Project, lend_packages
from optuna.trial import TrialState

from sweep.study import storage

SPHERE = """
import hydra

@hydra.main(config_path="conf", config_name="config")
def sphere(cfg):
    return cfg.x**2 + cfg.y**2

if __name__ == "__main__":
    sphere()
"""
SPHERE_CONF = """
hydra:
  sweeper:
    study_name: app
    direction: minimize
    n_trials: 4
    n_jobs: 1
    max_failure_rate: 0.0
    sampler: {seed: 123}
    params:
      x: range(-5.5, 5.5, step=0.5)
      y: choice(-5, 0, 5)
x: 1
y: 1
z: foo
"""

TWO_OBJECTIVES = """
import hydra

@hydra.main(config_path="conf", config_name="config")
def binh_and_korn(cfg):
    return 4 * cfg.x**2 + 4 * cfg.y**2, (cfg.x - 5) ** 2 + (cfg.y - 5) ** 2

if __name__ == "__main__":
    binh_and_korn()
"""
TWO_OBJECTIVES_CONF = """
hydra:
  sweeper:
    study_name: app
    direction: [minimize, minimize]
    objective: [distance, height]
    n_trials: 4
    n_jobs: 1
    params:
      x: range(0, 5, step=0.5)
      y: range(0, 3, step=0.5)
x: 1
y: 1
"""

OWN_SPACE = """
import hydra

def configure(cfg, trial):
    x = trial.params["x"]
    trial.suggest_float("z", x - cfg.reach, x + cfg.reach)
    trial.suggest_float("+w", 0.0, 1.0)

@hydra.main(config_path="conf", config_name="config")
def sphere(cfg):
    assert abs(cfg.z - cfg.x) <= cfg.reach
    return cfg.x**2 + cfg.y**2 + cfg.z**2 + cfg.w

if __name__ == "__main__":
    sphere()
"""
OWN_SPACE_CONF = SPHERE_CONF.replace(
    "    n_jobs: 1\n", "    n_jobs: 1\n    custom_search_space: app.configure\n"
).replace("z: foo", "z: 1\nreach: 0.5")

IN_FOLDERS = """
import os
from pathlib import Path

import hydra

@hydra.main(config_path="conf", config_name="config")
def main(cfg):
    Path("left here.txt").write_text(str(cfg.x))
    return cfg.x

if __name__ == "__main__":
    main()
"""


STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}


class App:
    """A foreign program in a folder of its own."""

    def __init__(self, project: Project, env: dict[str, str], program: str, conf: str, name: str = "my app") -> None:
        self.project, self.env = project, env
        self.folder = project.folder / name
        (self.folder / "conf").mkdir(parents=True)
        (self.folder / "pyproject.toml").touch()
        (self.folder / "app.py").write_text(program)
        (self.folder / "conf" / "config.yaml").write_text(conf)

    def search(self, *words: str) -> str:
        """What a study of it prints."""
        command = [self.env["SWEEP_TEST_PYTHON"], "app.py", "-m", "hydra/sweeper=study", *words]
        env = self.env | self.project.env
        ended = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """Those of its study, seen to be in MLflow as well, ended in the same way."""
        found = storage.stored_study(str(self.folder / "multirun" / "app" / "optuna.journal"), "app")
        assert found is not None
        ended = Counter(STATUS[one.state] for one in found.trials)
        assert ended == Counter(run.info.status for run in self.project.runs("trial"))
        return list(found.trials)


def test_a_function_of_two_numbers_is_minimised(project: Project, installed: dict[str, str]) -> None:
    app = App(project, installed, SPHERE, SPHERE_CONF)
    out = app.search()
    trials = app.trials()
    assert [trial.value for trial in trials] == [trial.params["x"] ** 2 + trial.params["y"] ** 2 for trial in trials]
    assert len(trials) == 4
    assert "best    trial" in out


def test_a_function_of_two_objectives_gets_its_pareto_front(project: Project, installed: dict[str, str]) -> None:
    app = App(project, installed, TWO_OBJECTIVES, TWO_OBJECTIVES_CONF)
    out = app.search()
    assert all(len(trial.values) == 2 for trial in app.trials())
    assert "trials that no other beats in one objective" in out or "front   1 trial" in out


def test_a_callable_adds_dimensions_that_depend_on_others(project: Project, installed: dict[str, str]) -> None:
    app = App(project, installed, OWN_SPACE, OWN_SPACE_CONF)
    app.search()
    assert all({"x", "y", "z", "+w"} <= trial.params.keys() for trial in app.trials())


def test_jobs_that_change_into_their_folders_leave_their_files_there(
    project: Project, installed: dict[str, str]
) -> None:
    app = App(project, installed, IN_FOLDERS, SPHERE_CONF)
    app.search("hydra.job.chdir=true", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=3")
    for trial in app.trials():
        left = app.folder / "multirun" / "app" / str(trial.number) / "left here.txt"
        assert float(left.read_text()) == trial.value


def test_a_config_that_lies_in_a_package_is_found_by_every_job(project: Project, installed: dict[str, str]) -> None:
    app = App(project, installed, SPHERE.replace('"conf"', '"pkg://conf"'), SPHERE_CONF)
    (app.folder / "conf" / "__init__.py").touch()
    app.search("hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=3")
    assert len(app.trials()) == 3


@pytest.mark.parametrize("words", [("-cp", "elsewhere", "-cn", "other"), ("-cd", "elsewhere")])
def test_another_config_is_taken_from_the_command_line(
    project: Project, installed: dict[str, str], words: tuple[str, ...]
) -> None:
    app = App(project, installed, SPHERE, SPHERE_CONF)
    (app.folder / "elsewhere").mkdir()
    for folder in ("conf", "elsewhere"):
        (app.folder / folder / "other.yaml").write_text(SPHERE_CONF.replace("n_trials: 4", "n_trials: 2"))
    app.search(*words)
    assert len(app.trials()) == (2 if "-cn" in words else 4)


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_another_launcher_runs_a_program_that_knows_nothing_of_studies(
    project: Project, installed: dict[str, str], launcher: str
) -> None:
    app = App(project, lend_packages(installed), SPHERE, SPHERE_CONF)
    app.search(f"hydra/launcher={launcher}", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=2")
    assert len(app.trials()) == 2
