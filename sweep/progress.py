"""What a person sees while a study runs: a line for each trial and, on a terminal, one live line below them."""

import sys
import threading
from typing import NamedTuple

from tqdm import tqdm


class Counts(NamedTuple):
    """How far a study has come."""

    finished: int = 0
    running: int = 0
    pruned: int = 0
    failed: int = 0

    @property
    def done(self) -> int:
        """Trials that have come to their end, in whichever way."""
        return self.finished + self.pruned + self.failed

    def __str__(self) -> str:
        return ", ".join(f"{number} {name}" for name, number in self._asdict().items() if number)


class Progress:
    """The live line, and the lines above it; without a terminal, plain lines that also say how far the study is."""

    def __init__(self, total: int, counts: Counts) -> None:
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._bar = tqdm(
            total=total,
            initial=counts.done,
            disable=not sys.stderr.isatty(),
            bar_format="{n_fmt}/{total_fmt} trials |{bar:20}| {elapsed}<{remaining}{postfix}",
            dynamic_ncols=True,
        )
        if self.is_live:
            threading.Thread(target=self._keep_time, daemon=True).start()

    def _keep_time(self) -> None:
        while not self._closed.wait(1):
            with self._lock:
                self._bar.refresh()

    @property
    def is_live(self) -> bool:
        """Whether there is a terminal to show it on."""
        return not self._bar.disable

    def line(self, text: str) -> None:
        """Print a line above the live one."""
        with self._lock:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()

    def update(self, counts: Counts, best: str) -> None:
        """Show how far the study has come, and the best so far."""
        with self._lock:
            self._bar.n = counts.done
            self._bar.set_postfix_str(f"{counts}{f'; best {best}' if best else ''}", refresh=True)

    def close(self) -> None:
        """Take the live line away."""
        self._closed.set()
        with self._lock:
            self._bar.leave = False
            self._bar.close()
