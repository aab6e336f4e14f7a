"""How far a long epoch of a job in PyTorch is, on a terminal."""

import io
import logging
import sys

import pytest

from sweep import pytorch


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_long_epoch_shows_on_a_terminal_that_it_goes_on(is_terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorch, "SECONDS_OF_A_SHORT_EPOCH", 0)
    stderr = Terminal() if is_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(logging.root, "handlers", [logging.StreamHandler()])
    batches = pytorch.LongEpochs([(1, 1), (2, 2)], epochs=3)
    assert [list(batches), list(batches)] == [[(1, 1), (2, 2)]] * 2
    assert len(batches) == 2
    for epoch in ("epoch 1/3", "epoch 2/3"):
        assert (epoch in stderr.getvalue()) == is_terminal


def test_a_trial_of_a_study_leaves_the_terminal_to_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorch, "SECONDS_OF_A_SHORT_EPOCH", 0)
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(logging.root, "handlers", [])  # as train.py leaves them there
    assert list(pytorch.LongEpochs([(1, 1)], epochs=3)) == [(1, 1)]
    assert stderr.getvalue() == ""
