"""MLflow's registry of models: a name, its versions, and which of them is the champion.

All versions of a name are of one data set. The alias `champion` is on the best of them by one objective, so
`models:/NAME@champion` is what to serve.
"""

import shlex
from collections.abc import Iterable
from typing import NamedTuple

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sweep.errors import SweepError, in_one_line, printable
from sweep.record.runs import RunRecord, find_run, quoted
from sweep.record.tags import OBJECTIVE_TAG

ALIAS = "champion"
DATA_TAG, DIGEST_TAG = "sweep.data", "sweep.digest"
VALUE_TAG = "sweep.value"

UNKNOWN = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What MLflow says of a name, or an alias of it, that it does not have."""


class Registered(NamedTuple):
    """What became of a model that was to be registered."""

    version: str
    is_champion: bool
    reason: str
    """Why it is, or is not, the champion."""


def register(run: RunRecord, name: str) -> Registered:
    """Make the model of `run` a version of `name`, the champion if it is better than the present one.

    A run is registered once: again, its version is found and compared anew. Where no version is the champion, the
    best of them counts as the present one.

    Raises:
        SweepError: There are models of another data set under this name, or the registry does not take it.
    """
    client = MlflowClient()
    data, objective, direction = run.dataset or "data unknown", run.objectives[0], run.directions[0]
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
                OBJECTIVE_TAG: _chosen_by(run),
                VALUE_TAG: repr(run.metrics[objective]),
            }
            version = mlflow.register_model(f"models:/{logged_model(run)}", name, tags=tags)
        champion = _champion(name) or _best_of(versions, run, version)
        is_better, reason = _compare(run, objective, direction, version, champion)
        if is_better:
            client.set_registered_model_alias(name, ALIAS, version.version)
    except MlflowException as error:
        raise SweepError(f"--register={name}: {in_one_line(error, 300)}") from error
    return Registered(str(version.version), is_better, reason)


def _compare(
    run: RunRecord, objective: str, direction: str, version: ModelVersion, champion: ModelVersion | None
) -> tuple[bool, str]:
    if champion is None:
        return True, "the first of its name"
    if champion.version == version.version:
        return True, "as before"
    theirs = champion.tags.get(OBJECTIVE_TAG)
    if theirs != _chosen_by(run):
        return False, f"version {champion.version} was chosen by {theirs}, this one by {_chosen_by(run)}"
    value, best = run.metrics[objective], _value_of(champion)
    is_better = value < best if direction == "minimize" else value > best
    return is_better, f"{objective} {value:.4f}, version {champion.version} has {best:.4f}"


def _best_of(versions: list[ModelVersion], run: RunRecord, version: ModelVersion) -> ModelVersion | None:
    """The best of the other `versions` that were chosen by the same objective."""
    others = [
        one for one in versions if one.version != version.version and one.tags.get(OBJECTIVE_TAG) == _chosen_by(run)
    ]
    sign = -1 if run.directions[0] == "minimize" else 1
    return max(others, key=lambda one: sign * _value_of(one), default=None)


def _value_of(version: ModelVersion) -> float:
    """The value of the objective that `version` was registered with."""
    try:
        return float(version.tags[VALUE_TAG])
    except (KeyError, ValueError) as error:
        raise SweepError(
            f"--register={version.name}: version {version.version} has no number as its tag {VALUE_TAG}; "
            "delete it, or choose another name"
        ) from error


def _chosen_by(run: RunRecord) -> str:
    """The objective; with the number of images where those were held out, since others would be others."""
    objective = run.objectives[0]
    return f"{objective} on {run.params.get('data.validation')} images" if objective.startswith("val/") else objective


def find_champion(name: str) -> RunRecord:
    """The run whose model is the champion of `name`.

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


def logged_model(run: RunRecord) -> str:
    """The id of the model that `run` logged.

    Raises:
        SweepError: It logged none.
    """
    outputs = MlflowClient().get_run(run.run_id).outputs
    if outputs is None or not outputs.model_outputs:
        raise SweepError(f"it is {run.status}, and has no logged model")
    return str(outputs.model_outputs[-1].model_id)


def champions() -> list[str]:
    """The names that have a champion, by the alphabet."""
    return sorted(model.name for model in MlflowClient().search_registered_models() if ALIAS in model.aliases)


def _champion(name: str) -> ModelVersion | None:
    try:
        return MlflowClient().get_model_version_by_alias(name, ALIAS)
    except MlflowException as error:
        if error.error_code in UNKNOWN:
            return None
        raise


def _versions(name: str) -> list[ModelVersion]:
    return list(MlflowClient().search_model_versions(f"name = '{quoted(name)}'"))


def versions_of(run_ids: Iterable[str]) -> list[str]:
    """The versions in the registry that were made of these runs, as in `digits version 3`."""
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
