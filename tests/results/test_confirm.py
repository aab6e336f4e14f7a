"""Training the best settings again with fresh seeds."""

import os
import re
import signal
import sys
from pathlib import Path

import pytest
from conftest import Project
from omegaconf import OmegaConf

import sweep
from sweep.arguments import study_command
from sweep.digits.job import DIGITS
from sweep.errors import SweepError
from sweep.job import Job
from sweep.record import mirror
from sweep.record.connect import connect
from sweep.record.runs import RunRecord, find_study, trials_of
from sweep.record.tags import DIRECTION_TAG, OBJECTIVE_TAG, OVERRIDES_TAG, STUDY_TAG
from sweep.results import confirm, verdict
from sweep.results.table import StudyTable, of_runs, table_of
from sweep.results.verdict import Candidate, Verdict

SMALL = ("data=digits", "epochs=1", "num_threads=1")


def run(number: int, value: float, **tags: str) -> RunRecord:
    return RunRecord(
        run_id=f"id{number}",
        experiment_id="1",
        name=f"trial-{number:03d}",
        status="FINISHED",
        params={"seed": str(number)},
        metrics={"test/loss": value, "test/accuracy": value},
        tags={"sweep.trial": str(number), **tags},
        seconds=1.0,
    )


CHOSEN = [run(7, 0.99), run(3, 0.98), run(5, 0.97)]
VALUES = {"trial-007": [0.96, 0.97, 0.95], "trial-003": [0.97, 0.98, 0.99], "trial-005": [0.80, 0.81, 0.79]}


def study(objective: str = "test/accuracy", direction: str = "maximize") -> StudyTable:
    tags = {STUDY_TAG: "s", OBJECTIVE_TAG: objective, DIRECTION_TAG: direction}
    return of_runs(run(0, 0.0, **tags)._replace(name="s"), DIGITS, {}, CHOSEN)


def judged(values: dict[str, list[float]], table: StudyTable | None = None, only: int | None = None) -> Verdict:
    pairs = [(name, value) for name, group in values.items() for value in group]
    again = [run(i, value, **{OVERRIDES_TAG: f"settings={name} seed={i}"}) for i, (name, value) in enumerate(pairs)]
    table = table or study()
    return verdict.judge_candidates(table, [row for row in table.rows if only in (None, row.number)], again, 3)


def test_the_winner_has_the_best_mean_of_its_seeds_whatever_found_it() -> None:
    found = judged(VALUES)
    assert [one.name for one in found.candidates] == ["trial-003", "trial-007", "trial-005"]
    assert found.winner.mean == pytest.approx(0.98)
    assert found.winner.spread == pytest.approx(0.01)
    assert found.winner.found == 0.98
    assert judged(VALUES, study("test/loss", "minimize")).winner.name == "trial-005"


def test_what_cannot_be_told_apart_is_said() -> None:
    found = judged(VALUES)
    assert not found.differ("trial-003", "trial-007")
    assert found.differ("trial-003", "trial-005")
    told = "\n".join(verdict._candidates_in_words(study(), found))
    assert "winner  trial-003: test/accuracy 98.00%, the mean of 3 fresh seeds" in told
    assert "cannot be told apart from trial-007 by so few seeds" in told
    assert "better than trial-005" in told
    assert "besides, trial-007 from trial-005 can be told apart" in told


def test_one_seed_tells_nothing() -> None:
    with pytest.raises(
        SweepError, match=r"^study=s: trial-005 has finished with 1 fresh seeds, which tells nothing yet"
    ):
        judged(VALUES | {"trial-005": [0.8]})


def test_seeds_that_have_not_finished_are_named() -> None:
    told = verdict._candidates_in_words(study(), judged(VALUES | {"trial-003": [0.98, 0.99]}))
    assert "        of 3 seeds not all have finished: trial-003 with 2" in told


def test_a_verdict_of_one_candidate_has_nothing_to_compare() -> None:
    found = judged(VALUES, only=7)
    assert found == Verdict([Candidate("trial-007", 0.99, VALUES["trial-007"], found.winner.runs)], [], 3)


def test_the_best_are_trained_again_through_the_slots_and_the_test_set_is_seen_for_the_winner_only(
    project: Project,
) -> None:
    folder = project.folder / "multi run"
    finished = project.train(
        "-m", *SMALL, "model.widths=[8],[24,16]", "optimizer.lr=1e-4,1e-2", "objective=val/accuracy",
        "data.validation=300", "hydra.sweeper.study_name=found", f"output_dir='{folder}'",
    )  # fmt: skip
    assert finished.status == 0, finished.err
    arguments = ("--best", "2", "--seeds", "2", "hydra.sweeper.n_jobs=1")
    finished = project.run("confirm", *arguments)
    assert finished.status == 0, finished.err
    assert "study found-confirm-2x2: searching settings, seed for the best val/accuracy" in finished.out
    trials = [run for run in project.runs("trial") if run.data.tags["sweep.study"] == "found-confirm-2x2"]
    assert len(trials) == 4
    best = sorted(
        (run for run in project.runs("trial") if run.data.tags["sweep.study"] == "found"),
        key=lambda run: -run.data.metrics["val/accuracy"],
    )[:2]
    # As found, but for the seed, which is none that the study has used.
    settings = {key: value for key, value in best[0].data.params.items() if key.startswith(("model.", "optimizer."))}
    same = [run for run in trials if settings.items() <= run.data.params.items()]
    assert {run.data.params["seed"] for run in same} == {"1", "2"}

    verdict = finished.out.partition("as found")[2]
    assert re.search(r"winner  trial-00\d: val/accuracy \d\d\.\d\d%, the mean of 2 fresh seeds", verdict)
    assert finished.out.count("test/accuracy") == 1
    assert verdict.count("test/accuracy") == 1

    (parent,) = [run for run in project.runs("study") if run.info.run_name == "found"]
    (kept,) = project.folder.glob(f"mlruns/*/{parent.info.run_id}/artifacts/confirmation.txt")
    assert kept.read_text() in finished.out
    assert "Confirmed with fresh seeds" in (folder / "found" / "report.html").read_text()
    assert len(list((folder / "found" / "confirm" / "settings").iterdir())) == 2
    assert "1 trial at a time; the same command goes on with it\n" in finished.out

    # The same again means the same study, not the newer one that confirms it, and finds all trials done.
    finished = project.run("confirm", *arguments)
    assert finished.status == 0, finished.err
    assert kept.read_text() in finished.out
    assert len([run for run in project.runs("trial") if run.data.tags["sweep.study"] == "found-confirm-2x2"]) == 4


