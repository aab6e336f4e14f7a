"""Train a logged run again from what was recorded, and say whether the result is the same.

sweep rerun RUN_ID    exit status 0 if it is the same bit for bit, 1 if it is not

The new run stands beside the old one in MLflow, as rerun-of-NAME. It belongs to no study. It is trained by the job
that the project names in its pyproject.toml.
"""

import contextlib
import logging
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from sweep.arguments import Parser
from sweep.description import Description, Task
from sweep.errors import Stopped, SweepError, exit_with_one_line, in_one_line
from sweep.goal import Goal
from sweep.record.connect import connect
from sweep.record.lifecycle import open_run
from sweep.record.runs import RunRecord, experiment_of, find_run, history_of, naming, trials_of
from sweep.record.tags import (
    COPY_TAG,
    DIRECTION_TAG,
    KIND_TAG,
    OBJECTIVE_TAG,
    OVERRIDES_TAG,
    PARENT_TAG,
    RERUN_TAG,
)
from sweep.results.known import KeptRun, own_job
from sweep.results.repetition import FINISHED, Repetition, compare_runs, ending_of, repetition_in_words, why
from sweep.results.settings import settings_again
from sweep.running import carry_out
from sweep.trial import Trial


class RepeatedTrial(Trial):
    """A trial that stops where the run that it repeats was stopped: after the last report of that run."""

    def __init__(self, *given: Any, last_step: int, names: Collection[str]) -> None:
        super().__init__(*given)
        self._last_step = last_step
        self._missing = set(names)

    def _take(self, step: int, reported: dict[str, float], of: int | None = None, is_logged: bool = False) -> None:
        if step <= self._last_step:
            super()._take(step, reported, of, is_logged)
        if step == self._last_step:
            self._missing -= reported.keys()
        if step > self._last_step or (step == self._last_step and not self._missing and step != of):
            said = f"stopped, as the run that it repeats was, after {self.job.step} {self._last_step}"
            self._stopped = Stopped(said)
            raise self._stopped


def main(arguments: list[str] | None = None) -> None:
    """Run the verb `sweep rerun`."""
    parser = Parser("rerun", __doc__)
    parser.add_argument("run", metavar="RUN_ID", help="the run's id, as MLflow's pages show it")
    parser.add_argument(
        "--trust", action="store_true", help="take recorded settings that name code (_target_), and have the job run it"
    )
    options = parser.parse_args(arguments)
    _show_steps()
    with exit_with_one_line():  # after Ctrl-C MLflow has the new run as FAILED, interrupted
        connect()
        run = find_run(options.run)
        require_trained(run)
        task, job = own_job(run)
        with tempfile.TemporaryDirectory(prefix="rerun-") as folder:
            again, compared = rerun(run, task, job, Path(folder), trust=options.trust)
        reasons = [] if compared.is_same else why(run, again, job)
    print(f"\n{repetition_in_words(compared, reasons, job.step)}\nrecorded as {again.name} ({again.run_id})")
    sys.exit(0 if compared.is_same else 1)


def _show_steps() -> None:
    """Print a trial's own lines, as a single run does, but not those of libraries."""
    logger = logging.getLogger("sweep")
    logger.handlers = [logging.StreamHandler(sys.stdout)]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def require_trained(run: RunRecord) -> None:
    """Raise a SweepError unless `run` is a training that has ended."""
    at = f"run={run.run_id}: {run.name} is"
    if run.tags.get(KIND_TAG) == "study":
        trials = trials_of(run)
        such = f", such as {trials[0].name}: sweep rerun {trials[0].run_id}" if trials else "; it has none"
        raise SweepError(f"{at} a study; give one of its trials{such}")
    if COPY_TAG in run.tags:
        raise SweepError(f"{at} a copy and was not trained itself; {_instead_of_copy(run)}")
    if run.status == "RUNNING":
        raise SweepError(f"{at} still RUNNING, or its process has died; give a run that has ended")


