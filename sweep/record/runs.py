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
from sweep.job import OBJECTIVE
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
    STATE_TAG,
    STATUS,
    STOPPED_TAG,
    STUDY_TAG,
    TRIAL_TAG,
    read_overrides,
    unquoted,
)

MOST_NAMES = 10
"""Studies that are named to somebody who asks for one that is not there."""


class RunRecord(NamedTuple):
    """What MLflow holds of a run."""

    run_id: str
    experiment_id: str
    name: str
    status: str
    """RUNNING, FINISHED, FAILED or KILLED."""
    params: dict[str, str]
    metrics: dict[str, float]
    """The last value of each."""
    tags: dict[str, str]
    seconds: float
    """From its start to its end; 0 while it runs."""
    digest: str = ""
    """Digest of the data that it was trained on; empty if it does not say."""
    dataset: str = ""
    """Name of those data."""
    started: float = 0.0
    """When it began, in seconds since 1970."""

    @property
    def trial_number(self) -> int:
        """Its number in its study, -1 for a run outside of one."""
        return self.whole_number(TRIAL_TAG, -1)

    def whole_number(self, tag: str, missing: int) -> int:
        """What the `tag` holds, or `missing` where there is none.

        Raises:
            SweepError: It is no whole number, so whoever recorded it is not this project.
        """
        text = self.tags.get(tag, str(missing))
        if not re.fullmatch(r"-?[0-9]{1,9}", text):
            raise SweepError(f"run={self.run_id}: its tag {tag} is damaged: {repr(text)[:80]} is no number")
        return int(text)

    @property
    def objectives(self) -> list[str]:
        """The metrics that it is after."""
        return self.tags.get(OBJECTIVE_TAG, OBJECTIVE).split(",")

    @property
    def directions(self) -> list[str]:
        """Which way each of them is better.

        Raises:
            SweepError: There are not as many of them as objectives, so whoever recorded it is not this project.
        """
        found = self.tags.get(DIRECTION_TAG, "maximize").split(",")
        if len(found) != len(self.objectives) or not {"minimize", "maximize"}.issuperset(found):
            raise SweepError(
                f"run={self.run_id}: its tag {DIRECTION_TAG} is damaged: {repr(found)[:80]} "
                f"for {len(self.objectives)} objectives"
            )
        return found

    def setting(self, key: str) -> str:
        """What the override `key` came to: a value, the choice of a group, or a list; empty if it is unknown."""
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
        """What the command line or the sweeper changed."""
        given = read_overrides(self.tags.get(OVERRIDES_TAG, ""))
        parts = (override.lstrip("+").split("=", 1) for override in given if "=" in override)
        return {key: unquoted(value) for key, value in parts}

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it runs."""
        if self.status == "RUNNING":
            return None
        reason = self.tags.get(ERROR_TAG if self.status == "FAILED" else STOPPED_TAG, "")
        recorded = next((state for state in STATUS if state == self.tags.get(STATE_TAG)), None)
        return Outcome(recorded or _state_of_old(self.status, reason), reason)


def _state_of_old(status: str, reason: str) -> State:
    """The state of a run by a version that wrote a sentence only."""
    if status == "KILLED":
        return "pruned" if reason.startswith("pruned") else "stopped"
    if status == "FAILED":
        return "interrupted" if reason == INTERRUPTED else "failed"
    return "finished"


@contextlib.contextmanager
def naming(run: RunRecord) -> Iterator[None]:
    """Within, what a SweepError says of a file is said of the file of `run`."""
    try:
        yield
    except SweepError as error:
        raise SweepError(f"run={run.run_id}: {run.name}: {error}") from error


def find_run(run_id: str) -> RunRecord:
    """The run with this id.

    Raises:
        SweepError: There is none.
    """
    run = get_run(run_id)
    if run is None:
        raise SweepError(f"run={run_id}: MLflow knows no run with this id; `mlflow ui` lists them")
    return _record(run)


def find_study(name: str | None) -> RunRecord:
    """The parent run of the study called `name`, or of the newest that does not only confirm another.

    Raises:
        SweepError: There is none; that it cannot be looked up now is another error.
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
    """The parent run of every study, newest first."""
    found = search(f"tags.`{KIND_TAG}` = 'study'")
    return [study for study in found if is_name(study.tags.get(STUDY_TAG, ""))]  # others were not made here


