"""The folder of a study's files, and how much room they take."""

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
"""Pattern of the names that a study leaves in its folder."""


def folder_of(study: RunRecord) -> Path:
    """Return the folder of the study's files, or where it would be if the study had run here."""
    own = own_folder_of(study)
    return own or project.root() / "multirun" / as_folder(study.tags[STUDY_TAG])


def own_folder_of(study: RunRecord) -> Path | None:
    """Return the folder on this machine that belongs to `study`, None if there is none.

    A record can name any folder, so it is believed only if a file in the folder names the study.
    """
    folder = Path(study.tags.get(FOLDER_TAG, ""))
    with contextlib.suppress(OSError, ValueError):  # ValueError: a zero byte in a path
        if folder.is_absolute() and (folder / RUN_FILE).read_text(errors="replace") == study.run_id:
            return folder
    return None


def size_of(folder: Path) -> int:
    """Return the bytes of all files in `folder`, without following links."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # it has just been removed
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def size_in_words(size: int) -> str:
    """Return a number of bytes as text: 0.4 MB, 12 MB, 1.2 GB."""
    number, unit = (size / 1e9, "GB") if size >= 1e9 else (size / 1e6, "MB")
    return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"


def foreign_files(folder: Path) -> list[str]:
    """Return the names in a study's `folder` that no study leaves there.

    A person can have a study put its files into any folder, their home for one.
    """
    return sorted(path.name for path in folder.iterdir() if not re.fullmatch(LEFT_BY_STUDY, path.name))
