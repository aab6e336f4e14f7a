"""What is said of how far a number can be trusted; how it is found is in test_uncertainty.py."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made import JOB, run, table
from numpy.typing import NDArray

from sweep.description import Metric
from sweep.errors import SweepError
from sweep.hooks import Kept, PerExample
from sweep.record.runs import RunRecord
from sweep.results import trust
from sweep.results.table import StudyTable
from sweep.results.trust import Trust
from sweep.results.uncertainty import interval, interval_of_mean, selection_bias

SHARE = Metric(direction="maximize", is_share=True)
CHOSEN = Trust(
    "test/accuracy", SHARE, 0.9866, 0.9842, 0.9887, num_examples=10_000, num_candidates=20, selection_bias=0.0007,
    num_compared=10, num_finished=10,
)  # fmt: skip


def test_the_interval_how_many_it_was_picked_from_and_the_selection_bias_are_told() -> None:
    assert trust.trust_in_words([CHOSEN]) == [
        "test/accuracy 98.66%: 95% interval 98.42% to 98.87%, 10,000 examples",
        "picked from 20 trials by these same examples: expected selection bias 0.07 points (by the 10 that finished)",
    ]
    assert trust.trust_in_words([CHOSEN._replace(num_candidates=10)])[1].endswith("selection bias 0.07 points")
    long = CHOSEN._replace(num_candidates=900, num_finished=400, num_compared=100)
    assert trust.trust_in_words([long])[1].endswith("(by the best 100 of the 400 that finished)")


def test_what_is_not_known_is_not_made_up_and_examples_without_a_part_in_the_choice_are_named() -> None:
    assert trust.trust_in_words([CHOSEN._replace(selection_bias=None)])[1].endswith("its selection bias cannot be told")
    assert trust.trust_in_words([CHOSEN._replace(num_candidates=0)])[1] == "these examples had no part in the choice"
    assert len(trust.trust_in_words([CHOSEN._replace(num_candidates=1)])) == 1  # the only trial there is


def test_a_metric_that_is_no_share_is_told_in_its_own_numbers() -> None:
    loss = CHOSEN._replace(name="val/mae", metric=Metric(direction="minimize"), value=3.5, low=3.25, high=3.75)
    assert trust.trust_in_words([loss]) == [
        "val/mae 3.5000: 95% interval 3.2500 to 3.7500, 10,000 examples",
        "picked from 20 trials by these same examples: expected selection bias 0.0007 (by the 10 that finished)",
    ]


Scores = dict[tuple[str, str], NDArray[Any]]
"""By the ids of runs and the names of metrics."""


def studied(scores: Scores, runs: list[RunRecord], **changes: Any) -> StudyTable:
    """The table of a study whose trials have kept `scores`; each is of its metric's examples."""

    def per_example(kept: Kept, metric: str) -> PerExample | None:
        found = scores.get((kept.run_id, metric))
        return None if found is None else PerExample(found, metric.partition("/")[0])

    return table(runs, job=replace(JOB, per_example=per_example), **changes)


@pytest.fixture
def scores() -> Scores:
    """Which of 200 examples three trials get right."""
    drawn = np.random.default_rng(0).random((3, 200)) > np.array([[0.1], [0.09], [0.14]])
    return {(f"id{number}", "test/accuracy"): right for number, right in enumerate(drawn)}


def runs_of(scores: Scores) -> list[RunRecord]:
    """Those trials, and one that was pruned."""
    values = [float(right.mean()) for right in scores.values()]
    return [*(run(number, value) for number, value in enumerate(values)), run(3, 0.5, "KILLED")]


def test_the_selection_bias_is_found_from_the_finished_trials_and_the_pruned_count_as_candidates(
    scores: Scores,
) -> None:
    made = studied(scores, runs_of(scores))
    (judged,) = trust.judge_best(made)
    value = made.best.values["test/accuracy"]
    assert (judged.name, judged.value, judged.num_examples, judged.num_candidates) == ("test/accuracy", value, 200, 4)
    assert (judged.low, judged.high) == interval(value, 200)
    best_first = sorted(scores.values(), key=lambda right: -right.mean())
    assert judged.selection_bias == selection_bias(np.stack(best_first))
    assert judged.selection_bias > 0
    assert (judged.num_compared, judged.num_finished) == (3, 3)


