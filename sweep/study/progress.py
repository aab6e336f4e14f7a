"""What a person sees of a running study: a line for each trial, and on a terminal a live line below them."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, TextIO

from tqdm import tqdm

tqdm.set_lock(threading.RLock())  # its own would also hold for other processes, and is told of as leaked at the end

SECONDS_BETWEEN_LOOKS = 5
"""Seconds after which the live line looks again how far the running trials are."""
WIDEST_BAR, NARROWEST_BAR = 20, 5


class Counts(NamedTuple):
    """How many trials of a study have ended, and how."""

    finished: int = 0
    running: int = 0
    pruned: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        """Number of trials that have ended, in whichever way."""
        return self.finished + self.pruned + self.failed


class Running(NamedTuple):
    """A trial that runs now."""

    number: int
    step: str = ""
    """The step that the trial is in, as text: "epoch 3/4"; empty where that is not known."""


class Standing(NamedTuple):
    """The state of a study that its live line shows."""

    counts: Counts = Counts()
    best: str = ""
    """The best value so far, as text; empty if there is none."""
    running: Sequence[Running] = ()


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Return the columns of the terminal that `stream` is, or that a person looks at; None without one.

    Without `stream` that is COLUMNS, or the terminal of the output, or of the errors where the output goes into a pipe.
    """
    if stream is None and os.environ.get("COLUMNS", "").isdigit():
        return shutil.get_terminal_size().columns
    for one in (stream,) if stream else (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # no terminal, closed, or not a file at all
            return os.get_terminal_size(one.fileno()).columns or None
    return None


def say_at_once(text: str) -> None:
    """Print `text` for a person at a terminal, before the first result; a log does without it."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)


class Progress:
    """The live line of a study, and the lines above it; without a terminal, plain lines that show the progress too."""

    def __init__(self, total: int, look: Callable[[], Standing]) -> None:
        self._look = look
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._standing = look()
        self._seen: dict[int, float] = {}
        self._started, self._done_before = time.monotonic(), self._standing.counts.done
        self._bar = tqdm(total=total, disable=not sys.stderr.isatty(), bar_format="{desc}")
        if self.is_live:
            threading.Thread(target=self._keep_time, daemon=True).start()

    def _keep_time(self) -> None:
        looked = time.monotonic()
        while not self._closed.wait(1):
            if time.monotonic() - looked > SECONDS_BETWEEN_LOOKS:
                with suppress(Exception):  # a storage that is away for a moment
                    self._standing = self._look()
                looked = time.monotonic()
            self._show()

    @property
    def is_live(self) -> bool:
        """Whether there is a terminal to show the live line on."""
        return not self._bar.disable

    def line(self, text: str) -> None:
        """Print a line above the live one."""
        with self._lock:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()

    def update(self) -> None:
        """Show how far the study has come, and the best value so far."""
        self._standing = self._look()
        self._show()

    def _show(self) -> None:
        with self._lock:
            if self._closed.is_set():  # while somebody looked
                return
            now, standing = time.monotonic(), self._standing
            self._seen = {one.number: self._seen.get(one.number, now) for one in standing.running}
            ages = {number: now - since for number, since in self._seen.items()}
            # One column less: some terminals go to the next line at the last.
            width = (terminal_width(sys.stderr) or 80) - 1
            elapsed = now - self._started
            rate = (standing.counts.done - self._done_before) / elapsed if elapsed else 0
            line = live_line(standing, self._bar.total, elapsed, rate, ages, width)
            self._bar.set_description_str(line, refresh=self.is_live)

    def close(self) -> None:
        """Remove the live line."""
        self._closed.set()
        with self._lock:
            self._bar.leave = False
            self._bar.close()


def live_line(standing: Standing, total: int, elapsed: float, rate: float, ages: dict[int, float], width: int) -> str:
    """Return as much of a study's state as fits `width`, what matters most first.

    Args:
        standing: How far it is.
        total: How many trials it comes to.
        elapsed: Seconds since this process began.
        rate: Trials a second.
        ages: Seconds since each of the running trials was first seen.
        width: Columns.
    """
    counts = standing.counts
    remaining = tqdm.format_interval((total - counts.done) / rate) if rate else "?"
    line = f"{standing.best}  " if standing.best else ""
    line += f"{counts.done}/{total}  {tqdm.format_interval(elapsed)}<{remaining}"
    oldest_first = sorted(standing.running, key=lambda one: -ages.get(one.number, 0))
    told = [_running(one, ages.get(one.number, 0)) for one in oldest_first]
    all_of_them = [", ".join([f"{counts.running} running", *told[:n]]) for n in range(len(told), 0, -1)]
    ways_to_tell = [*all_of_them, *told[:1], f"{counts.running} running"]
    pieces = [
        next((way for way in ways_to_tell if _fits(line, way, width)), "") if counts.running else "",
        f"{counts.failed} failed" if counts.failed else "",
        f"{counts.pruned} pruned" if counts.pruned else "",
        f"{counts.finished} finished" if counts.finished else "",
    ]
    for piece in pieces:
        if piece and _fits(line, piece, width):
            line += f"  {piece}"
    size = min(WIDEST_BAR, width - len(line) - 4)
    if size >= NARROWEST_BAR:
        full = round(size * counts.done / max(1, total))
        line = line.replace(f"{counts.done}/{total}", f"{counts.done}/{total} |{'#' * full}{' ' * (size - full)}|", 1)
    return line[:width]


def _fits(line: str, piece: str, width: int) -> bool:
    return len(line) + 2 + len(piece) <= width


def _running(one: Running, age: float) -> str:
    step = f"{one.step}, " if one.step else ""
    return f"trial {one.number}: {step}{tqdm.format_interval(age)}"
