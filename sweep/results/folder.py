"""Where the files of a study lie, and how much room they take."""

import contextlib
import os
import re
from pathlib import Path

from sweep import project
from sweep.files import as_folder
from sweep.record.runs import RunRecord
from sweep.record.tags import FOLDER_TAG, RUN_FILE, STUDY_TAG

LEFT_BY_STUDY = (
    r"\d+|confirm|optuna\.journal.*|\.\d+-.*|\.sweep\..*|\.submitit|report\.html|optimization_results\.yaml|"
    r"multirun\.yaml"
)
"""What a study leaves in its folder, as a pattern of names."""


def folder_of(study: RunRecord) -> Path:
    """Where the files of `study` lie, or would if it had run here."""
    own = own_folder_of(study)
    return own or project.root() / "multirun" / as_folder(study.tags[STUDY_TAG])


def own_folder_of(study: RunRecord) -> Path | None:
    """The folder on this machine with the files of `study`; None if there is none.

    A record can name any folder, so it is believed only of one that says itself whose it is.
    """
    folder = Path(study.tags.get(FOLDER_TAG, ""))
    with contextlib.suppress(OSError, ValueError):  # ValueError: a zero byte in a path
        if folder.is_absolute() and (folder / RUN_FILE).read_text(errors="replace") == study.run_id:
            return folder
    return None


def size_of(folder: Path) -> int:
    """Bytes of all files in `folder`, links not followed."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # it has just been removed
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def size_in_words(size: int) -> str:
    """A number of bytes as a person reads it: 0.4 MB, 12 MB, 1.2 GB."""
    number, unit = (size / 1e9, "GB") if size >= 1e9 else (size / 1e6, "MB")
    return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"


def foreign_files(folder: Path) -> list[str]:
    """The names of what lies in a study's `folder` and is none of what a study leaves there.

    A person can have a study put its files into any folder, their home for one.
    """
    return sorted(path.name for path in folder.iterdir() if not re.fullmatch(LEFT_BY_STUDY, path.name))
