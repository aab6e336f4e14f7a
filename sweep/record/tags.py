"""The names of the tags that runs carry in MLflow, and what is written to them and read back."""

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
"""How a run that has ended has ended, in the words of `Outcome`."""
COPY_TAG = "sweep.copy_of"
RERUN_TAG = "sweep.rerun_of"
COMMIT_TAG = "mlflow.source.git.commit"
DIRTY_TAG = "sweep.git_dirty"
PARENT_TAG = "mlflow.parentRunId"
OVERRIDES_TAG = "sweep.overrides"
JOB_TAG = "sweep.job"
"""What the job of a study or of a single run says about itself, see `Job.facts`."""
CONFIRMS_TAG = "sweep.confirms"
"""The study whose best trials a study trains again."""
GRID_TAG = "sweep.grid"
"""Set of a study that is a grid: nothing searches in it, and its trials may be as bad as they come."""
UNDER_TAG = "sweep.under"
"""Id of the trial's run, on every run that its job has opened by itself."""
NUM_TRIALS_TAG = "sweep.num_trials"
"""How many trials a study had when it was last concluded."""
NUM_BEST_TAG = "sweep.num_best"
"""How many of them were the best: one, or those on the Pareto front."""
FOLDER_TAG = "sweep.folder"
"""Where the files of a study lie on the machine that ran it."""
RUN_FILE = ".sweep.run"
"""The file in that folder with the id of the study's run, by which the folder is known to be the study's."""
STATUS: dict[State, str] = {
    "finished": "FINISHED",
    "pruned": "KILLED",
    "stopped": "KILLED",
    "interrupted": "FAILED",
    "failed": "FAILED",
}
"""MLflow's word for how a run ended."""


def ending_tags(outcome: Outcome) -> dict[str, str]:
    """The tags of a run that ended with `outcome`."""
    tags: dict[str, str] = {STATE_TAG: outcome.state}
    if outcome.reason:
        tags[ERROR_TAG if STATUS[outcome.state] == "FAILED" else STOPPED_TAG] = outcome.reason[:1000]
    return tags


def objective_tags(objectives: Iterable[str], directions: Iterable[str]) -> dict[str, str]:
    """The tags that say what a run is after."""
    return {OBJECTIVE_TAG: ",".join(objectives), DIRECTION_TAG: ",".join(directions)}


def git_tags() -> dict[str, str]:
    """The commit that is checked out in the job's project, and whether files differ from it; else nothing."""
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
    """The tag that keeps the `overrides` of a job one by one; some have spaces in them."""
    return {OVERRIDES_TAG: json.dumps(list(overrides))}


def read_overrides(text: str) -> list[str]:
    """What `overrides_tag` wrote; what the versions before it wrote is split at spaces, as they did."""
    if text.startswith("["):
        with contextlib.suppress(ValueError):
            return [str(override) for override in json.loads(text)]
    return text.split(" ")


def unquoted(value: str) -> str:
    """The text that Hydra reads in `value`, which has quotes around it if it holds spaces, say."""
    quote = value[:1]
    if len(value) > 1 and quote in "'\"" and value.endswith(quote):
        return value[1:-1].replace(f"\\{quote}", quote)
    return value
