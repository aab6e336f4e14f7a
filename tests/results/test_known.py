"""What is known of the job of a run that has ended."""

from pathlib import Path

import pytest
from conftest import Project
from omegaconf import OmegaConf

import sweep
from sweep import project as projects
from sweep.description import Description
from sweep.digits.job import DIGITS
from sweep.job import Job
from sweep.record import mirror, runs
from sweep.results.known import KeptRun, job_of
from sweep.running import carry_out
from sweep.trial import Trial

OTHER = Job(metrics={"val/score": sweep.Metric(direction="maximize", is_share=True)}, seed="seed", check=lambda _: None)


def recorded(job: Job, folder: Path) -> list[runs.RunRecord]:
    """A single run of `job`, a study of it and the study's trial."""
    goal = job.goal({}, "tests")
    ids = []
    for parent in (None, "s"):
        with mirror.open_study("s", goal, folder, []) if parent else mirror.open_trial(goal, "single", []) as outer:
            ids.append(outer.run_id)
            if parent:
                with mirror.open_trial(goal, "trial-000", [], mirror.Parent("s", outer.run_id), 0) as run:
                    trial = Trial(job, goal, folder, study="s", number=0, run=run)
                    carry_out(trial, lambda _: 0.5, OmegaConf.create({"x": 1}))
                    ids.append(run.run_id)
    return [runs.find_run(str(one)) for one in ids]


def test_what_a_job_said_is_recorded_with_single_runs_and_studies_and_known_of_their_trials(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in recorded(OTHER, tmp_path):
        assert job_of(run) == Description(metrics=OTHER.metrics, seed="seed")


def test_of_a_run_of_the_project_s_own_job_more_is_known_than_was_recorded(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    goal = DIGITS.goal({}, "tests", in_study=False)
    with mirror.open_trial(goal, "single", []) as run:
        pass
    assert job_of(runs.find_run(str(run.run_id))) is DIGITS


def test_where_no_job_is_named_and_nothing_was_recorded_a_job_that_says_nothing_is_known(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(projects.ROOT_VARIABLE, str(project.folder))
    with mirror.open_trial(Job().goal({}, "tests", in_study=False)._replace(facts=""), "single", []) as run:
        pass
    assert job_of(runs.find_run(str(run.run_id))) == Description()


def test_a_damaged_fact_is_told_with_the_run_that_has_it(project: Project) -> None:
    with mirror.open_trial(OTHER.goal({}, "tests")._replace(facts="[]"), "single", []) as run:
        pass
    with pytest.raises(sweep.SweepError, match=f"^run={run.run_id}: single: what its job said about itself is damaged"):
        job_of(runs.find_run(str(run.run_id)))


def test_a_hook_sees_the_files_that_a_run_kept(project: Project, tmp_path: Path) -> None:
    *_, trial = recorded(OTHER, tmp_path)
    with KeptRun(trial) as kept:
        path = kept.file("config.yaml")
        assert path is not None
        assert path.read_text() == "x: 1\n"
        assert kept.file("weights.pt") is None
        assert (kept.name, kept.metrics["val/score"]) == ("trial-000", 0.5)
    assert not path.exists()
