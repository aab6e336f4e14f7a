"""Slots: a number of jobs at a time, each slot taking its next job as soon as it is free."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

CTRL_C = "Ctrl-C"
TIMEOUT = "the timeout"


class Stop:
    """The reason why no more trials are handed out: Ctrl-C or the timeout; empty while they are."""

    def __init__(self, timeout: float | None = None) -> None:
        self.reason = ""
        self.is_interrupted = False
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def __call__(self) -> bool:
        """Return whether to hand out no more trials."""
        if not self.reason and self._deadline is not None and time.monotonic() >= self._deadline:
            self.reason = TIMEOUT
        return bool(self.reason)

    @property
    def seconds_left(self) -> float:
        """Seconds until the timeout; infinite without one, and after it has passed."""
        left = math.inf if self._deadline is None else self._deadline - time.monotonic()
        return left if left > 0 else math.inf

    @contextmanager
    def on_interrupt(self, tell: Callable[[], None]) -> Iterator[None]:
        """In the block, hand out no more trials after a first Ctrl-C, and call `tell`; raise on the second."""

        def interrupt(_signal: int, _frame: FrameType | None) -> None:
            if self.is_interrupted:
                raise KeyboardInterrupt
            self.is_interrupted = True
            self.reason = self.reason or CTRL_C
            tell()

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def keep_busy(num_slots: int, work: Callable[[], bool]) -> None:
    """Call `work` over and over in each of `num_slots` slots, until it returns False there.

    A single slot is the main thread itself, so that a second Ctrl-C reaches the work in it. After an error in one slot
    the others finish their work; then the error is raised.

    Args:
        num_slots: Number of threads, from 1.
        work: Function that does one piece of work, and returns whether there may be another.
    """
    if num_slots == 1:
        while work():
            pass
        return
    errors: list[BaseException] = []

    def slot() -> None:
        try:
            while not errors and work():
                pass
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=slot, daemon=True, name=f"slot-{i}") for i in range(num_slots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
