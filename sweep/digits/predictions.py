"""Predictions on the held-out images: kept with their trial, and statistics of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from sweep import SweepError, in_one_line, replacing

PREDICTIONS_FILE = "predictions.npz"
MOST_BYTES = 2**28
"""Unpacked size above which a file is not read: twenty million images."""


class MissingPredictionsError(SweepError):
    """A run has kept no predictions on a split."""


class Predictions(NamedTuple):
    """Predictions of one model on one set of images, in the order of the data set."""

    labels: NDArray[np.int64]
    """(N,), the true class of each image."""
    predicted: NDArray[np.int64]
    """(N,), the class that the model predicts."""
    probability: NDArray[np.float32]
    """(N,), the probability of that class, 0 to 1."""

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,), whether each prediction is correct."""
        return self.labels == self.predicted


class Mistake(NamedTuple):
    """An image that was classified wrongly."""

    image: int
    """Place of the image in the set, from 0."""
    label: int
    predicted: int
    probability: float
    """Probability that the model gave the wrong class."""


def save_predictions(predictions: Mapping[str, Predictions], path: Path) -> None:
    """Write the predictions on each split, such as "test", to `path`."""
    arrays = {
        f"{split}_{name}": array.astype(np.int32 if array.dtype == np.int64 else array.dtype)
        for split, of_split in predictions.items()
        for name, array in of_split._asdict().items()
    }
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_predictions(path: Path, split: str) -> Predictions:
    """Return the predictions on `split` that `save_predictions` wrote to `path`.

    Raises:
        MissingPredictionsError: There are none on this split.
        SweepError: The file is damaged.
    """
    names = [f"{split}_{name}" for name in Predictions._fields]
    try:
        with ZipFile(path) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
            if sum(sizes.values()) > MOST_BYTES:
                raise ValueError(f"unpacked it has {sum(sizes.values()):,} bytes")
        if not any(f"{name}.npy" in sizes for name in names):
            raise MissingPredictionsError(f"{path.name}: no predictions on {split}")
        with np.load(path, allow_pickle=False) as arrays:
            labels, predicted, probability = (arrays[name] for name in names)
            found = Predictions(labels.astype(np.int64), predicted.astype(np.int64), probability.astype(np.float32))
        are_whole = labels.dtype.kind == predicted.dtype.kind == "i" and probability.dtype.kind == "f"
        if not are_whole or labels.ndim != 1 or not labels.shape == predicted.shape == probability.shape:
            raise ValueError("it does not hold a number for each image")
        if labels.size and (
            min(labels.min(), predicted.min()) < 0 or not 0 <= probability.min() <= probability.max() <= 1
        ):
            raise ValueError("its classes or probabilities are none")
    except (MissingPredictionsError, FileNotFoundError):
        raise
    except Exception as error:  # whatever numpy and zipfile raise of what they cannot read
        raise SweepError(f"{path.name}: it is damaged ({in_one_line(error, 100)})") from error
    return found


def confusion_matrix(predictions: Predictions, num_classes: int) -> NDArray[np.int64]:
    """Return how many images of each class (row) were predicted as each class (column).

    The shape is (num_classes, num_classes).

    Raises:
        SweepError: There are other classes among them.
    """
    from sklearn import metrics  # takes a second that training need not wait for

    if max(predictions.labels.max(initial=0), predictions.predicted.max(initial=0)) >= num_classes:
        raise SweepError(f"{PREDICTIONS_FILE}: it is damaged: it has more classes than the {num_classes} of its data")
    return metrics.confusion_matrix(predictions.labels, predictions.predicted, labels=range(num_classes))


def accuracy_per_class(confusion: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return, for each class, how many of its images were classified correctly, and how many there are."""
    return [(int(row[i]), int(row.sum())) for i, row in enumerate(confusion)]


def most_confidently_wrong(predictions: Predictions, most: int) -> Sequence[Mistake]:
    """Return at `most` so many mistakes, the most confident first."""
    wrong = np.flatnonzero(~predictions.correct)
    surest = wrong[np.argsort(-predictions.probability[wrong], kind="stable")][:most]
    return [
        Mistake(int(i), int(predictions.labels[i]), int(predictions.predicted[i]), float(predictions.probability[i]))
        for i in surest
    ]
