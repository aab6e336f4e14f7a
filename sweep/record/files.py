"""The files that a run keeps in MLflow: their names, their text, and copies of them."""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sweep.errors import RecordError, SweepError, in_one_line
from sweep.record.runs import RunRecord


def download(run: RunRecord, folder: Path, names: Iterable[str]) -> None:
    """Copy the files of `run` that have these `names` into `folder`.

    Raises:
        RecordError: The files cannot be read now.
        SweepError: The run lacks one of the files.
    """
    names = tuple(names)
    with _reading(f"run={run.run_id}: the files of {run.name}"):
        missing = set(names) - files_of(run)
    for name in () if missing else names:
        fetch_file(run, name, folder)
    if missing:
        lacking = ", ".join(sorted(missing))
        raise SweepError(f"run={run.run_id}: {run.name} is {run.status}, and has no whole model (no {lacking})")


def fetch_file(run: RunRecord, name: str, folder: Path) -> Path:
    """Copy the file `name`, which `run` is known to keep, into `folder`, and return its path.

    Raises:
        RecordError: The file cannot be read now.
    """
    with _reading(f"run={run.run_id}: the {name} of {run.name}"):
        return Path(mlflow.artifacts.download_artifacts(f"runs:/{run.run_id}/{name}", dst_path=str(folder)))


def download_model(model_id: str, folder: Path) -> None:
    """Copy the files of the logged model with this id into `folder`, without loading it.

    Raises:
        SweepError: There is no such model.
    """
    try:
        mlflow.artifacts.download_artifacts(f"models:/{model_id}", dst_path=str(folder))
    except (MlflowException, OSError) as error:
        raise SweepError(f"its logged model {model_id} cannot be read ({in_one_line(error, 200)})") from error


def read_text(run: RunRecord, file: str) -> str | None:
    """Return the text of a file that `run` keeps, None if it keeps none of this name.

    Raises:
        RecordError: The file cannot be looked up, or cannot be read now.
        SweepError: The file is no text.
    """
    with _reading(f"run={run.run_id}: the {file} of {run.name}"):
        if file not in files_of(run):
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = fetch_file(run, file, Path(folder))
            try:
                return path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise SweepError(f"run={run.run_id}: {run.name}: {file}: it is damaged: it is no text") from error


def files_of(run: RunRecord) -> set[str]:
    """Return the names of the files and folders that `run` keeps."""
    return {file.path for file in MlflowClient().list_artifacts(run.run_id)}


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """Turn what MLflow raises in the block, of files that exist, into one line: they are only out of reach."""
    try:
        yield
    except (MlflowException, OSError) as error:
        raise RecordError(f"{what}: cannot be read ({in_one_line(error, 200)})") from error
