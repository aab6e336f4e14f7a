"""Grids: studies that try every combination of the values given, in their order, here of a job of 10 ms an epoch."""

from typing import Any

import pytest
from conftest import ROOT, Finished, Project
from optuna.trial import FrozenTrial, TrialState

from sweep.study import storage

FAKE = "../tests/fake_job.py"
GRID = ("-m", "hydra/sweeper=study_grid", "hydra.sweeper.study_name=tiny", "hydra.sweeper.n_jobs=1", "epochs=1")


def run(project: Project, *overrides: str, study: str = "tiny") -> Finished:
    return project.run(FAKE, *overrides, f"hydra.sweep.dir={project.folder}/multirun/{study}")


def trials_of(project: Project) -> list[FrozenTrial]:
    found = storage.stored_study(str(project.folder / "multirun" / "tiny" / "optuna.journal"), "tiny")
    assert found is not None
    return found.get_trials()


def test_a_grid_tries_every_combination_in_order_and_its_study_is_told_from_a_search(project: Project) -> None:
    finished = run(project, *GRID, "x=0.1,0.5,0.3", "seed=1,0", "+new.key=2")
    assert finished.status == 0, finished.err
    assert finished.out.splitlines()[0] == "study tiny: trying x, seed for the best val/score"
    tried = [tuple(trial.params.values()) for trial in trials_of(project)]
    assert tried == [(0.1, 1), (0.1, 0), (0.5, 1), (0.5, 0), (0.3, 1), (0.3, 0)]
    runs = {int(run.data.tags["sweep.trial"]): run for run in project.runs("trial")}
    assert [(runs[i].data.params["x"], runs[i].data.params["seed"]) for i in range(6)] == [
        (str(x), str(seed)) for x, seed in tried
    ]
    assert {run.data.params["new.key"] for run in runs.values()} == {"2"}
    (parent,) = project.runs("study")
    assert parent.data.tags["sweep.grid"] == "true"
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}


def test_a_grid_goes_on_by_its_name_where_it_was(project: Project) -> None:
    values = ("x=0.1,0.5,0.3",)
    assert run(project, *GRID, *values, "hydra.sweeper.n_trials=1").status == 0
    first = project.runs("trial")
    finished = run(project, *GRID, *values)
    assert finished.status == 0, finished.err
    assert [(trial.params["x"], trial.state) for trial in trials_of(project)] == [
        (x, TrialState.COMPLETE) for x in (0.1, 0.5, 0.3)
    ]
    assert project.runs("trial")[0].info.run_id == first[0].info.run_id
    assert len(project.runs("study")) == 1
    for other in (("x=0.1,0.5",), ("x=0.5,0.1,0.3",), (*values, "seed=4")):
        refused = run(project, *GRID, *other)
        assert refused.err.startswith("error: hydra.sweeper.study_name=tiny: the study's ")
    assert len(project.runs("trial")) == 3


def test_a_job_of_a_grid_that_fails_costs_its_own_trial_only_and_one_tried_already_is_not_run_again(
    project: Project,
) -> None:
    finished = run(project, *GRID, "x=0.1,abc,0.1")
    assert finished.status == 0, finished.err
    states = [trial.state for trial in trials_of(project)]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert "1 copied, 1 failed, 1 finished" in finished.out


def test_a_grid_s_slots_and_another_launcher_give_the_same_trials(project: Project) -> None:
    pytest.importorskip("submitit", reason="needs submitit: pip install -e '.[submitit]'")
    finished = run(project, *GRID, "hydra.sweeper.n_jobs=auto", "hydra/launcher=submitit_local", "x=0.1,0.5")
    assert finished.status == 0, finished.err
    assert "2 trials at a time" in finished.out
    assert [trial.params["x"] for trial in trials_of(project)] == [0.1, 0.5]
    assert {run.info.status for run in project.runs("trial")} == {"FINISHED"}


