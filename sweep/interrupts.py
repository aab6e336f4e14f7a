"""What Ctrl-C does while a program starts. Imports nothing that takes time.

The imports of torch and MLflow take seconds, and some of them, as Hydra does too, turn a KeyboardInterrupt into an
error of another kind. Nothing has been done by then, so the process ends at once.
"""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

STOPPED = 130
"""The exit status that shells expect of a program stopped by Ctrl-C."""

_before: Any = None  # the handler that is in force once work begins
_undo: list[Callable[[], None]] = []


def end_quietly() -> None:
    """Have Ctrl-C end this process at once and without a message, until `work_begins` is called."""
    global _before
    if signal.getsignal(signal.SIGINT) is not _end:
        _before = signal.signal(signal.SIGINT, _end)


def before_ending(undo: Callable[[], None]) -> None:
    """Have `undo` called first, should Ctrl-C come before `work_begins`."""
    _undo.append(undo)


def work_begins() -> None:
    """Give Ctrl-C its usual meaning back, since from now on there may be something to close or to keep."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, _before)
    _undo.clear()


def _end(_signal: int, _frame: FrameType | None) -> None:
    for undo in _undo:
        undo()
    os._exit(STOPPED)
