"""MLflow's registry of models: names, their versions, and which version is the champion.

All versions of a name are of one data set. The alias `champion` is on the best of them by one objective, so
`models:/NAME@champion` is the model to serve.
"""

import shlex
from collections.abc import Iterable
from typing import NamedTuple

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sweep.description import Description
from sweep.errors import SweepError, in_one_line, printable
from sweep.record.place import NOT_FOUND
from sweep.record.runs import RunRecord, find_run, quoted
from sweep.record.tags import DIRECTION_TAG, OBJECTIVE_TAG

ALIAS = "champion"
DATA_TAG, DIGEST_TAG = "sweep.data", "sweep.digest"
VALUE_TAG = "sweep.value"


class Registered(NamedTuple):
    """The result of registering a model."""

    version: str
    is_champion: bool
    reason: str
    """Why the version is, or is not, the champion."""


def register_model(run: RunRecord, name: str, job: Description) -> Registered:
    """Register the model of `run`, of a `job`, under `name`, as the champion if it beats the present one.

    A run is registered once: the second time its version is found, and compared again. Where no version is the
    champion, the best of them counts as the present one.

    Raises:
        SweepError: The name has models of another data set, the run has logged no model or has no metric that can be
            compared, or the registry refuses it.
    """
    client = MlflowClient()
    data, objective, measure = run.dataset or "data unknown", run.objectives[0], _measure(run, job)
    direction = run.directions[0] if DIRECTION_TAG in run.tags else job.metric(objective).direction
    if direction is None:
        raise SweepError(
            f"run={run.run_id}: {run.name} does not say whether its {objective} is better low or high, by which it "
            "would be compared"
        )
    model = logged_model(run)
    if model is None:
        raise SweepError(f"run={run.run_id}: {run.name} is {run.status}, and has no logged model to register")
    if objective not in run.metrics:
        raise SweepError(f"run={run.run_id}: {run.name} has no {objective}, by which it would be compared")
    try:
        versions = _versions(name)
        for other in versions:
            if other.tags.get(DIGEST_TAG) != run.digest:
                theirs = other.tags.get(DATA_TAG, "another origin")
                raise SweepError(
                    f"--register={name}: its version {other.version} is of {theirs} "
                    f"({other.tags.get(DIGEST_TAG, 'no digest')}), this model of {data} ({run.digest}); "
                    "choose another name"
                )
        version = next((one for one in versions if one.run_id == run.run_id), None)
        if version is None:
            tags = {
                DATA_TAG: data,
                DIGEST_TAG: run.digest,
                OBJECTIVE_TAG: measure,
                VALUE_TAG: repr(run.metrics[objective]),
            }
            version = mlflow.register_model(f"models:/{model}", name, tags=tags)
        champion = _champion(name) or _best_of(versions, version, measure, direction)
        is_better, reason = _compare(run.metrics[objective], measure, direction, version, champion)
        if is_better:
            client.set_registered_model_alias(name, ALIAS, version.version)
    except MlflowException as error:
        raise SweepError(f"--register={name}: {in_one_line(error, 300)}") from error
    return Registered(str(version.version), is_better, reason)


def _compare(
    value: float, measure: str, direction: str, version: ModelVersion, champion: ModelVersion | None
) -> tuple[bool, str]:
    if champion is None:
        return True, "the first of its name"
    if champion.version == version.version:
        return True, "as before"
    theirs = champion.tags.get(OBJECTIVE_TAG)
    if theirs != measure:
        return False, f"version {champion.version} was chosen by {theirs}, this one by {measure}"
    best = _value_of(champion)
    is_better = value < best if direction == "minimize" else value > best
    return is_better, f"{measure} {value:.4f}, version {champion.version} has {best:.4f}"


def _best_of(versions: list[ModelVersion], version: ModelVersion, measure: str, direction: str) -> ModelVersion | None:
    """Return the best of the other `versions` that were chosen by the same `measure`."""
    others = [one for one in versions if one.version != version.version and one.tags.get(OBJECTIVE_TAG) == measure]
    sign = -1 if direction == "minimize" else 1
    return max(others, key=lambda one: sign * _value_of(one), default=None)


def _value_of(version: ModelVersion) -> float:
    """Return the value of the objective that `version` was registered with."""
    try:
        return float(version.tags[VALUE_TAG])
    except (KeyError, ValueError) as error:
        raise SweepError(
            f"--register={version.name}: version {version.version} has no number as its tag {VALUE_TAG}; "
            "delete it, or choose another name"
        ) from error


def _measure(run: RunRecord, job: Description) -> str:
    """Return the measure of a run's value: its objective, and the settings that decide its examples.

    Values on different examples are not compared.
    """
    objective = run.objectives[0]
    deciding = ", ".join(f"{key}={run.params.get(key, '')}" for key in job.metric(objective).depends_on)
    return f"{objective} with {deciding}" if deciding else objective


def find_champion(name: str) -> RunRecord:
    """Return the run whose model is the champion of `name`.

    Raises:
        SweepError: There is no such name, or it has no champion.
    """
    champion = _champion(name)
    if champion is None:
        models = (printable(model.name) for model in MlflowClient().search_registered_models())
        known = ", ".join(sorted(models)) or "none yet"
        raise SweepError(
            f"--model={name}: MLflow's registry has no {name}@{ALIAS}; it has {known}; "
            f"register one: sweep best --register {shlex.quote(name)}"
        )
    return find_run(str(champion.run_id))


def logged_model(run: RunRecord) -> str | None:
    """Return the id of the last model that `run` logged, None if it logged none."""
    outputs = MlflowClient().get_run(run.run_id).outputs
    return str(outputs.model_outputs[-1].model_id) if outputs and outputs.model_outputs else None


def champions() -> list[str]:
    """Return the names that have a champion, in alphabetical order."""
    return sorted(model.name for model in MlflowClient().search_registered_models() if ALIAS in model.aliases)


def _champion(name: str) -> ModelVersion | None:
    try:
        return MlflowClient().get_model_version_by_alias(name, ALIAS)
    except MlflowException as error:
        if error.error_code in NOT_FOUND:
            return None
        raise


def _versions(name: str) -> list[ModelVersion]:
    return list(MlflowClient().search_model_versions(f"name = '{quoted(name)}'"))


def versions_of(run_ids: Iterable[str]) -> list[str]:
    """Return the versions in the registry that were made from these runs, as in `digits version 3`."""
    wanted = set(run_ids)
    client = MlflowClient()
    found: list[str] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(max_results=1000, page_token=token)
        found += [f"{printable(one.name)} version {one.version}" for one in page if one.run_id in wanted]
        token = page.token
        if not token:
            return found
