"""How a trained model did on each held-out image, and what a study's report shows of the best one."""

import csv
import hashlib
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sweep import Kept, PerExample, Section, SweepError, in_one_line
from sweep.digits import classifier, data, datasets, predictions
from sweep.digits.predictions import PREDICTIONS_FILE, MissingPredictionsError, Mistake, Predictions

MOST_MISTAKES = 24


def per_example(kept: Kept, metric: str) -> PerExample | None:
    """Return whether each image that `metric` was measured on was classified correctly.

    Returns:
        None where `metric` is no accuracy, or the run has kept no predictions on those images.

    Raises:
        SweepError: The predictions are damaged.
    """
    split, _, quantity = metric.partition("/")
    found = _predictions(kept, split) if quantity == "accuracy" else None
    if found is None:
        return None
    digest = hashlib.sha256(f"{kept.digest} {split} ".encode() + found.labels.tobytes())
    return PerExample(found.correct, digest.hexdigest()[:16])


def sections(kept: Kept) -> Iterator[Section]:
    """Yield what the report shows of a run's test set: accuracy by class, confusions, the surest mistakes.

    There is nothing if the run has kept no predictions.
    """
    title = f"{kept.name} on the test set"
    try:
        found = _predictions(kept, "test")
        path = kept.file(classifier.CONFIG_FILE)
        if found is None or path is None:
            return
        settings = classifier.read_config(path).data
        confusion = predictions.confusion_matrix(found, len(settings.classes))
    except SweepError as error:
        yield Section(title=title, note=f"It cannot be shown: {error}")
        return
    counts = predictions.accuracy_per_class(confusion)
    rows = [_row(name, *of_class) for name, of_class in zip(settings.classes, counts, strict=True)]
    pictures, note = {"confusion_matrix.png": _to_png(draw_confusion(confusion, settings.classes))}, ""
    try:
        pictures["most_confidently_wrong.png"] = _to_png(_mistakes(found, settings, kept.digest))
    except (SweepError, OSError) as error:
        note = f"The mistakes cannot be shown: {in_one_line(error)}"
    yield Section(
        title=title,
        pictures=pictures,
        header=("class", "accuracy", "correct", "images"),
        rows=[
            (row["class"], f"{row['correct'] / max(1, row['images']):.2%}", str(row["correct"]), str(row["images"]))
            for row in rows
        ],
        files={"accuracy_per_class.csv": _csv(rows)},
        note=note,
    )


def _predictions(kept: Kept, split: str) -> Predictions | None:
    path = kept.file(PREDICTIONS_FILE)
    try:
        return None if path is None else predictions.load_predictions(path, split)
    except MissingPredictionsError:
        return None


def _row(name: str, correct: int, images: int) -> dict[str, Any]:
    accuracy = round(correct / images, 5) if images else ""
    return {"class": name, "correct": correct, "images": images, "accuracy": accuracy}


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _mistakes(found: Predictions, settings: datasets.DataConfig, digest: str) -> Figure:
    """Return the picture of the surest mistakes, with the images found on this machine.

    Raises:
        SweepError: Those are not what the run was trained and evaluated on.
    """
    dataset = data.load(data.with_local_root(settings))
    if dataset.digest != digest:
        raise SweepError(f"data.root={settings.root}: {settings.name} is not what the trial was trained on")
    if not np.array_equal(found.labels, dataset.splits.test.labels.numpy()):
        raise SweepError(f"{PREDICTIONS_FILE}: it is not on the test set of {settings.name}")
    mistakes = predictions.most_confidently_wrong(found, MOST_MISTAKES)
    images = dataset.splits.test.images[[mistake.image for mistake in mistakes]].numpy()
    return draw_mistakes(mistakes, images, settings.classes)


def draw_confusion(confusion: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Draw the confusion matrix (num_classes, num_classes): rows by class, columns by prediction.

    scikit-learn's own picture leaves the mistakes of a good model no colour beside the diagonal.
    """
    size = max(4.5, 0.55 * len(classes) + 1.5)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.add_subplot()
    wrong = confusion.astype(float)
    np.fill_diagonal(wrong, np.nan)
    most = max(1.0, np.nanmax(wrong, initial=0.0))
    axes.imshow(wrong, cmap="Reds", vmin=0, vmax=most)
    for row, column in zip(*confusion.nonzero(), strict=True):
        is_right = row == column
        axes.text(
            column,
            row,
            f"{confusion[row, column]}",
            ha="center",
            va="center",
            fontsize=9,
            color="black" if is_right or wrong[row, column] <= 0.6 * most else "white",
            fontweight="bold" if is_right else "normal",
        )
    rotation = 0 if max(map(len, classes)) <= 3 else 90
    axes.set_xticks(range(len(classes)), classes, rotation=rotation)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("class")
    axes.set_title("Images by class and prediction", fontsize=11)
    return figure


def draw_mistakes(mistakes: Sequence[Mistake], images: NDArray[np.uint8], classes: Sequence[str]) -> Figure:
    """Draw the images (N, C, H, W) of `mistakes`, each with its class and the prediction."""
    num_columns = min(6, max(1, len(mistakes)))
    num_rows = max(1, math.ceil(len(mistakes) / num_columns))
    figure = Figure(figsize=(max(4.5, 1.5 * num_columns), 1.95 * num_rows + 0.5), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, squeeze=False)
    for place in grid.flat:
        place.axis("off")
    for place, mistake, image in zip(grid.flat, mistakes, images, strict=False):
        pixels = image.transpose(1, 2, 0)
        if pixels.shape[2] == 1:
            place.imshow(pixels[:, :, 0], cmap="gray_r", vmin=0, vmax=255)
        else:
            place.imshow(pixels)
        place.set_title(
            f"is {classes[mistake.label]}\ntaken for {classes[mistake.predicted]}, {mistake.probability:.0%}",
            fontsize=9,
        )
    figure.suptitle("Most confidently wrong" if mistakes else "No mistakes", fontsize=11)
    return figure


def _to_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
