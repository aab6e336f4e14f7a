"""The tags that runs carry in MLflow: their names, and how their values are written and read."""

import contextlib
import functools
import json
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from sweep import project
from sweep.outcome import Outcome, State

STUDY_TAG = "sweep.study"
KIND_TAG = "sweep.kind"
TRIAL_TAG = "sweep.trial"
OBJECTIVE_TAG = "sweep.objective"
DIRECTION_TAG = "sweep.direction"
ERROR_TAG = "sweep.error"
STOPPED_TAG = "sweep.stopped"
STATE_TAG = "sweep.state"
"""State in which a run has ended, in the words of `Outcome`."""
COPY_TAG = "sweep.copy_of"
RERUN_TAG = "sweep.rerun_of"
COMMIT_TAG = "mlflow.source.git.commit"
DIRTY_TAG = "sweep.git_dirty"
PARENT_TAG = "mlflow.parentRunId"
OVERRIDES_TAG = "sweep.overrides"
JOB_TAG = "sweep.job"
"""The data in the job's description, on a study or a single run; see `Job.facts`."""
CONFIRMS_TAG = "sweep.confirms"
"""Name of the study whose best trials this study trains again."""
GRID_TAG = "sweep.grid"
"""Set on a study that is a grid: nothing searches in it, so its trials are not ranked with others."""
UNDER_TAG = "sweep.under"
"""Id of the trial's run, on every run that its job has opened by itself."""
NUM_TRIALS_TAG = "sweep.num_trials"
"""Number of trials that a study had when it was last concluded."""
NUM_BEST_TAG = "sweep.num_best"
"""Number of its best trials then: one, or those on the Pareto front."""
FOLDER_TAG = "sweep.folder"
"""Folder of a study's files on the machine that ran it."""
RUN_FILE = ".sweep.run"
"""File in a study's folder with the id of the study's run, which shows that the folder is the study's."""
STATUS: dict[State, str] = {
    "finished": "FINISHED",
    "pruned": "KILLED",
    "stopped": "KILLED",
    "interrupted": "FAILED",
    "failed": "FAILED",
}
"""MLflow's status for each way in which a run can end."""


def ending_tags(outcome: Outcome) -> dict[str, str]:
    """Return the tags of a run that ended with `outcome`."""
    tags: dict[str, str] = {STATE_TAG: outcome.state}
    if outcome.reason:
        tags[ERROR_TAG if STATUS[outcome.state] == "FAILED" else STOPPED_TAG] = outcome.reason[:1000]
    return tags


def objective_tags(objectives: Iterable[str], directions: Iterable[str]) -> dict[str, str]:
    """Return the tags with the objectives of a run and their directions."""
    return {OBJECTIVE_TAG: ",".join(objectives), DIRECTION_TAG: ",".join(directions)}


def git_tags() -> dict[str, str]:
    """Return tags with the commit of the job's project and whether files differ from it; else nothing."""
    return _git_tags(project.root())


@functools.cache
def _git_tags(folder: Path) -> dict[str, str]:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {
            COMMIT_TAG: git("rev-parse", "HEAD"),
            DIRTY_TAG: str(bool(git("status", "--porcelain"))).lower(),
        }
    except (OSError, subprocess.SubprocessError):
        return {}


def overrides_tag(overrides: Sequence[str]) -> dict[str, str]:
    """Return the tag that keeps the `overrides` of a job one by one, as some have spaces in them."""
    return {OVERRIDES_TAG: json.dumps(list(overrides))}


def read_overrides(text: str) -> list[str]:
    """Return what `overrides_tag` wrote; older versions' tags are split at spaces, as they joined them."""
    if text.startswith("["):
        with contextlib.suppress(ValueError):
            return [str(override) for override in json.loads(text)]
    return text.split(" ")


def unquoted(value: str) -> str:
    """Return the text that Hydra reads in `value`, which is quoted if it holds spaces, say."""
    quote = value[:1]
    if len(value) > 1 and quote in "'\"" and value.endswith(quote):
        return value[1:-1].replace(f"\\{quote}", quote)
    return value