def test_a_grid_without_a_name_is_called_after_its_program_and_the_time(project: Project) -> None:
    words = [word for word in GRID if "study_name" not in word]
    assert run(project, *words, "x=0.1,0.5", study="${hydra.sweeper.study_name}").status == 0
    (parent,) = project.runs("study")
    assert parent.info.run_name.startswith("fake_job-grid-2")


STUDY = ("-m", "hydra/sweeper=study", "hydra.sweeper.study_name=tiny", "hydra.sweeper.n_jobs=1")


def test_a_study_in_memory_prunes_and_leaves_its_record_in_mlflow_alone(project: Project) -> None:
    finished = run(
        project, *STUDY, "hydra.sweeper.storage=null", "hydra/sweeper/study/pruner=threshold", "x=choice(0.5,1.0)",
        "hydra.sweeper.pruner.lower=0.45", "hydra/sweeper/study/sampler=grid",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    ends = {run.data.params["x"]: (run.data.tags["sweep.state"], run.info.status) for run in project.runs("trial")}
    assert ends == {"0.5": ("finished", "FINISHED"), "1.0": ("pruned", "KILLED")}
    assert "go on with it" not in finished.out
    assert not list(project.folder.rglob("optuna.journal"))


PROGRAM = f"""
import importlib.util, os, sys
from pathlib import Path
import hydra
from sweep.errors import SweepError
from sweep.plugin.sweeper import register_plugin

def load(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

def study(name, *words):
    sys.argv = ["sweep", "-m", f"hydra.sweeper.study_name={{name}}", f"hydra.sweep.dir=multirun/{{name}}", *words]
    hydra.main(config_path=str(Path("generated").absolute()), config_name="config")(task)()

if __name__ == "__main__":
    register_plugin()
    os.environ["HYDRA_FULL_ERROR"] = "1"
    task = load(r"{ROOT}/%s").main.__wrapped__
    study("one", "x=choice(1,2)", "y=choice(3)")
    study("two", "x=choice(1,2)", "y=choice(4)")
    for words in ("hydra.sweeper.n_trials=0",), ("z=1",):
        try:
            study("three", *words)
        except Exception as error:
            print("raised", type(error).__name__)
"""
GENERATED = """
defaults:
  - override hydra/sweeper: study
  - override hydra/sweeper/study/sampler: grid
  - override hydra/sweeper/study/pruner: none
  - _self_
hydra:
  sweeper: {n_jobs: 1, confirms: another, direction: DIRECTION}
"""


@pytest.mark.parametrize(
    ("job", "settings", "direction"),
    [
        ("examples/plain/train.py", "{x: 0.0, y: 0.0}", "minimize"),
        ("tests/fake_job.py", "{x: 0.1, y: 0.0, epochs: 1, seed: 0, seconds: 0, note: ''}", "null"),
    ],
)
def test_studies_of_any_job_s_function_run_in_a_process_of_one_s_own_which_is_told_what_is_wrong(
    project: Project, job: str, settings: str, direction: str
) -> None:
    (project.folder / "generated").mkdir()
    text = GENERATED.replace("DIRECTION", direction) + settings.strip("{}").replace(", ", "\n") + "\n"
    (project.folder / "generated" / "config.yaml").write_text(text)
    (project.folder / "own.py").write_text(PROGRAM % job)
    finished = project.run(str(project.folder / "own.py"))
    assert finished.status == 0, finished.err
    tried = {(run.data.tags["sweep.study"], run.data.params["x"]) for run in project.runs("trial")}
    assert tried == {(study, x) for study in ("one", "two") for x in ("1", "2")}
    assert {run.info.status for run in project.runs("trial") + project.runs("study")} == {"FINISHED"}
    assert [line for line in finished.out.splitlines() if line.startswith("raised")] == [
        "raised SweepError", "raised ConfigCompositionException",
    ]  # fmt: skip
    assert "the same command goes on with it" in finished.out


def test_what_is_in_the_way_of_a_grid_s_values_is_told_with_what_to_give(project: Project) -> None:
    refused: Any = run(project, *GRID, "x=interval(0,1)")
    assert refused.err.startswith("error: x=interval(0,1): a grid needs a list of values; for an interval add ")