def test_the_candidates_far_down_are_not_asked_for(scores: Scores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "MOST_CANDIDATES", 2)
    runs = runs_of(scores)
    worst = min(scores, key=lambda key: scores[key].mean())
    (judged,) = trust.judge_best(studied({key: one for key, one in scores.items() if key != worst}, runs))
    assert (judged.num_compared, judged.num_finished) == (2, 3)
    best_first = sorted(scores.values(), key=lambda right: -right.mean())
    assert judged.selection_bias == selection_bias(np.stack(best_first[:2]))


def test_trials_of_other_data_or_other_examples_are_not_compared(scores: Scores) -> None:
    runs = runs_of(scores)
    (judged,) = trust.judge_best(studied(scores, [*runs[:2], runs[2]._replace(digest="another data set's")]))
    assert judged.selection_bias is None
    shorter = scores | {("id1", "test/accuracy"): scores["id1", "test/accuracy"][:100]}
    (judged,) = trust.judge_best(studied(shorter, runs))
    assert judged.selection_bias is None


def test_where_one_finished_trial_has_kept_nothing_the_selection_bias_is_not_known(scores: Scores) -> None:
    (judged,) = trust.judge_best(studied(scores, [*runs_of(scores), run(4, 0.1)]))
    assert judged.selection_bias is None
    assert trust.judge_best(studied(scores, [*runs_of(scores), run(4, 0.999)])) == []  # nor the best itself


def test_a_lower_mean_of_errors_is_judged_as_better() -> None:
    errors = np.random.default_rng(1).exponential(size=(4, 300))
    kept: Scores = {(f"id{i}", "test/loss"): one for i, one in enumerate(errors)}
    runs = [run(i, {"test/loss": float(one.mean())}) for i, one in enumerate(errors)]
    (judged,) = trust.judge_best(studied(kept, runs, objectives="test/loss", directions="minimize"))
    order = errors[np.argsort(errors.mean(axis=1))]
    assert (judged.low, judged.high) == interval_of_mean(order[0])
    assert judged.selection_bias == selection_bias(order, "minimize") > 0


def test_the_job_s_first_metric_is_told_besides_and_had_no_part_in_a_choice_by_other_examples(scores: Scores) -> None:
    kept = scores | {(run_id, "val/accuracy"): right for (run_id, _), right in scores.items()}
    runs = [
        one._replace(metrics=one.metrics | {"val/accuracy": one.metrics["test/accuracy"]}) for one in runs_of(scores)
    ]
    judged = trust.judge_best(studied(kept, runs, objectives="val/accuracy"))
    assert [(one.name, one.num_candidates) for one in judged] == [("val/accuracy", 4), ("test/accuracy", 0)]
    assert judged[1].selection_bias is None
    only = trust.judge_best(studied(kept, runs))
    assert [one.name for one in only] == ["test/accuracy"]


def test_where_seeds_are_compared_on_other_examples_those_of_the_first_metric_are_kept_for_the_winner(
    scores: Scores,
) -> None:
    by_val = studied(scores, [run(0, {"val/accuracy": 0.9})], objectives="val/accuracy", dimensions=["seed", "lr"])
    assert not trust.is_shown(by_val, "test/accuracy")
    assert not trust.is_shown(by_val, "test/loss")
    assert trust.is_shown(by_val, "val/loss")
    assert trust.is_shown(by_val, "train/loss")
    by_test = studied(scores, runs_of(scores), dimensions=["seed", "lr"])
    assert trust.is_shown(by_test, "test/accuracy")
    no_seeds = studied(scores, [run(0, {"val/accuracy": 0.9})], objectives="val/accuracy", dimensions=["lr"])
    assert trust.is_shown(no_seeds, "test/accuracy")


def test_what_is_damaged_is_left_out_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    def damaged(_kept: Kept, _metric: str) -> PerExample:
        raise SweepError("scores.npy: it is damaged")

    assert trust.judge_best(table([run(0, 0.9)], job=replace(JOB, per_example=damaged))) == []
    assert capsys.readouterr().err == "note: run=id0: trial-000: scores.npy: it is damaged; left out\n"