def trials_of(study: RunRecord) -> list[RunRecord]:
    """The trials of `study`, by their numbers."""
    found = search(f"tags.`mlflow.parentRunId` = '{study.run_id}'", experiment_ids=[study.experiment_id])
    return sorted(found, key=lambda run: run.trial_number)


def below(study: RunRecord) -> list[RunRecord]:
    """The trials of `study`, and every run that was opened below one of them, wherever it was recorded."""
    children: dict[str, list[RunRecord]] = {}
    for run in search("tags.`mlflow.parentRunId` LIKE '%'"):
        children.setdefault(run.tags["mlflow.parentRunId"], []).append(run)
    found: dict[str, RunRecord] = {}
    waiting = [study.run_id]
    while waiting:
        new = [run for run in children.get(waiting.pop(), []) if run.run_id not in {*found, study.run_id}]
        found |= {run.run_id: run for run in new}
        waiting += [run.run_id for run in new]
    return list(found.values())


def runs_in(experiment: str) -> list[RunRecord]:
    """Every trial and single run in `experiment`, newest first.

    Raises:
        SweepError: There is no such experiment.
    """
    found = MlflowClient().get_experiment_by_name(experiment)
    if found is None:
        known = ", ".join(sorted(printable(e.name) for e in MlflowClient().search_experiments()))
        raise SweepError(f"experiment={experiment}: MLflow has {known}")
    return search(f"tags.`{KIND_TAG}` = 'trial'", experiment_ids=[found.experiment_id])


def trained() -> list[RunRecord]:
    """Every single run and study's trial that has finished, newest first; not those of grids and confirmations."""
    left_out = {study.run_id for study in studies() if study.tags.keys() & {GRID_TAG, CONFIRMS_TAG}}
    found = search(f"tags.`{KIND_TAG}` = 'trial' and attributes.status = 'FINISHED'")
    return [run for run in found if run.tags.get("mlflow.parentRunId") not in left_out and COPY_TAG not in run.tags]


def history_of(run: RunRecord) -> dict[str, dict[int, float]]:
    """The values of each metric of `run` by epoch."""
    return {metric: dict(curve_of(run, metric)) for metric in sorted(run.metrics)}


def experiment_of(run: RunRecord) -> str:
    """Name of the experiment that `run` is in."""
    return str(MlflowClient().get_experiment(run.experiment_id).name)


def best_of(runs: list[RunRecord], objective: str, direction: str) -> RunRecord | None:
    """The finished run with the best `objective`; the first of equals, as Optuna has it."""
    return next(iter(front_of(runs, [objective], [direction])), None)


def front_of(runs: list[RunRecord], objectives: list[str], directions: list[str]) -> list[RunRecord]:
    """The finished runs that no other beats in one objective without losing in another, the first of equals only.

    With one objective that is the best run.
    """
    signs = [1 if direction == "minimize" else -1 for direction in directions]
    finished = [
        run
        for run in runs
        if run.status == "FINISHED" and COPY_TAG not in run.tags and all(key in run.metrics for key in objectives)
    ]
    losses = {  # the lower, the better; the earlier of equals beats the later
        run.run_id: [sign * run.metrics[key] for sign, key in zip(signs, objectives, strict=True)] for run in finished
    }

    def beats(a: RunRecord, b: RunRecord) -> bool:
        pairs = list(zip(losses[a.run_id], losses[b.run_id], strict=True))
        return all(x <= y for x, y in pairs) and (any(x < y for x, y in pairs) or a.trial_number < b.trial_number)

    return [run for run in finished if not any(beats(other, run) for other in finished)]


def curve_of(run: RunRecord, metric: str) -> list[tuple[int, float]]:
    """The values of `metric` after each epoch."""
    found = MlflowClient().get_metric_history(run.run_id, metric)
    return sorted({point.step: point.value for point in found}.items())


def search(filter_string: str, experiment_ids: list[str] | None = None, newest: int | None = None) -> list[RunRecord]:
    """The runs that MLflow's `filter_string` lets pass, newest first."""
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
    """What MLflow holds of `run`, with nothing in its words that a terminal would act on."""
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
    """`value` as it stands between the quotes of MLflow's filters."""
    return value.replace("'", "''")
