"""What a person sees while a study runs, and during a long epoch."""

import io
import os
import sys

import pytest

from sweep.study import progress
from sweep.study.progress import Counts, Running, Standing, live_line

COUNTS = Counts(finished=5, running=2, pruned=5, failed=1)
STANDING = Standing(COUNTS, "best 98.66% (trial 10)", [Running(12, "epoch 3/4"), Running(13, "epoch 1/4")])
AGES = {12: 41.0, 13: 200.0}


def line(width: int, standing: Standing = STANDING, elapsed: float = 31.0) -> str:
    return live_line(standing, 20, elapsed, 11 / elapsed, AGES, width)


@pytest.mark.parametrize("width", [20, 40, 60, 79, 119, 159])
@pytest.mark.parametrize("elapsed", [31.0, 7 * 3600.0])
def test_the_live_line_fits_and_begins_with_the_best(width: int, elapsed: float) -> None:
    told = line(width, elapsed=elapsed)
    assert len(told) <= width
    assert told.startswith("best 98.66%"[:width])


def test_80_columns_have_room_for_the_best_the_count_the_time_and_a_trial_that_is_alive() -> None:
    assert line(79) == "best 98.66% (trial 10)  11/20 |###  |  00:31<00:25  trial 13: epoch 1/4, 03:20"
    assert line(83).endswith("00:31<00:25  2 running, trial 13: epoch 1/4, 03:20")


def test_a_wide_terminal_shows_all_that_runs_the_oldest_first_all_counts_and_a_bar() -> None:
    told = line(159)
    assert "2 running, trial 13: epoch 1/4, 03:20, trial 12: epoch 3/4, 00:41" in told
    assert told.endswith("1 failed  5 pruned  5 finished")
    assert "11/20 |" in told


def test_before_the_first_trial_ends_the_line_shows_what_runs() -> None:
    told = live_line(Standing(Counts(running=1), "", [Running(0)]), 3, 5.0, 0.0, {0: 5.0}, 79)
    assert told.startswith("0/3 |")
    assert told.endswith("00:05<?  1 running, trial 0: 00:05")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_first_line_is_for_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, told in ((Terminal(), "checking\n"), (io.StringIO(), "")):
        monkeypatch.setattr(sys, "stderr", stream)
        progress.say_at_once("checking")
        assert stream.getvalue() == told


def test_the_width_is_that_of_the_terminal_that_a_person_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    with open(os.devnull) as no_terminal:
        monkeypatch.setattr(sys, "stdout", no_terminal)
        monkeypatch.setattr(sys, "stderr", no_terminal)
        assert progress.terminal_width() is None
        monkeypatch.setenv("COLUMNS", "93")
        assert progress.terminal_width() == 93
        assert progress.terminal_width(no_terminal) is None
