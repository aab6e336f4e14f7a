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
    """Put the files of `run` that have these `names` into `folder`.

    Raises:
        RecordError: They cannot be read now.
        SweepError: It has not all of them.
    """
    names = tuple(names)
    with _reading(f"run={run.run_id}: the files of {run.name}"):
        missing = set(names) - files_of(run)
    for name in () if missing else names:
        fetch(run, name, folder)
    if missing:
        lacking = ", ".join(sorted(missing))
        raise SweepError(f"run={run.run_id}: {run.name} is {run.status}, and has no whole model (no {lacking})")


def fetch(run: RunRecord, name: str, folder: Path) -> Path:
    """Put the file `name`, which `run` is known to keep, into `folder`, and return where it is.

    Raises:
        RecordError: It cannot be read now.
    """
    with _reading(f"run={run.run_id}: the {name} of {run.name}"):
        return Path(mlflow.artifacts.download_artifacts(f"runs:/{run.run_id}/{name}", dst_path=str(folder)))


def download_model(model_id: str, folder: Path) -> None:
    """Put what MLflow keeps of the logged model with this id into `folder`, without loading it.

    Raises:
        SweepError: It is not there.
    """
    try:
        mlflow.artifacts.download_artifacts(f"models:/{model_id}", dst_path=str(folder))
    except (MlflowException, OSError) as error:
        raise SweepError(f"its logged model {model_id} cannot be read ({in_one_line(error, 200)})") from error


def read_text(run: RunRecord, file: str) -> str | None:
    """What is in a file that `run` keeps, None if it keeps none of this name.

    Raises:
        RecordError: It could not be looked up, or keeps one that cannot be read now.
        SweepError: It is no text.
    """
    with _reading(f"run={run.run_id}: the {file} of {run.name}"):
        if file not in files_of(run):
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = fetch(run, file, Path(folder))
            try:
                return path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise SweepError(f"run={run.run_id}: {run.name}: {file}: it is damaged: it is no text") from error


def files_of(run: RunRecord) -> set[str]:
    """The names of the files and folders that `run` keeps."""
    return {file.path for file in MlflowClient().list_artifacts(run.run_id)}


@contextlib.contextmanager
def _reading(what: str) -> Iterator[None]:
    """Within, what MLflow raises of files that it has becomes one line: they are not missing, only out of reach."""
    try:
        yield
    except (MlflowException, OSError) as error:
        raise RecordError(f"{what}: cannot be read ({in_one_line(error, 200)})") from error
