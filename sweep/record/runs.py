"""The runs that MLflow holds, as records: find one, a study and its trials, or the best of several."""

import contextlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from mlflow.entities import Run as RunEntity
from mlflow.tracking import MlflowClient

from sweep.arguments import study_command
from sweep.errors import SweepError, printable
from sweep.files import is_name
from sweep.goal import OBJECTIVE
from sweep.outcome import INTERRUPTED, Outcome, State
from sweep.record.place import get_run
from sweep.record.tags import (
    CONFIRMS_TAG,
    COPY_TAG,
    DIRECTION_TAG,
    ERROR_TAG,
    GRID_TAG,
    KIND_TAG,
    OBJECTIVE_TAG,
    OVERRIDES_TAG,
    PARENT_TAG,
    STATE_TAG,
    STATUS,
    STOPPED_TAG,
    STUDY_TAG,
    TRIAL_TAG,
    read_overrides,
    unquoted,
)

MOST_NAMES = 10
"""Most names of studies in an error about one that is not there."""


class RunRecord(NamedTuple):
    """A run as MLflow holds it."""

    run_id: str
    experiment_id: str
    name: str
    status: str
    """RUNNING, FINISHED, FAILED or KILLED."""
    params: dict[str, str]
    metrics: dict[str, float]
    """The last value of each metric."""
    tags: dict[str, str]
    seconds: float
    """Seconds from the run's start to its end; 0 while it runs."""
    digest: str = ""
    """Digest of the data that the run was trained on; empty if it does not say."""
    dataset: str = ""
    """Name of the data that the run was trained on."""
    started: float = 0.0
    """Start of the run, in seconds since 1970."""

    @property
    def trial_number(self) -> int:
        """Number of the trial in its study, -1 for a run outside of one."""
        return self.whole_number(TRIAL_TAG, -1)

    def whole_number(self, tag: str, missing: int) -> int:
        """Return the whole number in a `tag`, or `missing` where there is no such tag.

        Raises:
            SweepError: The tag is no whole number, so this project has not recorded it.
        """
        text = self.tags.get(tag, str(missing))
        if not re.fullmatch(r"-?[0-9]{1,9}", text):
            raise SweepError(f"run={self.run_id}: its tag {tag} is damaged: {repr(text)[:80]} is no number")
        return int(text)

    @property
    def objectives(self) -> list[str]:
        """The metrics that the run's study, or the run, searches for."""
        return self.tags.get(OBJECTIVE_TAG, OBJECTIVE).split(",")

    @property
    def directions(self) -> list[str]:
        """Direction in which each objective improves.

        Raises:
            SweepError: There are not as many directions as objectives, so this project has not recorded them.
        """
        found = self.tags.get(DIRECTION_TAG, "maximize").split(",")
        if len(found) != len(self.objectives) or not {"minimize", "maximize"}.issuperset(found):
            raise SweepError(
                f"run={self.run_id}: its tag {DIRECTION_TAG} is damaged: {repr(found)[:80]} "
                f"for {len(self.objectives)} objectives"
            )
        return found

    def setting(self, key: str) -> str:
        """Return the value that the override `key` came to: a setting, a group's choice, a list; else empty."""
        key = key.lstrip("+")
        for name in (key, f"{key}.name"):
            if name in self.params:
                return self.params[name]
        if key.endswith(".length"):
            prefix = key.removesuffix("length")
            return str(sum(name.startswith(prefix) and name.removeprefix(prefix).isdigit() for name in self.params))
        items: list[str] = []
        while (name := f"{key}.{len(items)}") in self.params:
            items.append(self.params[name])
        return f"[{','.join(items)}]" if items else self.overrides.get(key, "")

    @property
    def overrides(self) -> dict[str, str]:
        """The settings that the command line or the sweeper changed, by key."""
        given = read_overrides(self.tags.get(OVERRIDES_TAG, ""))
        parts = (override.lstrip("+").split("=", 1) for override in given if "=" in override)
        return {key: unquoted(value) for key, value in parts}

    @property
    def outcome(self) -> Outcome | None:
        """How the run ended; None while it runs."""
        if self.status == "RUNNING":
            return None
        reason = self.tags.get(ERROR_TAG if self.status == "FAILED" else STOPPED_TAG, "")
        recorded = next((state for state in STATUS if state == self.tags.get(STATE_TAG)), None)
        return Outcome(recorded or _state_of_old(self.status, reason), reason)


def _state_of_old(status: str, reason: str) -> State:
    """Return the state of a run that an earlier version recorded with a sentence only."""
    if status == "KILLED":
        return "pruned" if reason.startswith("pruned") else "stopped"
    if status == "FAILED":
        return "interrupted" if reason == INTERRUPTED else "failed"
    return "finished"


@contextlib.contextmanager
def naming(run: RunRecord) -> Iterator[None]:
    """Have a SweepError about a file, in the block, name the file as one of `run`."""
    try:
        yield
    except SweepError as error:
        raise SweepError(f"run={run.run_id}: {run.name}: {error}") from error


def find_run(run_id: str) -> RunRecord:
    """Return the run with this id.

    Raises:
        SweepError: There is no such run.
    """
    run = get_run(run_id)
    if run is None:
        raise SweepError(f"run={run_id}: MLflow knows no run with this id; `mlflow ui` lists them")
    return _record(run)


