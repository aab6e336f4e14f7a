"""The file that holds a study by default: Optuna's journal, in which every change is a line of JSON.

A full disk or a power cut leaves a last line without its end. It is cut off before anything is appended; damage further
up is reported, with the command that removes it.
"""

import errno
import json
import os
import shlex
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from optuna.storages.journal import JournalFileBackend

from sweep.errors import RecordError, in_one_line

RECORD_START = b'{"op_code":'
SECONDS_TO_WAIT = 60
"""Age at which the journal's lock counts as stuck: a write takes milliseconds."""


class Journal(JournalFileBackend):
    """Optuna's journal file; whatever keeps it from being read or written is raised as a RecordError.

    Args:
        path: Absolute path of the file, which is made, with its folder, if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._failures_told():
            if path.exists() and not path.is_file():
                kind = "is a folder; give a file in it" if path.is_dir() else "is not a file"
                raise RecordError(f"hydra.sweeper.storage={path}: {kind}, as in FOLDER/optuna.journal")
            path.parent.mkdir(parents=True, exist_ok=True)
            super().__init__(str(path))
        # In place of the file that Optuna's own lock makes, which blocks for 30 s when its holder dies; this one the
        # operating system takes back.
        self._turn = FileLock(f"{path}.lock", timeout=SECONDS_TO_WAIT, poll_interval=0.002)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Yield the records from that number on; a last line without its end is no record yet."""
        number = log_number_from
        with self._failures_told():
            try:
                for record in super().read_logs(log_number_from):
                    if not _is_record(record):
                        raise ValueError("not a record of Optuna's")
                    number += 1
                    yield record
                return
            except ValueError:  # damage, or a line that another process has just cut off and written anew
                with self._turn:
                    self._require_whole()
                    rest = list(super().read_logs(number))
        yield from rest

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append `logs` after a whole last line; if that fails, the file is as it was before."""
        lines = b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs)
        with self._failures_told(), self._turn, self._path.open("r+b", buffering=0) as file:
            self._finish_last_line(file)
            end = file.seek(0, os.SEEK_END)
            try:
                while lines:
                    lines = lines[file.write(lines) :]
            except OSError:  # a full disk
                file.truncate(end)
                raise
            os.fsync(file.fileno())

    def _finish_last_line(self, file: FileIO) -> None:
        """Cut off a last line that was half written; if it lacks only its line break, write that."""
        line = _last_line(file)
        if not line or (line.endswith(b"\n") and _is_whole(line)):
            return
        if line.endswith(b"\n") or not (self._begins_with_record() or _may_be_first(line)):
            self._require_whole()
        if _is_whole(line):
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
            return
        file.truncate(file.seek(0, os.SEEK_END) - len(line))
        # Printed, not logged: a job takes the log's handlers for itself.
        print(
            f"{self._path}: its last line was written half only, as by a full disk or a power cut; it is cut off, "
            "all before it is kept",
            file=sys.stderr,
            flush=True,
        )

    def _begins_with_record(self) -> bool:
        with self._path.open("rb") as file:
            return _is_whole(file.readline())

    def _require_whole(self) -> None:
        """Raise a RecordError that names the unreadable lines, unless that is only a half-written last one."""
        num_whole, damaged = 0, {}
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if _is_whole(line):
                    num_whole += 1
                elif line.endswith(b"\n"):
                    damaged[number] = _is_whole(RECORD_START + line.rpartition(RECORD_START)[2])
        if num_whole == 0:
            raise RecordError(
                f"hydra.sweeper.storage={self._path}: a file of another kind, not a journal of Optuna's; give another"
            )
        if damaged:
            # After a half line the next one may stand on the same line, and whole.
            edits = [
                rf"{number}s/^.*\({RECORD_START.decode()}\)/\1/" if ends_whole else f"{number}d"
                for number, ends_whole in damaged.items()
            ]
            raise RecordError(
                f"hydra.sweeper.storage={self._path}: line {', '.join(map(str, damaged))} cannot be read; to go on "
                f"with the {num_whole} that can: LC_ALL=C sed -i.damaged {shlex.quote(';'.join(edits))} "
                f"{shlex.quote(str(self._path))}  (the file as it is stays beside it as .damaged)"
            )

    @contextmanager
    def _failures_told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, NotImplementedError) as error:  # the latter of a file system without locks
            number = getattr(error, "errno", None)
            reason = os.strerror(number) if number else in_one_line(error)
            if isinstance(error, Timeout):
                reason = f"another process has held {error.lock_file} for {SECONDS_TO_WAIT} s; is one stopped?"
            elif number == errno.ENAMETOOLONG:
                reason += "; give a shorter path"
            raise RecordError(
                f"hydra.sweeper.storage={self._path}: cannot be read or written ({reason}); what has finished is kept, "
                "and the same command goes on"
            ) from error


def _is_record(found: Any) -> bool:
    return isinstance(found, dict) and "op_code" in found


def _is_whole(line: bytes) -> bool:
    """Return whether `line` holds a whole record."""
    try:
        return _is_record(json.loads(line))
    except ValueError:
        return False


def _may_be_first(line: bytes) -> bool:
    """Return whether `line`, which lacks its end, may be the beginning of a journal's first line."""
    line = line.rstrip(b"\0")  # which a power cut leaves where the data had not reached the disk
    return line.startswith(RECORD_START[: len(line)])


def _last_line(file: FileIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    length = 0
    while True:
        length = min(size, 4 * length or 4096)
        file.seek(size - length)
        tail = file.read(length)
        at = tail.rfind(b"\n", 0, max(0, length - 1))
        if at >= 0 or length == size:
            return tail[at + 1 :]
