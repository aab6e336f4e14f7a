from collections.abc import Callable

import mlflow
import pytest
from conftest import Project
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient
from mlflow.tracking.context.registry import resolve_tags

from sweep.errors import Pruned
from sweep.record.connect import connect
from sweep.record.lifecycle import adopting, open_run
from sweep.record.runs import find_run
from sweep.record.watch import watching

LOGGING: dict[str, Callable[[str], object]] = {
    "log_metric": lambda _: mlflow.log_metric("val/loss", 0.5, step=3),
    "log_metrics": lambda _: mlflow.log_metrics({"val/loss": 0.5}, step=3),
    "log_metric of a client": lambda run_id: MlflowClient().log_metric(run_id, "val/loss", 0.5, step=3),
    "log_batch of a client": lambda run_id: MlflowClient().log_batch(run_id, [Metric("val/loss", 0.5, 0, 3)]),
    "log_metric that does not wait": lambda _: mlflow.log_metric("val/loss", 0.5, step=3, synchronous=False),
}
"""If one of these is no longer seen, MLflow logs by another way than its public client: mend record/watch.py."""


@pytest.mark.parametrize("way", LOGGING)
def test_every_way_to_log_a_metric_is_seen_once_and_logged(project: Project, way: str) -> None:
    connect()
    seen: list[tuple[str, str, float, int]] = []
    with open_run("mine", "run", tags={}) as run, watching(lambda *one: seen.append(one)):
        logged = LOGGING[way](run.run_id)
        if logged is not None and hasattr(logged, "wait"):
            logged.wait()
    LOGGING["log_metric"](run.run_id)  # afterwards nothing is seen any more
    mlflow.end_run()
    assert seen == [(run.run_id, "val/loss", 0.5, 3)]
    assert find_run(run.run_id).metrics == {"val/loss": 0.5}


def test_what_is_raised_at_a_metric_stops_the_job_inside_its_own_logging_call(project: Project) -> None:
    def stop(*_: object) -> None:
        raise Pruned("enough")

    connect()
    with pytest.raises(Pruned), open_run("mine", "run", tags={}), watching(stop):
        mlflow.log_metric("val/loss", 0.5)
        pytest.fail("the job went on")


def test_the_runs_that_a_job_opens_lie_under_its_trial_s_with_its_tags_and_end_as_it_ends(project: Project) -> None:
    connect()
    of_study = {"sweep.study": "s", "sweep.trial": "7"}
    with (
        pytest.raises(Pruned),
        open_run("mine", "trial", tags={}, active=False) as run,
        adopting(run.run_id, of_study),
    ):
        left_open = MlflowClient().create_run("0", tags=resolve_tags({})).info.run_id
        with mlflow.start_run(run_name="through") as through:
            pass
        with mlflow.start_run(run_name="fluent") as fluent, mlflow.start_run(nested=True) as nested:
            raise Pruned("enough")
    for run_id in (left_open, through.info.run_id, fluent.info.run_id, nested.info.run_id):
        found = find_run(run_id)
        assert (found.tags["sweep.study"], found.tags["sweep.trial"]) == ("s", "7")
        assert found.status == ("FINISHED" if run_id == through.info.run_id else "KILLED")
    assert find_run(left_open).tags["mlflow.parentRunId"] == run.run_id
    assert find_run(nested.info.run_id).tags["mlflow.parentRunId"] == fluent.info.run_id