def _instead_of_copy(run: RunRecord) -> str:
    number = run.whole_number(COPY_TAG, -1)
    siblings = trials_of(find_run(run.tags.get(PARENT_TAG, "")))
    twin = next((one for one in siblings if one.trial_number == number), None)
    return f"its twin was: sweep rerun {twin.run_id}" if twin else f"trial {number} was, which is gone"


def rerun(
    run: RunRecord, task: Task, job: Description, folder: Path, trust: bool = False
) -> tuple[RunRecord, Repetition]:
    """Train `run` again, record that as a new run, and compare the two.

    A run that was stopped is trained up to the step it reached; one that failed, until it fails again.

    Args:
        run: A run that `require_trained` accepts.
        task: The function of the run's job.
        job: Description of that job, which sets what was left to the machine as it was.
        folder: A folder for temporary files.
        trust: Whether recorded settings may name code.

    Returns:
        The new run, and the comparison.

    Raises:
        SweepError: The record lacks what is needed to train the run again, or it cannot be trained here.
    """
    settings = settings_again(run, job, trust)
    job.checked(settings)
    _require_same_data(run, job, settings)
    if job.differences is not None and run.status == "FINISHED":
        with naming(run), KeptRun(run) as kept:  # what there is to compare with is read before it takes a training
            job.differences(kept, kept)
    objectives = run.objectives
    directions = run.directions if DIRECTION_TAG in run.tags else []
    goal = Goal(objectives, directions, experiment_of(run), is_recorded=True, active_run=job.active_run)
    trial = Trial(job, goal, folder / "again")
    if _was_stopped(run):
        history = history_of(run)
        last_step = max((step for values in history.values() for step in values), default=None)
        if last_step is None:
            raise SweepError(
                f"run={run.run_id}: {run.name} was stopped before its first {job.step} ended: nothing to compare"
            )
        names = {name for name, values in history.items() if last_step in values and name in job.metrics}
        trial = RepeatedTrial(job, goal, folder / "again", last_step=last_step, names=names)
    again, ended = _train(run, task, settings, trial)
    return again, compare_runs(run, again, ended, job)


def _require_same_data(run: RunRecord, job: Description, settings: DictConfig) -> None:
    dataset = job.dataset(settings)
    if dataset is not None and dataset.digest != run.digest:
        raise SweepError(
            f"run={run.run_id}: {run.name}: {dataset.name} is not the same here as it was trained on (digest "
            f"{dataset.digest}, recorded {run.digest or 'none'}); have the job find the data that it was"
        )


def _was_stopped(run: RunRecord) -> bool:
    return run.outcome is not None and run.outcome.state in ("pruned", "stopped", "interrupted")


def _train(run: RunRecord, task: Task, settings: DictConfig, trial: Trial) -> tuple[RunRecord, str]:
    """Train the new run; return it, and how it ended: FINISHED, or its reason.

    A repetition that was stopped where `run` was counts as ended in the same way.
    """
    tags = {
        KIND_TAG: "rerun",  # not "trial": what looks for the best run must not meet this one twice
        RERUN_TAG: run.run_id,
    }
    tags |= {key: run.tags[key] for key in (OBJECTIVE_TAG, DIRECTION_TAG, OVERRIDES_TAG) if key in run.tags}
    ended = ending_of(run) if _was_stopped(run) else FINISHED
    run_id = ""
    try:
        with (
            contextlib.suppress(Stopped),
            open_run(trial.goal.experiment, f"rerun-of-{run.name}", tags=tags, active=trial.goal.active_run) as record,
        ):
            run_id = record.run_id
            trial.run = record
            carry_out(trial, task, settings)
    except Exception as error:
        # That a failure comes again is what is asked for; whatever else goes wrong is for the reader to see.
        if not run_id or not (isinstance(error, SweepError) or run.status == "FAILED"):
            raise
        ended = in_one_line(error)
    return find_run(run_id), ended
