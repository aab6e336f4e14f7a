"""Tables of studies made without MLflow, for what starts from one."""

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution

from sweep.job import Job, Metric
from sweep.record.runs import RunRecord
from sweep.record.tags import DIRECTION_TAG, OBJECTIVE_TAG, STUDY_TAG, TRIAL_TAG
from sweep.results.table import StudyTable, of_runs

JOB = Job(
    metrics={
        "test/accuracy": Metric(direction="maximize", is_share=True),
        "test/loss": Metric(direction="minimize"),
        "val/accuracy": Metric(direction="maximize", is_share=True),
        "model/size": Metric(direction="minimize", decimals=0),
    },
    seed="seed",
    step="epoch",
)


def run(
    number: int,
    metrics: float | Mapping[str, float],
    status: str = "FINISHED",
    *,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> RunRecord:
    """A trial's run; one number is its test/accuracy, and 1 minus it its test/loss."""
    if isinstance(metrics, float):
        metrics = {"test/accuracy": metrics, "test/loss": 1 - metrics}
    pruned = {"sweep.state": "pruned"} if status == "KILLED" else {}
    return RunRecord(
        run_id=f"id{number}",
        experiment_id="1",
        name=f"trial-{number:03d}",
        status=status,
        params={key: str(value) for key, value in (params or {}).items()},
        metrics=dict(metrics),
        tags={TRIAL_TAG: str(number), **pruned, **(tags or {})},
        seconds=1.25,
    )


def table(
    runs: Sequence[RunRecord],
    dimensions: Mapping[str, BaseDistribution] | Sequence[str] = (),
    *,
    objectives: str = "test/accuracy",
    directions: str = "maximize",
    job: Job = JOB,
) -> StudyTable:
    """The table of a study called `mine`; of dimensions of which only the keys are given nothing is known."""
    if not isinstance(dimensions, Mapping):
        dimensions = {key: CategoricalDistribution(["?"]) for key in dimensions}
    tags = {STUDY_TAG: "mine", OBJECTIVE_TAG: objectives, DIRECTION_TAG: directions}
    study = run(-1, {}, tags=tags)._replace(name="mine", run_id="study")
    return of_runs(study, job, dimensions, runs)