def test_settings_that_differ_in_the_seed_only_are_confirmed_once(project: Project) -> None:
    widths = "model.widths=[8],[16]"
    assert project.train("-m", *SMALL, widths, "seed=0,1", "hydra.sweeper.study_name=seeds").status == 0
    connect()
    table = table_of(find_study("seeds"), DIGITS)
    chosen = confirm.choose_trials(table, 5)
    rows = [one.row for one in chosen]
    assert sorted(row.run.setting("model.widths") for row in rows) == ["[16]", "[8]"]
    assert rows[0].metrics["test/accuracy"] == max(row.metrics["test/accuracy"] for row in table.rows)
    assert confirm.fresh_seeds(table, 2) == [2, 3]
    assert confirm.name_for(table, rows, 2) == "seeds-confirm-2x2"


def test_what_cannot_be_confirmed_is_told_in_one_line(project: Project) -> None:
    for arguments, message in [
        ((), f"no study yet; start one: {study_command()}"),
        (("--study", "none"), "study=none: MLflow knows no study of this name"),
        (("--seeds", "1"), "--seeds=1: must be 2 or more, or there is no spread to see"),
        (("--best", "0"), "--best=0: must be 1 or more"),
    ]:
        finished = project.run("confirm", *arguments)
        assert finished.status == 1
        assert finished.err.startswith(f"error: {message}")
        assert finished.err.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "trust", "message"),
    [
        (
            {"x": 1, "seed": 0, "note": "${oc.env:HOME}"},
            False,
            "config.yaml: note=${oc.env:HOME}: what was recorded is",
        ),
        (
            {"x": 1, "seed": 0, "to": {"_target_": "os.system"}},
            False,
            "to._target_=os.system: it names code, which onl",
        ),
        ({"x": 1, "seed": 0, "to": {"_target_": "os.system"}}, True, ""),
    ],
)
def test_what_a_stranger_recorded_is_neither_resolved_nor_run(
    project: Project, tmp_path: Path, settings: dict[str, object], trust: bool, message: str
) -> None:
    job = Job(metrics={"loss": sweep.Metric(direction="minimize")}, seed="seed")
    goal = job.goal({}, "tests")
    connect()
    with (
        mirror.open_study("s", goal, tmp_path, []) as parent,
        mirror.open_trial(goal, "t", [], mirror.Parent("s", parent.run_id), 0) as made,
    ):
        made.log_metrics({"loss": 1.0}, step=1)
        made.log_text(OmegaConf.to_yaml(OmegaConf.create(settings)), "config.yaml")
    table = of_runs(find_study("s"), job, {}, trials_of(find_study("s")))
    if message:
        with pytest.raises(SweepError, match=re.escape(message)):
            confirm.choose_trials(table, 5, trust)
    else:
        assert [one.settings for one in confirm.choose_trials(table, 5, trust)] == [settings]


def test_a_confirmation_that_is_stopped_goes_on_with_the_same_command(project: Project) -> None:
    finished = project.train("-m", *SMALL, "model.widths=[8],[16]", "hydra.sweeper.study_name=found")
    assert finished.status == 0, finished.err
    words = ("--best", "1", "--seeds", "3", "hydra.sweeper.n_jobs=1", "epochs=30")
    started = project.start("confirm", *words)
    started.wait_for(lambda: "trial   0  test/accuracy" in started.out)
    os.kill(started.process.pid, signal.SIGINT)
    stopped = started.wait()
    assert stopped.status == 130, stopped
    finished = project.run("confirm", *words)
    assert finished.status == 0, finished
    trials = [run for run in project.runs("trial") if run.data.tags["sweep.study"] == "found-confirm-1x3"]
    assert sorted(run.data.params["seed"] for run in trials if run.info.status == "FINISHED") == ["1", "2", "3"]
    assert "the mean of 3 fresh seeds" in finished.out


def test_a_job_without_a_seed_or_a_project_without_a_job_cannot_be_confirmed(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect()
    with mirror.open_study("s", Job().goal({"direction": "minimize"}, "tests"), tmp_path, []):
        pass
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.setenv("SWEEP_ROOT", str(tmp_path))
    with pytest.raises(SystemExit, match=r'names no job to train again; add \[tool\.sweep\] job = "MODULE:NAME"'):
        confirm.main(["--study", "s"])
    (tmp_path / "seedless.py").write_text("def main(cfg): return 0.5\n")
    (tmp_path / "pyproject.toml").write_text('[tool.sweep]\njob = "seedless:main"\n')
    with pytest.raises(SystemExit, match=r"names does not say which setting is its seed; say sweep\.Job\(seed=KEY\)"):
        confirm.main(["--study", "s"])
