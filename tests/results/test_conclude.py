"""A study in MLflow: the ends of trials whose job could not tell them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import pytest
from conftest import Project
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweep.digits.config import Config
from sweep.digits.job import DIGITS
from sweep.goal import Goal
from sweep.outcome import FINISHED, INTERRUPTED, Ended, Outcome
from sweep.record import mirror
from sweep.record.connect import connect
from sweep.record.lifecycle import open_run
from sweep.record.runs import RunRecord, curve_of, find_run, trials_of
from sweep.record.tags import KIND_TAG, STUDY_TAG, TRIAL_TAG, objective_tags
from sweep.results import report, summary
from sweep.results.conclude import as_recorded
from sweep.results.table import table_of
from sweep.study import ending
from sweep.study.dimensions import SPACE_FILE, to_json

DIMENSIONS: dict[str, Any] = {
    "model.widths.length": IntDistribution(1, 3),
    "model.widths.0": IntDistribution(8, 64),
    "model.widths.1": IntDistribution(8, 64),
    "optimizer": CategoricalDistribution(["adam", "sgd"]),
    "optimizer.lr": FloatDistribution(1e-4, 1e-1, log=True),
}
PARAMS: dict[str, Any] = {
    "model.widths.length": 2, "model.widths.0": 32, "model.widths.1": 16, "optimizer": "sgd", "optimizer.lr": 0.05,
}  # fmt: skip
GOAL = Goal(["test/accuracy"], ["maximize"], "digits", is_recorded=True)
PRUNED = Outcome("pruned", "pruned after epoch 2")
SETTINGS = {"model.widths.0": "32", "model.widths.1": "16", "optimizer.name": "sgd", "optimizer.lr": "0.05"}


@pytest.fixture
def study(project: Project) -> RunRecord:
    """One with a finished trial, number 0, and trial 1, whose job was killed before it recorded anything."""
    connect()
    tags = objective_tags(["test/accuracy"], ["maximize"]) | {STUDY_TAG: "tiny"}
    with open_run("digits", "tiny", tags=tags | {KIND_TAG: "study"}) as run:
        run.log_text(to_json(DIMENSIONS), SPACE_FILE)
        parent = find_run(run.run_id)
    for number in (0, 1):
        trial_tags = tags | {KIND_TAG: "trial", TRIAL_TAG: str(number)}
        with open_run("digits", f"trial-{number:03d}", tags=trial_tags, parent=parent) as run:
            if number == 0:
                run.log_params(SETTINGS | {"optimizer.lr": 0.01, "seed": 0})
                run.log_metrics({"test/accuracy": 0.9}, step=2)
    project.client().update_run(run.run_id, status="RUNNING")
    return parent


def settle(compose: Callable[..., Config], ended: Mapping[int, Ended]) -> None:
    composed = OmegaConf.create(asdict(compose("data=digits")))
    named = {number: end._replace(params=as_recorded(end.params, composed)) for number, end in ended.items()}
    mirror.settle_runs(GOAL, mirror.Parent("tiny", None), named)


def test_what_a_job_could_not_tell_of_its_settings_and_its_last_value_is_in_every_table(
    study: RunRecord, compose: Callable[..., Config]
) -> None:
    settle(compose, {
        0: Ended(FINISHED, params=PARAMS, metrics={"test/accuracy": 0.1}),  # has told all itself
        1: Ended(Outcome("interrupted", INTERRUPTED), params=PARAMS, metrics={"test/accuracy": 0.4}, step=1),
        2: Ended(Outcome("failed", "no memory"), params=PARAMS),  # without a run
        3: Ended(PRUNED, params=PARAMS, metrics={"test/accuracy": 0.5}, step=2),
        4: Ended(FINISHED, params=PARAMS, metrics={"test/accuracy": 0.8}),
    })  # fmt: skip
    runs = {run.trial_number: run for run in trials_of(study)}
    assert {number: run.status for number, run in runs.items()} == {
        0: "FINISHED", 1: "FAILED", 2: "FAILED", 3: "KILLED", 4: "FINISHED",
    }  # fmt: skip
    assert runs[0].params == SETTINGS | {"optimizer.lr": "0.01", "seed": "0"}
    assert runs[0].metrics == {"test/accuracy": 0.9}
    for number in (1, 2, 3, 4):
        assert runs[number].params == SETTINGS, number
    assert curve_of(runs[1], "test/accuracy") == [(1, 0.4)]
    assert curve_of(runs[3], "test/accuracy") == [(2, 0.5)]

    made = table_of(study, DIGITS)
    printed = summary.table_in_words(made).splitlines()
    rows = {row.split()[0]: row.split() for row in printed[1:6]}
    assert rows["1"] == ["1", "-", "0.05", rows["1"][3], "interrupted"]
    assert rows["2"] == ["2", "-", "0.05", rows["2"][3], "failed"]
    assert rows["3"] == ["3", "50.00%", "0.05", rows["3"][3], "pruned"]
    assert printed[6] == "the same in all: model.widths=[32,16]  optimizer=sgd"
    table = {row["trial"]: row for row in report.rows_of(made)}
    for number in (1, 2, 3, 4):
        shown = {key: table[number][key] for key in DIMENSIONS}
        assert shown == PARAMS, number


def test_settling_again_adds_nothing(study: RunRecord, compose: Callable[..., Config]) -> None:
    ends = {3: Ended(PRUNED, params=PARAMS, metrics={"test/accuracy": 0.5}, step=2)}
    for _ in range(2):
        settle(compose, ends)
    (run,) = (run for run in trials_of(study) if run.trial_number == 3)
    assert curve_of(run, "test/accuracy") == [(2, 0.5)]


def ended(state: TrialState, **changes: Any) -> FrozenTrial:
    return create_trial(state=state, params={"lr": 0.1}, distributions={"lr": FloatDistribution(0, 1)}, **changes)


def test_of_a_trial_that_has_not_finished_the_last_reported_value_is_its_end() -> None:
    def end_of(state: TrialState, **changes: Any) -> Ended:
        return ending.ended(ended(state, **changes), ["a/accuracy"], "epoch")

    reported = {1: 0.5, 2: 0.6}
    pruned = end_of(TrialState.PRUNED, intermediate_values=reported)
    assert (pruned.outcome, pruned.metrics, pruned.step) == (PRUNED, {"a/accuracy": 0.6}, 2)
    failed = end_of(TrialState.FAIL, intermediate_values=reported)
    assert (failed.outcome.state, failed.metrics, failed.params) == ("failed", {"a/accuracy": 0.6}, {"lr": 0.1})
    silent = end_of(TrialState.FAIL, system_attrs={"fixed_params": {"lr": 0.2, "x": 1}})
    assert (silent.metrics, silent.params) == ({}, {"lr": 0.1, "x": 1})
    finished = end_of(TrialState.COMPLETE, value=0.7, intermediate_values=reported)
    assert finished.metrics == {"a/accuracy": 0.7}


def test_a_length_whose_items_are_not_searched_is_recorded_as_it_is() -> None:
    composed = OmegaConf.create({"model": {"name": "mlp", "widths": [8]}})
    params = {"model.widths.length": 1, "model": "mlp"}
    assert as_recorded(params, composed) == {"model.widths.length": 1, "model.name": "mlp"}
