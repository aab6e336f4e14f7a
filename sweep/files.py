"""Files that are written whole or not at all, names that are safe as folders, and paths as people type them."""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from sweep.errors import SweepError

MOST_BYTES = 200
"""Longest name of a folder; file systems take 255 bytes."""


def expanded(path: str | Path) -> Path:
    """Return `path` with `~` at its start expanded, which shells leave in `key=~/x` and in quotes.

    Raises:
        SweepError: The path starts with `~` and a name that no user has, and there is no such file.
    """
    found = Path(os.path.expanduser(path))
    if found.parts[:1] and found.parts[0].startswith("~") and not found.exists():
        raise SweepError(f"{path}: {found.parts[0]} is nobody's home folder; give the path in full")
    return found


def absolute_path(path: str | Path) -> str:
    """Return `path` as an absolute one, with `~` expanded and read from the working directory.

    Raises:
        SweepError: As in `expanded`.
    """
    return os.path.abspath(expanded(path))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it replaces `path` at the end of the block.

    After an error `path` is as it was before. Folders that are missing are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}-{path.name}")  # the same ending, by which some writers know the format
    try:
        yield part
        os.replace(part, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def is_name(text: str) -> bool:
    """Return whether `text` can be a study's name: one folder, and safe in a command line and in an address."""
    return re.fullmatch(r"\w[\w.-]*", text) is not None


def as_folder(name: str) -> str:
    """Return a folder's name for what is called `name`: the same where it can be, else its letters and a digest."""
    if is_name(name) and len(os.fsencode(name)) <= MOST_BYTES:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    left = "-".join(re.findall(r"[A-Za-z0-9_.]+", name))[: MOST_BYTES - len(digest)].lstrip(".-")
    return f"{left}-{digest}".lstrip("-")
