"""The processes that work on a study, each the owner of its trials, and how they see that the others are alive."""

import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout

from sweep.errors import RecordError
from sweep.study.trials import OWNER

SECONDS_BETWEEN_BEATS = 20
SECONDS_TO_LIVE = 120
"""Age of another machine's heartbeat, by this machine's clock, at which its owner counts as dead."""


class Owner:
    """One process that works on a study, which the others can see to be alive.

    They see it by a lock on a file, which the operating system frees when a process dies; where that file is out of
    reach, as from another machine, by the age of the owner's heartbeat in the study.

    Args:
        study: The study that the process works on.
        folder: The folder for the owner's lock.
    """

    def __init__(self, study: optuna.Study, folder: Path) -> None:
        self._study = study
        self.key = f"{OWNER}.{uuid.uuid4().hex}"
        """The owner's attribute in the study, with which its trials are marked too."""
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder.resolve() / f".{self.key}.lock"
        self._lock = FileLock(self._path)
        self._lock.acquire()
        self._left = threading.Event()
        self._seen: dict[str, tuple[Any, float]] = {}
        self._beat()
        self._beating = threading.Thread(target=self._keep_beating, daemon=True)
        self._beating.start()

    def _beat(self) -> None:
        record = {"host": socket.gethostname(), "lock": str(self._path), "time": time.time()}
        self._study.set_user_attr(self.key, record)

    def _keep_beating(self) -> None:
        while not self._left.wait(SECONDS_BETWEEN_BEATS):
            with suppress(Exception):  # a database that is away for a moment; the next beat may reach it
                self._beat()

    def is_alive(self, key: str) -> bool:
        """Return whether the owner with the attribute `key` in the study still works on it."""
        record = self._study.user_attrs.get(key)
        if not record:
            return False
        path = Path(record["lock"])
        if record["host"] != socket.gethostname() or not path.exists():
            # The age of the other machine's heartbeat, by this machine's clock.
            beat, since = self._seen.get(key, (None, 0.0))
            if beat != record["time"]:
                self._seen[key] = (record["time"], time.monotonic())
                return True
            return time.monotonic() - since < SECONDS_TO_LIVE
        try:
            with FileLock(path, timeout=0):
                self._study.set_user_attr(key, None)
                path.unlink(missing_ok=True)
                return False
        except Timeout:
            return True

    def leave(self) -> None:
        """Remove this process from those that work on the study."""
        if self._left.is_set():
            return
        self._left.set()
        self._beating.join()
        with suppress(RecordError):  # then the others see it by the lock
            self._study.set_user_attr(self.key, None)
        self._lock.release()
        self._path.unlink(missing_ok=True)
