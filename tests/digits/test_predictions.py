from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sweep.digits import loop
from sweep.digits.predictions import (
    Predictions,
    accuracy_per_class,
    confusion_matrix,
    load_predictions,
    most_confidently_wrong,
    save_predictions,
)
from sweep.errors import SweepError

PREDICTIONS = Predictions(
    labels=np.array([0, 1, 2, 2, 1]),
    predicted=np.array([0, 2, 2, 0, 1]),
    probability=np.array([0.9, 0.6, 0.8, 0.95, 0.7], dtype=np.float32),
)


def test_what_was_saved_is_read_back_by_split_and_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    save_predictions({"test": PREDICTIONS}, path)
    kept = load_predictions(path, "test")
    assert all(np.array_equal(getattr(kept, name), getattr(PREDICTIONS, name)) for name in Predictions._fields)
    with pytest.raises(SweepError, match=r"^predictions\.npz: no predictions on val$"):
        load_predictions(path, "val")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(SweepError, match=r"^predictions\.npz: it is damaged"):
        load_predictions(path, "test")


def test_rows_of_the_confusion_matrix_are_what_is_shown_and_columns_what_it_was_taken_for() -> None:
    confusion = confusion_matrix(PREDICTIONS, num_classes=4)
    assert confusion.tolist() == [[1, 0, 0, 0], [0, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert accuracy_per_class(confusion) == [(1, 1), (1, 2), (1, 2), (0, 0)]


def test_the_surest_mistakes_come_first_and_right_ones_never() -> None:
    assert [(m.image, m.label, m.predicted) for m in most_confidently_wrong(PREDICTIONS, 9)] == [(3, 2, 0), (1, 1, 2)]
    assert [m.image for m in most_confidently_wrong(PREDICTIONS, 1)] == [3]


def test_evaluating_tells_what_each_image_was_taken_for_in_order() -> None:
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, 3.0]])
    batches = [(logits[:2], torch.tensor([1, 1])), (logits[2:], torch.tensor([1]))]
    evaluation = loop.evaluate(nn.Identity(), batches)
    assert evaluation.predicted.tolist() == [1, 0, 1]
    assert evaluation.labels.tolist() == [1, 1, 1]
    assert torch.allclose(evaluation.probability, logits.softmax(dim=1).max(dim=1).values)
    assert evaluation.accuracy == pytest.approx(2 / 3)
    assert evaluation.loss == pytest.approx(nn.functional.cross_entropy(logits, torch.tensor([1, 1, 1])).item())
