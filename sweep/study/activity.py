"""Whether somebody works on a study, seen from outside: by locks in its folder, heartbeats in its storage."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

import optuna
from filelock import FileLock, Timeout

from sweep.study.owner import SECONDS_BETWEEN_BEATS
from sweep.study.trials import OWNER


def is_locked(folder: Path) -> bool:
    """Return whether a process of this machine works on the study with its files in `folder`."""
    for path in folder.glob(f".{OWNER}.*.lock"):
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            return True
    return False


def beating_hosts(study: optuna.Study, wait: Callable[[float], None] = time.sleep) -> list[str]:
    """Return the other machines that work on `study`; if there are any, this takes as long as a heartbeat.

    Heartbeats carry the other machine's clock, so they are compared with later ones, not with this machine's clock.
    """
    before = _heartbeats(study)
    if not before:
        return []
    wait(SECONDS_BETWEEN_BEATS * 1.25)
    after = _heartbeats(study)
    return sorted({host for key, (host, beat) in after.items() if before.get(key) != (host, beat)})


def _heartbeats(study: optuna.Study) -> dict[str, tuple[str, float]]:
    """Return the machine and the last heartbeat of each process that works on `study` elsewhere."""
    owners = {key: value for key, value in study.user_attrs.items() if key.startswith(OWNER) and value}
    return {
        key: (str(value["host"]), float(value["time"]))
        for key, value in owners.items()
        if value["host"] != socket.gethostname()
    }
