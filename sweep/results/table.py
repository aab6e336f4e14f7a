"""The trials of a study as one typed table, made once from MLflow's record.

Summary, plots, importances, report and confirm start from it: the ranking of trials, and the Pareto front, are decided
here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweep.description import Description, Metric
from sweep.errors import SweepError
from sweep.outcome import Outcome
from sweep.record.files import read_text
from sweep.record.runs import RunRecord, naming, trials_of
from sweep.record.tags import COPY_TAG, STUDY_TAG
from sweep.results.known import job_of
from sweep.study.dimensions import SPACE_FILE, from_json, value_of

Curve = Sequence[tuple[int, float]]
"""The values of a metric with the step of each."""


class TrialRow(NamedTuple):
    """One trial of a study, as it was recorded."""

    number: int
    """Number of the trial in its study, from 0."""
    run: RunRecord
    """The trial's run in MLflow, with its tags, by which its files are found."""
    outcome: Outcome | None
    """How the trial ended; None while it runs."""
    values: Mapping[str, float]
    """The value of each objective; of a pruned trial the last one it reported."""
    settings: Mapping[str, Any]
    """The typed value of each searched dimension that the trial has."""
    copy_of: int | None = None
    """Number of the trial that this one copies, where it was not trained itself."""

    @property
    def run_id(self) -> str:
        """Id of the trial's run in MLflow."""
        return self.run.run_id

    @property
    def name(self) -> str:
        """Name of the trial's run, as in `trial-007`."""
        return self.run.name

    @property
    def seconds(self) -> float:
        """Seconds from the trial's start to its end; 0 while it runs."""
        return self.run.seconds

    @property
    def metrics(self) -> Mapping[str, float]:
        """The last value of each metric."""
        return self.run.metrics

    @property
    def params(self) -> Mapping[str, str]:
        """Every recorded setting of the trial, as text."""
        return self.run.params

    @property
    def state(self) -> str:
        """The state of the trial's outcome in one word, or running."""
        return "running" if self.outcome is None else self.outcome.state

    @property
    def is_pruned(self) -> bool:
        """Whether the study's pruner ended the trial."""
        return self.state == "pruned"

    @property
    def is_candidate(self) -> bool:
        """Whether the trial can be the best: finished, with a number for each objective, and no copy."""
        is_whole = not any(map(math.isnan, self.values.values()))
        return self.state == "finished" and self.copy_of is None and is_whole


