"""What a job says about itself and what it is given: bad input gets one line, and every outcome has one home."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.trial import TrialState

import sweep
from sweep.description import flatten
from sweep.goal import Goal
from sweep.job import Job
from sweep.outcome import Outcome
from sweep.record.runs import RunRecord
from sweep.record.tags import OVERRIDES_TAG, overrides_tag
from sweep.running import carry_out
from sweep.study import storage
from sweep.study.study import Study
from sweep.study.trials import OUTCOME, outcome_of
from sweep.trial import Trial

FAKE = "../tests/fake_job.py"
GOAL = Goal(["val/score"], ["maximize"], "tests", is_recorded=False)
NAMED = Job(metrics={"val/score": sweep.Metric(direction="maximize", is_share=True), "val/loss": sweep.Metric()})


def run(task: Callable[[Any], Any], folder: Path, job: Job = NAMED, goal: Goal = GOAL) -> list[float]:
    return carry_out(Trial(job, goal, folder), task, OmegaConf.create({"x": 1}))


def reporting(*reports: tuple[Any, dict[str, Any]], returned: Any = None) -> Callable[[Any], Any]:
    def task(_cfg: Any) -> Any:
        for step, metrics in reports:
            sweep.trial().report(step, metrics)
        return returned

    return task


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            reporting((1, {"val/f1": 0.5})),
            "report of step 1: val/f1 is not among the metrics that the job names: val/s",
        ),
        (reporting((2, {"val/loss": 1.0}), (1, {"val/loss": 1.0})), "report of step 1: it goes back, step 2 has been"),
        (reporting((1, {"val/loss": 1.0}), (1, {"val/loss": 1.0})), "report of step 1: val/loss has been reported for"),
        (reporting((1.5, {"val/loss": 1.0})), "report of step 1.5: it must be a whole number, 0 or more"),
        (reporting((-1, {"val/loss": 1.0})), "report of step -1: it must be a whole number, 0 or more"),
        (reporting((1, {"val/score": "0.5"})), "report of step 1: val/score='0.5': a study wants a number"),
        (reporting((1, {"val/score": float("nan")})), "report of step 1: val/score=nan: a study wants a number"),
        (reporting((1, {"val/score": None})), "report of step 1: val/score=None: a study wants a number"),
        (reporting(returned="0.5"), "the job returned '0.5'; a study wants a number for each objective: val/score"),
        (
            reporting(returned=float("nan")),
            "the job returned nan; a study wants a number for each objective: val/score",
        ),
        (reporting(returned=[0.5, 0.5]), r"the job returned \[0.5, 0.5\]; a study wants a number for each objective"),
        (reporting(returned=True), "the job returned True; a study wants a number for each objective"),
        (
            reporting(),
            "the job returned nothing and reported nothing; a study wants a number for each objective: val/s",
        ),
        (reporting((1, {"val/loss": 1.0})), "the job returned nothing and reported val/loss; a study wants a number"),
    ],
)
def test_what_a_job_says_that_is_no_number_for_its_study_gets_one_line(
    tmp_path: Path, task: Callable[[Any], Any], message: str
) -> None:
    with pytest.raises(sweep.SweepError, match=f"^{message}") as caught:
        run(task, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_report_after_the_end_is_refused(tmp_path: Path) -> None:
    kept: list[Trial] = []

    def task(_: object) -> float:
        kept.append(sweep.trial())
        return 0.5

    assert run(task, tmp_path) == [0.5]
    with pytest.raises(sweep.SweepError, match="has ended; report before the job returns"):
        kept[0].report(1, {"val/score": 0.5})


def test_what_was_reported_last_is_the_outcome_of_a_job_that_returns_nothing(tmp_path: Path) -> None:
    task = reporting((1, {"val/score": 0.25}), (2, {"val/loss": 3.0}), (2, {"val/score": 0.5}))
    assert run(task, tmp_path) == [0.5]


def test_a_step_can_be_reported_in_parts_and_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    import numpy as np

    task = reporting((np.int64(1), {"val/score": np.float32(0.5)}), (1, {"val/loss": 1}))
    assert run(task, tmp_path) == [0.5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "val/f1"}, "hydra.sweeper.objective=val/f1: choose one of val/loss, val/score"),
        ({"objective": "val/loss"}, "hydra.sweeper.direction=null: whether val/loss is to be minimized or maximized"),
        (
            {"objective": "val/loss", "direction": "down"},
            "hydra.sweeper.direction=down: give minimize or maximize for each",
        ),
        (
            {"objective": "val/score", "direction": "minimize"},
            "hydra.sweeper.direction=minimize: objective=val/score means maximize; leave it null",
        ),
        (
            {"objective": ["val/score", "val/loss"], "direction": "maximize"},
            "hydra.sweeper.direction=maximize: give minimize or maximize for each of objective=val/score,val/loss",
        ),
    ],
)
def test_an_objective_that_nobody_can_judge_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(sweep.SweepError) as caught:
        NAMED.goal(settings, "tests")
    assert str(caught.value).startswith(message)


def test_a_job_that_says_nothing_has_its_composed_config_as_settings() -> None:
    cfg = OmegaConf.create({"a": {"b": [1, "x"]}, "when": "${oc.env:HOME}", "hydra": {"job": 1}})
    job = Job(not_settings=("when",))
    assert flatten(job.checked(cfg)) == {"a.b.0": 1, "a.b.1": "x"}
    assert Job().shared(cfg)["when"] == "${oc.env:HOME}"  # the same setting on whatever machine


def test_overrides_travel_one_by_one_and_old_records_stay_readable() -> None:
    overrides = ["data.root='a b/c'", 'note="it\'s, [so]"', "x=1", "+y=[1, 2]"]

    def read(text: str) -> dict[str, str]:
        run = RunRecord("id", "1", "run", "FINISHED", {}, {}, {OVERRIDES_TAG: text}, 0.0)
        return run.overrides

    (tag,) = overrides_tag(overrides).values()
    parsed = OverridesParser.create().parse_overrides(["data.root='a b/c'", 'note="it\'s, [so]"'])
    assert read(tag) == {"data.root": "a b/c", "note": "it's, [so]", "x": "1", "y": "[1, 2]"}
    assert [str(one.value()) for one in parsed] == ["a b/c", "it's, [so]"]  # as Hydra reads them
    assert read("x=1 +y=2") == {"x": "1", "y": "2"}


@pytest.mark.parametrize(
    ("status", "tags", "outcome"),
    [
        ("FINISHED", {}, Outcome("finished")),
        ("KILLED", {"sweep.stopped": "pruned after epoch 1 of 3"}, Outcome("pruned", "pruned after epoch 1 of 3")),
        ("KILLED", {"sweep.stopped": "taken over"}, Outcome("stopped", "taken over")),
        ("FAILED", {"sweep.error": "interrupted"}, Outcome("interrupted", "interrupted")),
        ("FAILED", {"sweep.error": "x"}, Outcome("failed", "x")),
        ("KILLED", {"sweep.state": "pruned", "sweep.stopped": "of old"}, Outcome("pruned", "of old")),
        ("RUNNING", {}, None),
    ],
)
def test_how_a_run_ended_is_one_value_also_of_records_that_only_have_a_sentence(
    status: str, tags: dict[str, str], outcome: Outcome | None
) -> None:
    assert RunRecord("id", "1", "run", status, {}, {}, tags, 0.0).outcome == outcome


STUDY = ("-m", "hydra/sweeper=study", "hydra.sweeper.study_name=tiny", "hydra.sweeper.n_jobs=1", "x=interval(0,1)")


def trials_of(project: Project) -> list[Any]:
    found = storage.stored_study(str(project.folder / "multirun" / "tiny" / "optuna.journal"), "tiny")
    assert found is not None
    return found.get_trials()


def fake(project: Project, *overrides: str) -> Any:
    return project.run(FAKE, *overrides, f"hydra.sweep.dir={project.folder}/multirun/tiny")


def test_a_job_with_curves_is_pruned_and_optuna_and_mlflow_have_the_same_of_it(project: Project) -> None:
    finished = fake(
        project, *STUDY, "hydra.sweeper.n_trials=6", "hydra/sweeper/study/pruner=threshold",
        "hydra.sweeper.pruner.lower=0.45", "hydra.sweeper.starting_points=[{x: 0.5},{x: 1.0}]",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    trials = trials_of(project)
    assert [trials[0].state, trials[1].state, trials[2].state] == [
        TrialState.PRUNED, TrialState.COMPLETE, TrialState.PRUNED,
    ]  # fmt: skip
    assert "trial   0  pruned after epoch 1, val/score 42.00%" in finished.out
    runs = {int(run.data.tags["sweep.trial"]): run for run in project.runs("trial")}
    for trial in trials:
        tags = runs[trial.number].data.tags
        outcome = outcome_of(trial)
        assert tags["sweep.state"] == outcome.state
        assert tags.get("sweep.stopped", "") == outcome.reason
        if trial.state == TrialState.PRUNED:
            assert outcome.reason == f"pruned after epoch {trial.last_step} of 3"
    curve = project.client().get_metric_history(runs[1].info.run_id, "val/score")
    assert {point.step: point.value for point in curve} == trials[1].intermediate_values
    assert trials[1].value == trials[1].intermediate_values[3]


def test_an_override_with_a_space_comes_back_from_the_record_as_it_was_given(project: Project) -> None:
    finished = fake(
        project, *STUDY, "hydra.sweeper.n_trials=1", "note='my first, try'", "hydra.sweeper.experiment='my scores'"
    )
    assert finished.status == 0, finished.err
    (trial,) = project.runs("trial")
    (parent,) = project.runs("study")
    assert "note='my first, try'" in json.loads(parent.data.tags["sweep.overrides"])
    assert trial.data.params["note"] == "my first, try"
    assert project.client().get_experiment(trial.info.experiment_id).name == "my scores"
    printed = next(line for line in finished.out.splitlines() if "go on with it: " in line)
    assert "note='my first, try'" in shlex.split(printed)


def test_a_single_run_of_a_job_is_recorded_and_what_it_raises_is_told(project: Project) -> None:
    finished = project.run(FAKE, "x=0.5", f"hydra.run.dir={project.folder}/run")
    assert finished.status == 0, finished.err
    (run,) = project.runs("trial")
    assert (run.info.status, run.data.tags["sweep.state"]) == ("FINISHED", "finished")
    assert run.data.metrics["val/score"] == 0.875
    assert "done:  val/score 87.50%" in finished.out


def test_a_study_of_the_version_before_is_continued(project: Project) -> None:
    """Its journal has what that version left: an outcome without a reason, and no run of its parent."""
    before = Study(str(project.folder / "multirun/tiny/optuna.journal"), "tiny", ["maximize"], 2,
                         project.folder / "multirun/tiny")  # fmt: skip
    shared = {"epochs": "3", "seed": "0", "seconds": "0.01", "note": ""}
    before.set_up({"space": {"x": "float 0.0 to 1.0"}, "job": shared}, [{"x": 0.1}, {"x": 0.5}])
    pruned = before.claim(lambda trial: trial.suggest_float("x", 0, 1), lambda: False)
    assert pruned is not None
    before.storage.set_trial_intermediate_value(before._trial_id(pruned.number), 1, 0.42)
    left = {"state": "PRUNED", "values": None}
    before.storage.set_trial_user_attr(before._trial_id(pruned.number), OUTCOME, left)
    before.tell(pruned.number)
    before.remember({"run": ""})
    before.close()
    finished = fake(project, *STUDY, "hydra.sweeper.n_trials=3")
    assert finished.status == 0, finished.err
    trials = trials_of(project)
    assert [trial.state.name for trial in trials] == ["PRUNED", "COMPLETE", "COMPLETE"]
    assert trials[1].params == {"x": 0.5}
    runs = {int(run.data.tags["sweep.trial"]): run for run in project.runs("trial")}
    assert runs[0].data.tags["sweep.stopped"] == "pruned after epoch 1"


def test_a_study_of_another_job_is_refused_in_one_line(project: Project) -> None:
    assert fake(project, *STUDY, "hydra.sweeper.n_trials=1").status == 0
    refused = fake(project, *STUDY, "hydra.sweeper.n_trials=2", "epochs=4")
    assert refused.status == 1
    assert refused.err.startswith("error: hydra.sweeper.study_name=tiny: the study's job is another now: epochs is 4,")
    assert refused.err.count("\n") == 1
