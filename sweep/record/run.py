"""An open run, to which a trial logs its metrics, params and tags, and in which it keeps files."""

import functools
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import mlflow
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

from sweep.errors import RecordError, in_one_line
from sweep.record.runs import find_run

P = ParamSpec("P")
T = TypeVar("T")

MOST_PARAMS = 100
"""Most params that MLflow takes in one call."""
MOST_CHARACTERS = 6000
"""Longest value of a param."""


def failures_told(write: Callable[P, T]) -> Callable[P, T]:
    """Return `write` with the errors of MLflow's store, its server or a disk raised as a RecordError."""

    @functools.wraps(write)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return write(*args, **kwargs)
        except (MlflowException, OSError) as error:
            if getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE":  # what is written, not where to
                raise
            raise RecordError(
                f"MLflow's record cannot be written ({in_one_line(error, 300)}); what has finished is kept, and the "
                "same command goes on"
            ) from error

    return told


class Run(ABC):
    """An open run, as a trial sees it."""

    run_id: str | None

    @abstractmethod
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings, each of them once."""

    @abstractmethod
    def log_params_once(self, params: Mapping[str, Any]) -> None:
        """Record settings if none of these keys is recorded yet, since MLflow cannot change one."""

    @abstractmethod
    def log_note(self, text: str) -> None:
        """Put `text`, in Markdown, at the head of the run's page, in place of an earlier text."""

    @abstractmethod
    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Record facts that are not settings, by which runs can be found and compared."""

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Record `metrics` after `step`."""

    @abstractmethod
    def log_dataset(self, name: str, digest: str, origin: str) -> None:
        """Record which data set was used, and the address that it comes from."""

    @abstractmethod
    def log_file(self, path: Path) -> None:
        """Keep a copy of the file at `path`."""

    @abstractmethod
    def log_text(self, text: str, file: str) -> None:
        """Keep `text` as a file named `file`."""

    @abstractmethod
    def log_folder(self, folder: Path) -> None:
        """Keep a copy of all files in `folder`, under their names there."""

    @abstractmethod
    def log_table(self, columns: Mapping[str, Sequence[Any]], file: str) -> None:
        """Keep a table as `file`, a .json that MLflow's pages show as a table, in place of an earlier one."""


class NoRun(Run):
    """A run that keeps nothing."""

    run_id = None

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record nothing."""

    def log_params_once(self, params: Mapping[str, Any]) -> None:
        """Record nothing."""

    def log_note(self, text: str) -> None:
        """Record nothing."""

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Record nothing."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Record nothing."""

    def log_dataset(self, name: str, digest: str, origin: str) -> None:
        """Record nothing."""

    def log_file(self, path: Path) -> None:
        """Keep nothing."""

    def log_text(self, text: str, file: str) -> None:
        """Keep nothing."""

    def log_folder(self, folder: Path) -> None:
        """Keep nothing."""

    def log_table(self, columns: Mapping[str, Sequence[Any]], file: str) -> None:
        """Keep nothing."""


class MLflowRun(Run):
    """A run that is kept in MLflow."""

    def __init__(self, run_id: str) -> None:
        self.run_id: str = run_id

    @failures_told
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record settings, in as many calls as MLflow's limit needs."""
        texts = [(re.sub(r"[^\w\-. :/]", "_", key), str(value)[:MOST_CHARACTERS]) for key, value in params.items()]
        for start in range(0, len(texts), MOST_PARAMS):
            mlflow.log_params(dict(texts[start : start + MOST_PARAMS]), run_id=self.run_id)

    @failures_told
    def log_params_once(self, params: Mapping[str, Any]) -> None:
        """Record settings if none of these keys is recorded yet."""
        if not params.keys() & find_run(self.run_id).params.keys():
            self.log_params(params)

    @failures_told
    def log_note(self, text: str) -> None:
        """Put `text`, in Markdown, at the head of the run's page."""
        MlflowClient().set_tag(self.run_id, "mlflow.note.content", text)

    @failures_told
    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Record facts that are not settings."""
        MlflowClient().log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    @failures_told
    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Record `metrics` after `step`, in one call."""
        mlflow.log_metrics(dict(metrics), step=step, run_id=self.run_id)

    @failures_told
    def log_dataset(self, name: str, digest: str, origin: str) -> None:
        """Record which data set was used, and the address that it comes from."""
        dataset = _DatasetMeta(HTTPDatasetSource(origin), name=name, digest=digest)
        try:
            mlflow.log_input(dataset, context="training")
        except MlflowException:  # two trials that are the first to log it at once; the one that failed finds it made
            mlflow.log_input(dataset, context="training")

    @failures_told
    def log_file(self, path: Path) -> None:
        """Keep a copy of the file at `path` as an artifact."""
        mlflow.log_artifact(str(path), run_id=self.run_id)

    @failures_told
    def log_text(self, text: str, file: str) -> None:
        """Keep `text` as an artifact named `file`."""
        mlflow.log_text(text, file, run_id=self.run_id)

    @failures_told
    def log_folder(self, folder: Path) -> None:
        """Keep a copy of all files in `folder` as artifacts."""
        mlflow.log_artifacts(str(folder), run_id=self.run_id)

    @failures_told
    def log_table(self, columns: Mapping[str, Sequence[Any]], file: str) -> None:
        """Keep a table as the artifact `file`."""
        # In the form of mlflow.log_table, which adds to the rows that are there already.
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        mlflow.log_text(json.dumps({"columns": list(columns), "data": rows}), file, run_id=self.run_id)
        MlflowClient().set_tag(self.run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([{"path": file, "type": "table"}]))


class _DatasetMeta(MetaDataset):
    profile = None
