"""Who works on a study: the processes that own its trials, and how the others see that one of them lives."""

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
"""An owner on another machine whose heartbeat is older than this is taken for dead."""


class Owner:
    """One process that works on a study, which the others can see to be alive.

    They see it by a lock on a file, which the operating system takes back from a process that has died; where that
    file cannot be seen, from another machine say, by the age of the owner's heartbeat in the study.

    Args:
        study: The study that it works on.
        folder: Where its lock lies.
    """

    def __init__(self, study: optuna.Study, folder: Path) -> None:
        self._study = study
        self.key = f"{OWNER}.{uuid.uuid4().hex}"
        """Its attribute in the study, and what its trials are marked with."""
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
        """Whether the owner whose attribute in the study is `key` still works on it."""
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
        """Say that this process works on the study no more."""
        if self._left.is_set():
            return
        self._left.set()
        self._beating.join()
        with suppress(RecordError):  # then the others see it by the lock
            self._study.set_user_attr(self.key, None)
        self._lock.release()
        self._path.unlink(missing_ok=True)