def find_study(name: str | None) -> RunRecord:
    """Return the parent run of the study called `name`, or of the newest study but for confirmations.

    Raises:
        SweepError: There is no such study. (If MLflow cannot look, that is another error.)
    """
    if name is None:
        newest = next((study for study in studies() if CONFIRMS_TAG not in study.tags), None)
        if newest is None:
            raise SweepError(f"no study yet; start one: {study_command()}")
        return newest
    found = []
    if is_name(name):
        found = search(f"tags.`{KIND_TAG}` = 'study' and tags.`{STUDY_TAG}` = '{quoted(name)}'", newest=1)
    if not found:
        known = ", ".join(study.tags[STUDY_TAG] for study in studies()[:MOST_NAMES])
        raise SweepError(f"study={name}: MLflow knows no study of this name{f'; the newest are {known}' * bool(known)}")
    return found[0]


def studies() -> list[RunRecord]:
    """Return the parent run of every study, newest first."""
    found = search(f"tags.`{KIND_TAG}` = 'study'")
    return [study for study in found if is_name(study.tags.get(STUDY_TAG, ""))]  # others were not made here


def trials_of(study: RunRecord) -> list[RunRecord]:
    """Return the trials of `study`, by their numbers."""
    found = search(f"tags.`{PARENT_TAG}` = '{study.run_id}'", experiment_ids=[study.experiment_id])
    return sorted(found, key=lambda run: run.trial_number)


def below(study: RunRecord) -> list[RunRecord]:
    """Return the trials of `study`, and every run that was opened under one of them, in any experiment."""
    children: dict[str, list[RunRecord]] = {}
    for run in search(f"tags.`{PARENT_TAG}` LIKE '%'"):
        children.setdefault(run.tags[PARENT_TAG], []).append(run)
    found: dict[str, RunRecord] = {}
    waiting = [study.run_id]
    while waiting:
        new = [run for run in children.get(waiting.pop(), []) if run.run_id not in {*found, study.run_id}]
        found |= {run.run_id: run for run in new}
        waiting += [run.run_id for run in new]
    return list(found.values())


def runs_in(experiment: str) -> list[RunRecord]:
    """Return every trial and single run in `experiment`, newest first.

    Raises:
        SweepError: There is no such experiment.
    """
    found = MlflowClient().get_experiment_by_name(experiment)
    if found is None:
        known = ", ".join(sorted(printable(e.name) for e in MlflowClient().search_experiments()))
        raise SweepError(f"experiment={experiment}: MLflow has {known}")
    return search(f"tags.`{KIND_TAG}` = 'trial'", experiment_ids=[found.experiment_id])


def trained() -> list[RunRecord]:
    """Return every finished single run and trial of a study, newest first, without grids and confirmations."""
    left_out = {study.run_id for study in studies() if study.tags.keys() & {GRID_TAG, CONFIRMS_TAG}}
    found = search(f"tags.`{KIND_TAG}` = 'trial' and attributes.status = 'FINISHED'")
    return [run for run in found if run.tags.get(PARENT_TAG) not in left_out and COPY_TAG not in run.tags]


def history_of(run: RunRecord) -> dict[str, dict[int, float]]:
    """Return the values of each metric of `run` by step."""
    return {metric: dict(curve_of(run, metric)) for metric in sorted(run.metrics)}


def experiment_of(run: RunRecord) -> str:
    """Return the name of the experiment that `run` is in."""
    return str(MlflowClient().get_experiment(run.experiment_id).name)


def best_of(runs: list[RunRecord], objective: str, direction: str) -> RunRecord | None:
    """Return the finished run with the best `objective`; the first of equals, as in Optuna."""
    sign = 1 if direction == "minimize" else -1
    finished = [
        run for run in runs if run.status == "FINISHED" and COPY_TAG not in run.tags and objective in run.metrics
    ]
    return min(finished, key=lambda run: (sign * run.metrics[objective], run.trial_number), default=None)


def curve_of(run: RunRecord, metric: str) -> list[tuple[int, float]]:
    """Return the values of `metric` with the step of each."""
    found = MlflowClient().get_metric_history(run.run_id, metric)
    return sorted({point.step: point.value for point in found}.items())


def search(filter_string: str, experiment_ids: list[str] | None = None, newest: int | None = None) -> list[RunRecord]:
    """Return the runs that MLflow's `filter_string` selects, newest first."""
    client = MlflowClient()
    if experiment_ids is None:
        experiment_ids = [str(experiment.experiment_id) for experiment in client.search_experiments()]
    found: list[RunRecord] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            experiment_ids,
            filter_string,
            max_results=newest or 1000,
            order_by=["attributes.start_time DESC"],
            page_token=token,
        )
        found += [_record(run) for run in page if is_name(run.info.run_id)]
        token = page.token
        if newest or not token:
            return found


def _record(run: RunEntity) -> RunRecord:
    """Return `run` as a record, with control characters in its text escaped."""
    ended = run.info.end_time or run.info.start_time
    data = next((used.dataset for used in (run.inputs.dataset_inputs if run.inputs else [])), None)
    return RunRecord(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        name=printable(run.info.run_name or run.info.run_id),
        status=run.info.status,
        params={printable(key): printable(value) for key, value in run.data.params.items()},
        metrics={printable(key): value for key, value in run.data.metrics.items()},
        tags={printable(key): printable(value) for key, value in run.data.tags.items()},
        seconds=max(0, ended - run.info.start_time) / 1000,
        digest=data.digest if data else "",
        dataset=printable(data.name) if data else "",
        started=run.info.start_time / 1000,
    )


def quoted(value: str) -> str:
    """Return `value` as it stands between the quotes of MLflow's filters."""
    return value.replace("'", "''")
