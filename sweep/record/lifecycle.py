"""The life of a run in MLflow: how it is opened, continued, and ended as its trial ended."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import mlflow
from mlflow.entities import RunTag
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from sweep.errors import concerns_record
from sweep.outcome import FINISHED, INTERRUPTED, Outcome, outcome_of_error
from sweep.record.place import experiment_id, get_run, outermost, require_writable
from sweep.record.run import MLflowRun, failures_told
from sweep.record.runs import RunRecord, search
from sweep.record.tags import ERROR_TAG, STATE_TAG, STATUS, STOPPED_TAG, UNDER_TAG, ending_tags, git_tags

SECONDS_OF_CLOCK_SET = 1
"""By how much the clock was set, while a run was open, for the run's end to be computed from the elapsed time."""

RUN_CONTEXT = "MLFLOW_RUN_CONTEXT"
"""The environment variable with the tags, as JSON, of every run that a process starts."""


@contextlib.contextmanager
def open_run(
    experiment: str,
    name: str,
    *,
    tags: Mapping[str, str],
    parent: "RunRecord | None" = None,
    run_id: str | None = None,
    watch_machine: bool = False,
    outcome: Outcome = FINISHED,
    active: bool = True,
) -> Iterator[MLflowRun]:
    """Open a run named `name`, and close it with `outcome` at the end of the block.

    If the block raises an error, the run is closed as FAILED with the error in a tag; if it raises Stopped, as KILLED
    with the reason.

    Args:
        experiment: Name of the experiment, which is made if it does not exist. That of `parent`, or of a run that
            `mlflow run` made, goes first.
        name: Name of the run in MLflow's pages.
        tags: Tags to set from the start, besides the state of the git repository.
        parent: The run under which this one is shown.
        run_id: The run to go on with, in place of a new one.
        watch_machine: Whether to record every ten seconds how busy processor, memory and GPUs are.
        outcome: Outcome of the run if the block raises no error.
        active: Whether it is MLflow's active run in the block, to which `mlflow.log_metric` and the like log.
    """
    if parent is None:
        run_id = outermost(run_id)
    settings = _RunSettings(
        run_id=run_id,
        experiment_id=None if run_id else parent.experiment_id if parent else experiment_id(experiment),
        run_name=name,
        tags={**git_tags(), **tags},
        parent_run_id=parent.run_id if parent and not run_id else None,
        log_system_metrics=watch_machine,
    )
    opened, end = _open_active(settings) if active else _open_aside(settings)
    began, began_by_clock = time.monotonic(), time.time()
    try:
        yield MLflowRun(opened)
    except BaseException as error:
        outcome = outcome_of_error(error)
        if parent is not None and concerns_record(error):  # then it is no fault of the trial's
            outcome = Outcome("interrupted", INTERRUPTED)
        raise
    finally:
        # Where the record is what broke, the error itself matters more.
        with contextlib.suppress(Exception) if outcome.reason else contextlib.nullcontext():
            end(outcome)
            end_children(opened, outcome)
            # MLflow takes both times from the clock, which may have been set meanwhile.
            elapsed = time.monotonic() - began
            if abs(time.time() - began_by_clock - elapsed) > SECONDS_OF_CLOCK_SET:
                ended = int(1000 * (began_by_clock + elapsed))
                MlflowClient().set_terminated(opened, STATUS[outcome.state], end_time=ended)


class _RunSettings(NamedTuple):
    """Arguments of `mlflow.start_run`."""

    run_id: str | None
    experiment_id: str | None
    run_name: str
    tags: dict[str, str]
    parent_run_id: str | None
    log_system_metrics: bool


@failures_told
def _open_active(settings: _RunSettings) -> tuple[str, Callable[[Outcome], None]]:
    """Open a run as MLflow's active one; return its id and the function that ends it."""
    # The study's run is open in the same process under Hydra's basic launcher.
    run_id = mlflow.start_run(**settings._asdict(), nested=True).info.run_id

    def end(outcome: Outcome) -> None:
        mlflow.set_tags(ending_tags(outcome))
        mlflow.end_run(STATUS[outcome.state])

    return run_id, end


