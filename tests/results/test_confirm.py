"""Training the best settings again with fresh seeds."""

import re
from pathlib import Path

import pytest
from conftest import Project

from sweep.arguments import study_command
from sweep.record.connect import connect
from sweep.record.runs import RunRecord, find_study, trials_of
from sweep.record.tags import DIRECTION_TAG, OBJECTIVE_TAG, OVERRIDES_TAG, STUDY_TAG
from sweep.results import confirm
from sweep.results.confirm import Candidate, Verdict

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


def study(objective: str = "test/accuracy", direction: str = "maximize") -> RunRecord:
    tags = {STUDY_TAG: "s", OBJECTIVE_TAG: objective, DIRECTION_TAG: direction}
    return run(0, 0.0, **tags)._replace(name="s")


def again(values: dict[str, list[float]]) -> list[RunRecord]:
    pairs = [(name, value) for name, group in values.items() for value in group]
    return [run(i, value, **{OVERRIDES_TAG: f"experiment={name} seed={i}"}) for i, (name, value) in enumerate(pairs)]


CHOSEN = [run(7, 0.99), run(3, 0.98), run(5, 0.97)]
VALUES = {"trial-007": [0.96, 0.97, 0.95], "trial-003": [0.97, 0.98, 0.99], "trial-005": [0.80, 0.81, 0.79]}


def test_the_winner_has_the_best_mean_of_its_seeds_whatever_found_it() -> None:
    verdict = confirm.judge(study(), CHOSEN, again(VALUES), 3)
    assert [one.name for one in verdict.candidates] == ["trial-003", "trial-007", "trial-005"]
    assert verdict.winner.mean == pytest.approx(0.98)
    assert verdict.winner.spread == pytest.approx(0.01)
    assert verdict.winner.found == 0.98
    assert confirm.judge(study("test/loss", "minimize"), CHOSEN, again(VALUES), 3).winner.name == "trial-005"


def test_what_cannot_be_told_apart_is_said() -> None:
    verdict = confirm.judge(study(), CHOSEN, again(VALUES), 3)
    assert not verdict.differ("trial-003", "trial-007")
    assert verdict.differ("trial-003", "trial-005")
    told = "\n".join(confirm._verdict_in_words(study(), verdict))
    assert "winner  trial-003: test/accuracy 98.00%, the mean of 3 fresh seeds" in told
    assert "cannot be told apart from trial-007 by so few seeds" in told
    assert "better than trial-005" in told
    assert "besides, trial-007 from trial-005 can be told apart" in told


def test_one_seed_tells_nothing() -> None:
    with pytest.raises(
        Exception, match=r"^study=s: trial-005 has finished with 1 fresh seeds, which tells nothing yet"
    ):
        confirm.judge(study(), CHOSEN, again(VALUES | {"trial-005": [0.8]}), 3)


def test_seeds_that_have_not_finished_are_named() -> None:
    verdict = confirm.judge(study(), CHOSEN, again(VALUES | {"trial-003": [0.98, 0.99]}), 3)
    told = confirm._verdict_in_words(study(), verdict)
    assert "        of 3 seeds not all have finished: trial-003 with 2" in told


def test_a_verdict_of_one_candidate_has_nothing_to_compare() -> None:
    verdict = confirm.judge(study(), CHOSEN[:1], again(VALUES), 3)
    assert verdict == Verdict([Candidate("trial-007", 0.99, VALUES["trial-007"], verdict.winner.runs)], [], 3)


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
    assert "study found-confirm-2x2: searching experiment, seed for the best val/accuracy" in finished.out
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
    experiments = sorted((folder / "found" / "confirm" / "experiment").iterdir())
    assert len(experiments) == 2

    # The same again means the same study, not the newer one that confirms it, and finds all trials done.
    finished = project.run("confirm", *arguments)
    assert finished.status == 0, finished.err
    assert kept.read_text() in finished.out
    assert len([run for run in project.runs("trial") if run.data.tags["sweep.study"] == "found-confirm-2x2"]) == 4


def test_settings_that_differ_in_the_seed_only_are_confirmed_once(project: Project) -> None:
    widths = "model.widths=[8],[16]"
    assert project.train("-m", *SMALL, widths, "seed=0,1", "hydra.sweeper.study_name=seeds").status == 0
    connect()
    found = find_study("seeds")
    chosen = confirm.choose(found, 5)
    assert sorted(one.setting("model.widths") for one in chosen) == ["[16]", "[8]"]
    best = max(trials_of(found), key=lambda run: run.metrics["test/accuracy"])
    assert chosen[0].metrics["test/accuracy"] == best.metrics["test/accuracy"]
    assert "seed=choice(2,3)" in confirm.command(found, chosen, 2, "again", [])
    assert confirm._name_for(found, chosen, 2) == "seeds-confirm-2x2"


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


def test_paths_are_quoted_only_where_hydra_needs_it(tmp_path: Path) -> None:
    assert confirm._quoted("file:///home/me/multirun") == "file:///home/me/multirun"
    assert confirm._quoted("/home/me/it's here, too") == r"'/home/me/it\'s here, too'"
