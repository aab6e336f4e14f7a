"""Files that are there whole or not at all, names that stay in their folder, and paths as people type them."""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from sweep.errors import SweepError

MOST_BYTES = 200
"""Of a folder's name; file systems take 255."""


def expanded(path: str | Path) -> Path:
    """`path` with the home folder for a `~` at its start, which shells leave in `key=~/x` and in quotes.

    Raises:
        SweepError: It starts with `~` and a name that no user has, and there is nothing of this name.
    """
    found = Path(os.path.expanduser(path))
    if found.parts[:1] and found.parts[0].startswith("~") and not found.exists():
        raise SweepError(f"{path}: {found.parts[0]} is nobody's home folder; give the path in full")
    return found


def absolute_path(path: str | Path) -> str:
    """`path`, with `~` for the home folder, read from the working directory, so that it means the same in every folder.

    Raises:
        SweepError: As `expanded` does.
    """
    return os.path.abspath(expanded(path))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the place of `path` when the block is left.

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
    """Whether `text` is a name as a study's is: one folder's, and safe in a command line and in an address."""
    return re.fullmatch(r"\w[\w.-]*", text) is not None


def as_folder(name: str) -> str:
    """The name of one folder for what is called `name`: the same where it can be, else what is left and a digest."""
    if is_name(name) and len(os.fsencode(name)) <= MOST_BYTES:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    left = "-".join(re.findall(r"[A-Za-z0-9_.]+", name))[: MOST_BYTES - len(digest)].lstrip(".-")
    return f"{left}-{digest}".lstrip("-")
