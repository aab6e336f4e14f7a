"""For jobs in PyTorch: log a model with its trial, so that it loads without this project, and load it again."""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import mlflow
import numpy as np
import torch
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from torch import nn
from tqdm import tqdm

from sweep.errors import SweepError, in_one_line
from sweep.record.run import failures_told
from sweep.trial import Trial

SECONDS_OF_A_SHORT_EPOCH = 2
"""Duration of an epoch up to which no progress is shown."""


@failures_told
def log_model(trial: Trial, model: nn.Module, example: torch.Tensor) -> None:
    """Log `model`, in evaluation mode, as an MLflow model of the run of `trial`, if that is recorded.

    Args:
        trial: The trial that trained it, which is not over yet.
        model: On any device; it is saved for the CPU.
        example: Inputs (2 or more, ...) that it takes.
    """
    if trial.run.run_id is None:
        return
    with _without_advice():
        mlflow.pytorch.log_model(
            name="model",
            validate_serving_input=False,  # a quarter of the time here; a test serves a logged model instead
            **_exported(model, example),
        )


def save_model(model: nn.Module, example: torch.Tensor, folder: Path) -> None:
    """Write `model` to `folder` as `log_model` keeps it."""
    with _without_advice():
        mlflow.pytorch.save_model(path=str(folder), **_exported(model, example))


def load_model(folder: Path) -> nn.Module:
    """Load the MLflow model in `folder` as plain mlflow does, which runs whatever code is in it.

    Raises:
        SweepError: The model cannot be loaded.
    """
    try:
        return mlflow.pytorch.load_model(str(folder))
    except Exception as error:  # a model can be made of anything
        raise SweepError(f"{folder.name}: MLflow cannot load it ({in_one_line(error, 200)})") from error


@contextmanager
def _without_advice() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export's advice on its own internals
        yield


def _exported(model: nn.Module, example: torch.Tensor) -> dict[str, Any]:
    """Return the arguments that have MLflow save `model` as an exported program for inputs like `example`."""
    model = model.cpu().eval()
    example = example.cpu()
    with torch.inference_mode():
        output = model(example)
    return {
        "pytorch_model": model,
        "input_example": example.numpy(),
        "signature": ModelSignature(Schema([_tensor_spec(example)]), Schema([_tensor_spec(output)])),
        "pip_requirements": _model_requirements(),
        "serialization_format": "pt2",
    }


def _tensor_spec(batch: torch.Tensor) -> TensorSpec:
    return TensorSpec(np.dtype(str(batch.dtype).removeprefix("torch.")), (-1, *batch.shape[1:]))


def _model_requirements() -> list[str]:
    # Named here because MLflow otherwise finds them out by loading the model in a new process, 4 s a time.
    return [f"{package.__name__}=={package.__version__.split('+')[0]}" for package in (torch, np)]


class _SizedIterable(Protocol):
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...


class LongEpochs:
    """The `batches` of a job, with a progress bar on a terminal for epochs that take longer than a moment.

    The bar appears only where the job's own lines are shown: a trial of a study leaves the terminal to the study.
    """

    def __init__(self, batches: "_SizedIterable", epochs: int) -> None:
        self._batches, self._epochs = batches, epochs
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        self._epoch += 1
        return iter(
            tqdm(
                self._batches,
                desc=f"epoch {self._epoch}/{self._epochs}",
                bar_format="{desc} |{bar:20}| {percentage:.0f}%  {elapsed}<{remaining}",
                delay=SECONDS_OF_A_SHORT_EPOCH,
                leave=False,
                disable=not (sys.stderr.isatty() and _has_log_on_terminal()),
            )
        )


def _has_log_on_terminal() -> bool:
    return any(type(handler) is logging.StreamHandler for handler in logging.root.handlers)
