"""The place of a new run: a run that `mlflow run` opened for it, or an experiment, and the folder of its files."""

import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
from mlflow.entities import Experiment
from mlflow.entities import Run as RunEntity
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_TYPE

from sweep import environment
from sweep.errors import SweepError, in_one_line, printable
from sweep.files import as_folder
from sweep.record.tags import KIND_TAG

NOT_FOUND = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""MLflow's error codes for a name or an id that it does not have, or that nothing can have."""


def require_place(experiment: str) -> None:
    """Check, before anything is recorded, that a run in `experiment` can be made and can keep files.

    Raises:
        SweepError: The experiment was deleted, its place cannot be written, or the environment names a run, or
            something else of MLflow's, that is not this command's.
    """
    run_id = outermost(None)
    if run_id is None:
        _find_experiment(experiment)


def require_writable(what: str, location: str | None) -> None:
    """Raise a SweepError if `location` is a folder of this machine that cannot be made or written."""
    if location is None or urlsplit(location).scheme not in ("", "file"):
        return
    path = Path(local_file_uri_to_path(location))
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise SweepError(
            f"{what}: MLflow keeps its files in {path}, which cannot be written here ({error.strerror}); "
            "have that folder made, or choose another experiment"
        ) from error


def outermost(run_id: str | None) -> str | None:
    """Return the run that the outermost one continues: `run_id`, or the one that `mlflow run` opened for it.

    Raises:
        SweepError: The environment names any other run, or where runs belong.
    """
    given = dict(environment.given)
    asked = given.pop(environment.RUN_ID, None)
    if asked is None:
        for name, value in given.items():
            instead = " and give tracking.experiment=NAME" if "EXPERIMENT" in name else ""
            raise SweepError(f"{name}={value}: runs are not told by it where they belong; unset it{instead}")
        return run_id
    if asked == run_id:
        return run_id
    at, unset = f"{environment.RUN_ID}={asked}", "nothing is written to it; unset MLFLOW_RUN_ID"
    if run_id is not None:
        raise SweepError(f"{at}: the study goes on in its own run, {run_id}; {unset}")
    run = get_run(asked)
    if run is None:
        raise SweepError(f"{at}: MLflow knows no run with this id; unset MLFLOW_RUN_ID")
    is_ours = run.data.tags.get(MLFLOW_SOURCE_TYPE) == "PROJECT" and KIND_TAG not in run.data.tags
    if not (is_ours and run.info.status == "RUNNING" and run.info.lifecycle_stage == "active"):
        state = run.info.status if run.info.lifecycle_stage == "active" else "deleted"
        raise SweepError(f"{at}: that is {printable(run.info.run_name)}, {state}, not made for this command; {unset}")
    require_writable(at, run.info.artifact_uri)
    return asked


def get_run(run_id: str) -> RunEntity | None:
    """Return MLflow's own object for a run, None if there is none; raise if MLflow cannot look."""
    try:
        return MlflowClient().get_run(run_id)
    except MlflowException as error:
        if error.error_code in NOT_FOUND:
            return None
        raise


def experiment_id(name: str) -> str:
    """Return the id of the experiment called `name`, which is made if it does not exist."""
    found = _find_experiment(name)
    if found is None:
        try:
            return MlflowClient().create_experiment(name, artifact_location=_artifact_location(name))
        except MlflowException as error:
            found = _find_experiment(name)  # another process may have been faster
            if found is None:
                raise SweepError(f"experiment={name}: {in_one_line(error, 300)}") from error
    return str(found.experiment_id)


def _find_experiment(name: str) -> Experiment | None:
    """Return the experiment called `name`, None if there is none yet, and check that its place is writable.

    Raises:
        SweepError: The place cannot be written, or the experiment was deleted.
    """
    found = MlflowClient().get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise SweepError(f"experiment={name}: it was deleted in MLflow; restore it, or choose another experiment")
    location = found.artifact_location if found else _artifact_location(name)
    require_writable(f"experiment={name}", location)
    return found


def _artifact_location(experiment: str) -> str | None:
    """Return the folder for a new experiment's files beside a database file, None where MLflow decides."""
    path = environment.sqlite_path(mlflow.get_tracking_uri())
    return (Path(path).parent / "mlruns" / as_folder(experiment)).as_uri() if path else None