@failures_told
def _open_aside(settings: _RunSettings) -> tuple[str, Callable[[Outcome], None]]:
    """Open a run beside MLflow's active one; return its id and the function that ends it and its children."""
    client = MlflowClient()
    tags = settings.tags | ({MLFLOW_PARENT_RUN_ID: settings.parent_run_id} if settings.parent_run_id else {})
    if settings.run_id is None:
        assert settings.experiment_id is not None
        made = client.create_run(settings.experiment_id, tags=resolve_tags(tags), run_name=settings.run_name)
        run_id = str(made.info.run_id)
    else:
        run_id = settings.run_id
        client.update_run(run_id, status="RUNNING")
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    monitor = None
    if settings.log_system_metrics:
        monitor = SystemMetricsMonitor(run_id, resume_logging=settings.run_id is not None)
        monitor.start()

    def end(outcome: Outcome) -> None:
        if monitor is not None:
            monitor.finish()
        while mlflow.active_run() is not None:
            mlflow.end_run(STATUS[outcome.state])
        client.log_batch(run_id, tags=[RunTag(key, value) for key, value in ending_tags(outcome).items()])
        client.set_terminated(run_id, STATUS[outcome.state])

    return run_id, end


@contextlib.contextmanager
def adopting(run_id: str | None, tags: Mapping[str, str]) -> Iterator[None]:
    """Make every run that is started in the block, in child processes too, a child of the run, with `tags`."""
    before = os.environ.get(RUN_CONTEXT)
    if run_id is not None:
        os.environ[RUN_CONTEXT] = json.dumps({**tags, MLFLOW_PARENT_RUN_ID: run_id, UNDER_TAG: run_id})
    try:
        yield
    finally:
        os.environ.pop(RUN_CONTEXT, None)
        if before is not None:
            os.environ[RUN_CONTEXT] = before


def reopen(run_id: str) -> bool:
    """Open an ended run again, if it is still there, and forget how it ended; return whether it is there.

    Raises:
        RecordError: MLflow could not look.
        SweepError: The place of its files cannot be written.
    """
    run = get_run(run_id)
    if run is None or run.info.lifecycle_stage != "active":
        return False
    require_writable(f"run={run_id}", run.info.artifact_uri)
    for tag in (ERROR_TAG, STOPPED_TAG, STATE_TAG):
        if tag in run.data.tags:
            MlflowClient().delete_tag(run_id, tag)
    return True


def keep_running(run_id: str) -> None:
    """Show a run, which this process has closed, as RUNNING, since others still work on it."""
    MlflowClient().update_run(run_id, status="RUNNING")


def close_run(run: "RunRecord", outcome: Outcome) -> None:
    """End a run whose process died, or that ended in another way, with `outcome`."""
    client = MlflowClient()
    for tag in run.tags.keys() & {ERROR_TAG, STOPPED_TAG}:
        client.delete_tag(run.run_id, tag)
    for key, value in ending_tags(outcome).items():
        client.set_tag(run.run_id, key, value)
    if run.status == "RUNNING":
        client.set_terminated(run.run_id, STATUS[outcome.state])
    else:
        client.update_run(run.run_id, STATUS[outcome.state])  # it keeps the time when it ended


def end_children(run_id: str, outcome: Outcome) -> None:
    """End every run that a job has opened under its trial's run, and not ended itself, as the trial ended.

    A run that was closed by the error which stopped the job, as in `with mlflow.start_run()`, counts as stopped too.
    """
    client, status = MlflowClient(), STATUS[outcome.state]
    for child in search(f"tags.`{UNDER_TAG}` = '{run_id}' and attributes.status != 'FINISHED'"):
        if child.status == "RUNNING":
            client.set_terminated(child.run_id, status)
        elif status == "KILLED":
            client.update_run(child.run_id, status)


def complete(run: "RunRecord", params: Mapping[str, Any], metrics: Mapping[str, float], step: int) -> None:
    """Add to an ended run what is missing of its `params`, and of its `metrics` after `step`."""
    record = MLflowRun(run.run_id)
    if missing := {key: value for key, value in params.items() if key not in run.params}:
        record.log_params(missing)
    if lacking := {key: value for key, value in metrics.items() if key not in run.metrics}:
        record.log_metrics(lacking, step=step)


@failures_told
def delete_runs(runs: Iterable[RunRecord]) -> None:
    """Delete `runs` and the models that they logged; MLflow keeps deleted ones until `mlflow gc` removes them."""
    client = MlflowClient()
    for run in runs:
        outputs = client.get_run(run.run_id).outputs
        for model in outputs.model_outputs if outputs else []:
            client.delete_logged_model(model.model_id)
        client.delete_run(run.run_id)
