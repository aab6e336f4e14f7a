"""What is said of how far a number can be trusted; how it is found is in test_uncertainty.py and test_report.py."""

from pathlib import Path

import numpy as np
import pytest

from sweep.digits import predictions
from sweep.digits.predictions import Predictions
from sweep.record.connect import connect
from sweep.record.lifecycle import open_run
from sweep.record.runs import RunRecord, find_run
from sweep.record.tags import TRIAL_TAG, objective_tags
from sweep.results import trust
from sweep.results.trust import Trust
from sweep.results.uncertainty import flattery, interval

CHOSEN = Trust(
    "test/accuracy", 0.9866, 0.9842, 0.9887, num_images=10_000, num_candidates=20, flattery=0.0007, num_finished=10
)


def test_the_interval_how_many_it_was_picked_from_and_the_flattery_are_told() -> None:
    assert trust.in_words([CHOSEN]) == [
        "test/accuracy 98.66%: 95% interval 98.42% to 98.87%, 10,000 images",
        "picked from 20 trials by these same images, which is expected to flatter it by 0.07 points "
        "(by the 10 that finished)",
    ]


def test_what_is_not_known_is_not_made_up_and_images_without_a_part_in_the_choice_are_named() -> None:
    assert trust.in_words([CHOSEN._replace(flattery=None)])[1].endswith("flatters it by an amount that cannot be told")
    assert trust.in_words([CHOSEN._replace(num_candidates=0)])[1] == "these images had no part in the choice"
    assert len(trust.in_words([CHOSEN._replace(num_candidates=1)])) == 1  # the only trial there is


@pytest.fixture
def recorded(project: object, tmp_path: Path) -> list[RunRecord]:
    """Three trials that have kept what they took 200 images for, and one that was pruned."""
    connect()
    random = np.random.default_rng(0)
    labels = random.integers(10, size=200)
    runs = []
    for number in range(4):
        wrong = random.random(200) < 0.1
        found = Predictions(labels, np.where(wrong, (labels + 1) % 10, labels), np.ones(200, dtype=np.float32))
        tags = objective_tags(["test/accuracy"], ["maximize"]) | {TRIAL_TAG: str(number)}
        with open_run("mine", f"trial-{number}", tags=tags) as run:
            run.log_metrics({"test/accuracy": float(found.correct.mean())}, step=1)
            if number < 3:
                predictions.save({"test": found}, tmp_path / "predictions.npz")
                run.log_file(tmp_path / "predictions.npz")
        record = find_run(run.run_id)
        runs.append(record if number < 3 else record._replace(status="KILLED"))
    return runs


def test_the_flattery_is_found_from_the_finished_trials_and_the_pruned_count_as_candidates(
    recorded: list[RunRecord],
) -> None:
    best = max(recorded[:3], key=lambda run: run.metrics["test/accuracy"])
    (judged,) = trust.judge(best, recorded)
    accuracy = best.metrics["test/accuracy"]
    assert (judged.metric, judged.value, judged.num_images, judged.num_candidates) == (
        "test/accuracy",
        accuracy,
        200,
        4,
    )
    assert (judged.low, judged.high) == interval(accuracy, 200)
    order = sorted(recorded[:3], key=lambda run: run.run_id != best.run_id)
    kept = [trust.predictions_of(run, "test") for run in order]
    assert judged.flattery == flattery(np.stack([one.correct for one in kept if one is not None]))
    assert judged.flattery > 0


def test_trials_scored_on_other_images_are_not_compared(recorded: list[RunRecord], tmp_path: Path) -> None:
    (judged,) = trust.judge(recorded[0], [*recorded[:2], recorded[2]._replace(digest="another data set's")])
    assert judged.flattery is None


def test_where_one_finished_trial_has_kept_nothing_the_flattery_is_not_known(recorded: list[RunRecord]) -> None:
    without = recorded[3]._replace(status="FINISHED")
    (judged,) = trust.judge(recorded[0], [*recorded[:3], without])
    assert judged.flattery is None
    assert trust.judge(without, recorded) == []
