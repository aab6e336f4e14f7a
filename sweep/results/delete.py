"""Delete a study: its runs in MLflow, its files, its trials in Optuna's storage.

sweep delete STUDY            says what goes, and asks
sweep delete STUDY --yes      does not ask

A study that somebody works on is not deleted. MLflow keeps deleted runs until `mlflow gc` removes them for good.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import optuna

from sweep.arguments import Parser
from sweep.errors import SweepError, exit_with_one_line, without_password
from sweep.record.connect import connect
from sweep.record.lifecycle import delete_runs
from sweep.record.registry import versions_of
from sweep.record.runs import RunRecord, below, find_study
from sweep.record.tags import STUDY_TAG
from sweep.results.folder import foreign_files, own_folder_of, size_in_words, size_of
from sweep.study import storage as storages
from sweep.study.activity import beating_hosts, is_locked

JOURNAL = "optuna.journal"
"""File in a study's folder that is its storage, unless it names another."""
MOST_NAMES = 5


class Doomed(NamedTuple):
    """The runs, files and trials that are deleted with a study."""

    study: RunRecord
    runs: list[RunRecord]
    """The runs below the study's run, including those of its trials."""
    folder: Path | None
    """The folder with the study's files; None if there is none here that holds nothing else."""
    storage: str | None
    """Address of the storage that holds the study's trials, None if that is not known."""

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.study.tags[STUDY_TAG]


def main(arguments: list[str] | None = None) -> None:
    """Run the verb `sweep delete`."""
    parser = Parser("delete", __doc__)
    parser.add_argument("study", metavar="STUDY", help="its name, as sweep list shows it")
    parser.add_argument("--storage", metavar="ADDRESS", help="Optuna's storage of the study, if not in its folder")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args(arguments)
    with exit_with_one_line():
        connect()
        doomed = look(find_study(options.study), storages.absolute_address(options.storage))
        print("\n".join(doomed_in_words(doomed)))
        if not options.yes and not _is_wanted():
            print("nothing was deleted")
            return
        _require_idle(doomed)  # once more, for who asks may have waited long for the answer
        delete(doomed)
    print(f"deleted {doomed.name}")


def _is_wanted() -> bool:
    if not sys.stdin.isatty():
        raise SweepError("nobody is there to be asked; --yes deletes without asking")
    try:
        return input("delete all of it? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def look(study: RunRecord, storage: str | None = None) -> Doomed:
    """Return what is to be deleted with `study`.

    Args:
        study: The run of the study.
        storage: Address of Optuna's storage that holds it, if that is not in its folder.

    Raises:
        SweepError: Somebody works on the study, or something else needs it.
    """
    name = study.tags[STUDY_TAG]
    folder = own_folder_of(study)
    if storage is None and folder is not None and (folder / JOURNAL).is_file():
        storage = str(folder / JOURNAL)
    elif storage is not None and storages.stored_study(storage, name) is None:
        raise SweepError(f"--storage={without_password(storage)}: it holds no study {name}")
    found = Doomed(study, below(study), folder, storage)
    _require_idle(found)
    versions = versions_of(run.run_id for run in found.runs)
    if versions:
        raise SweepError(
            f"study={name}: {', '.join(versions[:MOST_NAMES])} in the registry is of it; delete that first"
        )
    if folder is not None and storage == str(folder / JOURNAL):
        others = [other for other in storages.names_in(storage) if other != name]
        if others:
            raise SweepError(f"study={name}: its storage {storage} also holds {', '.join(others[:MOST_NAMES])}")
    return found


def _require_idle(doomed: Doomed) -> None:
    """Raise a SweepError if somebody works on the study."""
    instead = "stop that first, with Ctrl-C where it runs"
    if doomed.folder is not None and is_locked(doomed.folder):
        raise SweepError(f"study={doomed.name}: somebody works on it; {instead}")
    if doomed.folder is None and doomed.study.outcome is None:
        raise SweepError(
            f"study={doomed.name}: by its record it runs, and its files are not here; delete it where they are"
        )
    stored = storages.stored_study(doomed.storage, doomed.name)
    if stored is not None and (hosts := beating_hosts(stored)):
        raise SweepError(f"study={doomed.name}: {', '.join(hosts)} works on it; {instead}")


def doomed_in_words(doomed: Doomed) -> list[str]:
    """Return a line for each thing that is deleted, and for each that stays."""
    lines = [f"study   {doomed.name}", f"runs    {len(doomed.runs) + 1} in MLflow, with their files and models"]
    if doomed.folder is None:
        lines.append("files   none on this machine that are known to be its own")
    elif others := foreign_files(doomed.folder):
        told = ", ".join(others[:MOST_NAMES])
        lines.append(f"files   stay: {_shown(doomed.folder)} also holds {told}; remove by hand what is the study's")
    else:
        lines.append(f"files   {_shown(doomed.folder)}, {size_in_words(size_of(doomed.folder))}")
    if doomed.storage is None:
        lines.append("trials  stay in Optuna's storage, wherever that is; --storage ADDRESS takes them along")
    else:
        lines.append(f"trials  in Optuna's storage {without_password(doomed.storage)}")
    return lines


def _shown(folder: Path) -> str:
    return min(os.path.relpath(folder), str(folder), key=len)


def delete(doomed: Doomed) -> None:
    """Delete the study; its own run goes last, so that an interrupted command can be given again."""
    delete_runs(doomed.runs)
    if doomed.storage is not None and storages.stored_study(doomed.storage, doomed.name) is not None:
        optuna.delete_study(study_name=doomed.name, storage=storages.open_storage(doomed.storage))
    if doomed.folder is not None and not foreign_files(doomed.folder):
        shutil.rmtree(doomed.folder)
    delete_runs([doomed.study])