@dataclass(frozen=True)
class StudyTable:
    """A study with all of its trials."""

    study: RunRecord
    """The run of the study, parent of its trials' runs."""
    job: Description
    """Description of the job of the trials."""
    dimensions: Mapping[str, BaseDistribution]
    """The searched dimensions, by key."""
    rows: Sequence[TrialRow]
    """All trials, by their numbers."""
    objectives: Sequence[str] = field(init=False)
    """The metrics that the study searches for."""
    directions: Sequence[str] = field(init=False)
    """Direction in which each objective improves: minimize or maximize."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "objectives", self.study.objectives)
        object.__setattr__(self, "directions", self.study.directions)

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.study.tags[STUDY_TAG]

    @property
    def objective(self) -> str:
        """The metric by which trials are ranked: the first objective."""
        return self.objectives[0]

    @property
    def direction(self) -> str:
        """Direction in which the ranking objective improves."""
        return self.directions[0]

    @property
    def metric(self) -> Metric:
        """The job's description of the ranking objective."""
        return self.job.metric(self.objective)

    @cached_property
    def ranked(self) -> list[TrialRow]:
        """All trials, best first by the objective, unfinished ones last; of equals the first."""
        sign = 1 if self.direction == "minimize" else -1

        def place(row: TrialRow) -> tuple[bool, float, int]:
            return row.state != "finished", sign * row.values.get(self.objective, 0.0), row.number

        return sorted(self.rows, key=place)

    @cached_property
    def scored(self) -> list[TrialRow]:
        """The trials that finished or were pruned with a value of the objective, without copies, by number."""
        return [
            row
            for row in self.rows
            if row.state in ("finished", "pruned")
            and row.copy_of is None
            and not math.isnan(row.values.get(self.objective, math.nan))
        ]

    @cached_property
    def front(self) -> list[TrialRow]:
        """The best trial, or with several objectives the Pareto front, by number.

        No other trial beats these in one objective without losing in another; of equals only the first is there. Empty
        if no trial has finished.
        """
        signs = [1 if direction == "minimize" else -1 for direction in self.directions]
        candidates = [row for row in self.rows if row.is_candidate and len(row.values) == len(self.objectives)]
        losses = {
            row.number: tuple(sign * row.values[key] for sign, key in zip(signs, self.objectives, strict=True))
            for row in candidates
        }
        found: list[TrialRow] = []
        # In this order none is beaten by a later one, nor by what a later one beats.
        for row in sorted(candidates, key=lambda row: (losses[row.number], row.number)):
            own = losses[row.number]
            if not any(all(x <= y for x, y in zip(losses[other.number], own, strict=True)) for other in found):
                found.append(row)
        return sorted(found, key=lambda row: row.number)

    @property
    def best(self) -> TrialRow:
        """The best trial by the objective.

        Raises:
            SweepError: No trial has finished.
        """
        sign = 1 if self.direction == "minimize" else -1
        if not self.front:
            raise SweepError(
                f"study={self.study.name}: none of its {len(self.rows)} trials has finished, so there is no best one"
            )
        return min(self.front, key=lambda row: (sign * row.values[self.objective], row.number))

    def to_optuna(self, curves: Mapping[int, Curve] | None = None) -> optuna.Study:
        """Return the study as Optuna's own, in memory, for Optuna's figures.

        Args:
            curves: The objective's values by step, of the trials whose numbers are given.
        """
        made = _empty_study(self.directions)
        made.add_trials([self._in_optuna(row, (curves or {}).get(row.number, ())) for row in self.rows])
        return made

    def scored_in_optuna(self) -> optuna.Study:
        """Return the scored trials as an Optuna study of one objective, with pruned trials as finished.

        Use it only where the order of the values counts, for which the last value of a pruned trial will do.
        """
        made = _empty_study([self.direction])
        for row in self.scored:
            made.add_trial(create_trial(value=row.values[self.objective], **self._searched(row)))
        return made

    def _in_optuna(self, row: TrialRow, curve: Curve) -> FrozenTrial:
        if row.is_candidate and len(row.values) == len(self.objectives):
            values = [row.values[key] for key in self.objectives]
            return create_trial(values=values, intermediate_values=dict(curve), **self._searched(row))
        state = TrialState.RUNNING if row.outcome is None else TrialState.PRUNED if row.is_pruned else TrialState.FAIL
        return create_trial(state=state, intermediate_values=dict(curve), **self._searched(row))

    def _searched(self, row: TrialRow) -> dict[str, Any]:
        known = {key: self.dimensions[key] for key in row.settings}
        return {"params": dict(row.settings), "distributions": known, "user_attrs": {"trial": row.number}}


def _empty_study(directions: Sequence[str]) -> optuna.Study:
    return optuna.create_study(
        directions=[StudyDirection[direction.upper()] for direction in directions], sampler=RandomSampler()
    )


def table_of(
    study: RunRecord, job: Description | None = None, dimensions: Mapping[str, BaseDistribution] | None = None
) -> StudyTable:
    """Return the table of `study`, from MLflow alone.

    Args:
        study: The run of the study.
        job: Description of the study's job; by default the one that `job_of` finds.
        dimensions: The searched dimensions; by default as recorded.

    Raises:
        SweepError: The record has no search space, or is damaged.
    """
    if dimensions is None:
        dimensions = _recorded_space(study)
    return of_runs(study, job or job_of(study), dimensions, trials_of(study))


def of_runs(
    study: RunRecord, job: Description, dimensions: Mapping[str, BaseDistribution], runs: Sequence[RunRecord]
) -> StudyTable:
    """Return the table of `study` with the trials in `runs`."""
    rows = [_row(run, study.objectives, dimensions) for run in runs]
    return StudyTable(study, job, dimensions, sorted(rows, key=lambda row: row.number))


def _recorded_space(study: RunRecord) -> dict[str, BaseDistribution]:
    recorded = read_text(study, SPACE_FILE)
    if recorded is None:
        raise SweepError(f"study={study.name}: its run in MLflow has no {SPACE_FILE}, so what it searched is not known")
    with naming(study):
        return from_json(recorded)


def _row(run: RunRecord, objectives: Sequence[str], dimensions: Mapping[str, BaseDistribution]) -> TrialRow:
    found = {key: value_of(dimension, run.setting(key)) for key, dimension in dimensions.items()}
    return TrialRow(
        number=run.trial_number,
        run=run,
        outcome=run.outcome,
        values={key: run.metrics[key] for key in objectives if key in run.metrics},
        settings={key: value for key, value in found.items() if value is not None},
        copy_of=run.whole_number(COPY_TAG, -1) if COPY_TAG in run.tags else None,
    )
