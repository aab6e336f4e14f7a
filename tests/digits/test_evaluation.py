"""What a study's report shows of the best trial of the digits job, and on which images two trials differ."""

import csv
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from kept_run import KeptRun, kept_digits
from PIL import Image

from sweep import Section
from sweep.digits import evaluation, predictions
from sweep.digits.config import Config
from sweep.digits.job import DIGITS
from sweep.digits.predictions import PREDICTIONS_FILE, Mistake, Predictions


@pytest.fixture
def kept(tmp_path: Path, compose: Callable[..., Config]) -> KeptRun:
    return kept_digits(tmp_path, compose("data=digits", "model.widths=[8]"))


def section_of(kept: KeptRun) -> Section:
    """The only section."""
    assert DIGITS.sections is not None
    (section,) = DIGITS.sections(kept)
    return section


def test_the_scores_are_of_the_held_out_images_and_their_mean_is_the_accuracy(kept: KeptRun) -> None:
    assert DIGITS.per_example is not None
    found = DIGITS.per_example(kept, "test/accuracy")
    assert found is not None
    assert found.scores.shape == (360,)
    assert found.scores.mean() == pytest.approx(kept.metrics["test/accuracy"])


def test_no_scores_are_made_up_for_a_loss_or_for_images_without_predictions(kept: KeptRun) -> None:
    for metric in ("test/loss", "train/loss", "val/accuracy", "model/parameters"):
        assert evaluation.per_example(kept, metric) is None
    assert evaluation.per_example(dataclasses.replace(kept, folder=kept.folder / "none"), "test/accuracy") is None


def test_two_runs_have_the_same_examples_only_with_the_same_data_labels_and_split(kept: KeptRun) -> None:
    def examples(digest: str, labels: list[int], split: str = "test") -> str:
        ones = np.ones(len(labels), dtype=np.float32)
        of_split = Predictions(np.array(labels), np.array(labels), ones)
        predictions.save_predictions({split: of_split}, kept.folder / PREDICTIONS_FILE)
        found = evaluation.per_example(dataclasses.replace(kept, digest=digest), f"{split}/accuracy")
        assert found is not None
        return found.examples

    same = examples("data", [0, 1])
    assert examples("data", [0, 1]) == same
    others = {examples("other", [0, 1]), examples("data", [1, 0]), examples("data", [0, 1], "val")}
    assert len(others | {same}) == 4


def test_the_best_trial_is_shown_by_class_with_its_surest_mistakes(kept: KeptRun) -> None:
    section = section_of(kept)
    assert section.title == "trial-007 on the test set"
    assert section.note == ""
    assert list(section.pictures) == ["confusion_matrix.png", "most_confidently_wrong.png"]
    assert {Image.open(io.BytesIO(png)).format for png in section.pictures.values()} == {"PNG"}
    rows = list(csv.DictReader(io.StringIO(section.files["accuracy_per_class.csv"].decode())))
    assert [row["class"] for row in rows] == list("0123456789")
    correct, images = (sum(int(row[column]) for row in rows) for column in ("correct", "images"))
    assert images == 360
    assert correct / images == pytest.approx(kept.metrics["test/accuracy"])
    assert list(section.header) == ["class", "accuracy", "correct", "images"]
    assert [row[0] for row in section.rows] == list("0123456789")
    assert section.rows[3][1:] == (f"{float(rows[3]['accuracy']):.2%}", rows[3]["correct"], rows[3]["images"])


def test_a_trial_without_predictions_has_no_section(kept: KeptRun) -> None:
    (kept.folder / PREDICTIONS_FILE).unlink()
    assert list(evaluation.sections(kept)) == []


def test_mistakes_on_data_that_are_not_here_are_told_and_the_rest_is_shown(kept: KeptRun) -> None:
    section = section_of(dataclasses.replace(kept, digest="another"))
    assert list(section.pictures) == ["confusion_matrix.png"]
    assert section.note.startswith("The mistakes cannot be shown: data.root=")
    assert section.note.endswith("digits is not what the trial was trained on")
    assert len(section.rows) == 10


@pytest.mark.parametrize(
    ("labels", "told"), [(None, "predictions.npz: it is damaged ("), ([0, 10], "it has more classes than the 10")]
)
def test_predictions_that_are_damaged_are_told_in_place_of_the_pictures(
    kept: KeptRun, labels: list[int] | None, told: str
) -> None:
    if labels is None:
        (kept.folder / PREDICTIONS_FILE).write_bytes(b"x")
    else:
        strange = Predictions(np.array(labels), np.array(labels), np.ones(2, dtype=np.float32))
        predictions.save_predictions({"test": strange}, kept.folder / PREDICTIONS_FILE)
    section = section_of(kept)
    assert section.note.startswith("It cannot be shown: ")
    assert told in section.note
    assert not section.pictures
    assert not section.rows


def test_the_confusion_matrix_and_the_mistakes_are_drawn_with_their_numbers() -> None:
    confusion = np.array([[50, 2], [0, 48]])
    mistakes = [Mistake(image=7, label=0, predicted=1, probability=0.97)]
    images = torch.zeros(1, 1, 28, 28, dtype=torch.uint8).numpy()
    shown = [axes.get_title() for axes in evaluation.draw_mistakes(mistakes, images, ["cat", "dog"]).axes]
    assert shown == ["is cat\ntaken for dog, 97%"]
    written = {text.get_text() for text in evaluation.draw_confusion(confusion, ["cat", "dog"]).axes[0].texts}
    assert written == {"50", "2", "48"}
    assert evaluation.draw_mistakes([], images[:0], ["cat", "dog"]).get_suptitle() == "No mistakes"
