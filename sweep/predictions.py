"""What a trained model took each image for: kept with its trial, and what can be read from it."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from sweep.errors import SweepError, in_one_line
from sweep.files import replacing

PREDICTIONS_FILE = "predictions.npz"


class Predictions(NamedTuple):
    """One model's on one set of images, in the data set's own order."""

    labels: NDArray[np.int64]
    """(N,), what the images show."""
    predicted: NDArray[np.int64]
    """(N,), what the model takes them for."""
    probability: NDArray[np.float32]
    """(N,), how sure it is of that, 0 to 1."""

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,), which of them it gets right."""
        return self.labels == self.predicted


class Mistake(NamedTuple):
    """An image that was taken for something else."""

    image: int
    """Its place in the set, from 0."""
    label: int
    predicted: int
    probability: float
    """How sure the model was."""


def save(predictions: Mapping[str, Predictions], path: Path) -> None:
    """Write the predictions on each split, such as "test", to `path`."""
    arrays = {
        f"{split}_{name}": array.astype(np.int32 if array.dtype == np.int64 else array.dtype)
        for split, of_split in predictions.items()
        for name, array in of_split._asdict().items()
    }
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load(path: Path, split: str) -> Predictions:
    """The predictions on `split` that `save` wrote to `path`.

    Raises:
        SweepError: There are none on this split, or the file is damaged.
    """
    try:
        with np.load(path) as arrays:
            return Predictions(
                arrays[f"{split}_labels"].astype(np.int64),
                arrays[f"{split}_predicted"].astype(np.int64),
                arrays[f"{split}_probability"],
            )
    except KeyError as error:
        raise SweepError(f"{path.name}: no predictions on {split}") from error
    except (ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise SweepError(f"{path.name}: it is damaged ({in_one_line(error, 100)})") from error


def confusion_matrix(predictions: Predictions, num_classes: int) -> NDArray[np.int64]:
    """(num_classes, num_classes): how many images of the class of the row were taken for that of the column."""
    pairs = predictions.labels * num_classes + predictions.predicted
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy_per_class(confusion: NDArray[np.int64]) -> list[tuple[int, int]]:
    """For each class how many of its images were classified correctly, and how many there are."""
    return [(int(row[i]), int(row.sum())) for i, row in enumerate(confusion)]


def most_confidently_wrong(predictions: Predictions, most: int) -> Sequence[Mistake]:
    """At `most` so many mistakes, the surest first."""
    wrong = np.flatnonzero(~predictions.correct)
    surest = wrong[np.argsort(-predictions.probability[wrong], kind="stable")][:most]
    return [
        Mistake(int(i), int(predictions.labels[i]), int(predictions.predicted[i]), float(predictions.probability[i]))
        for i in surest
    ]
