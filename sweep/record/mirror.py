"""The mirror of a study in MLflow: runs for the study and its trials, and the repair of what a crash has left."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from sweep.description import Dataset
from sweep.files import replacing
from sweep.goal import Goal
from sweep.outcome import FINISHED, Ended, Outcome
from sweep.record.connect import connect
from sweep.record.lifecycle import adopting, close_run, complete, end_children, open_run, reopen
from sweep.record.pages import save_view
from sweep.record.run import NoRun, Run
from sweep.record.runs import RunRecord, find_run, find_study, trials_of
from sweep.record.tags import (
    CONFIRMS_TAG,
    COPY_TAG,
    DIRECTION_TAG,
    FOLDER_TAG,
    GRID_TAG,
    JOB_TAG,
    KIND_TAG,
    RUN_FILE,
    STUDY_TAG,
    TRIAL_TAG,
    objective_tags,
    overrides_tag,
)


class Parent(NamedTuple):
    """The study whose run is the parent of a trial's run."""

    study: str
    run_id: str | None
    """Id of the study's run, as it travels with the study; without it the run is found by the study's name."""

    def find(self) -> RunRecord:
        """Return the run of the study.

        Raises:
            SweepError: There is no such run.
        """
        return find_run(self.run_id) if self.run_id else find_study(self.study)


@contextlib.contextmanager
def open_study(
    name: str,
    goal: Goal,
    folder: Path,
    overrides: Sequence[str],
    run_id: str | None = None,
    *,
    confirms: str | None = None,
    is_grid: bool = False,
    shown: Iterable[str] = (),
    dataset: Dataset | None = None,
    texts: Mapping[str, str] | None = None,
) -> Iterator[Run]:
    """Connect to the record, and open the parent run of the study called `name`.

    Args:
        name: Name of the study.
        goal: Goal of the study.
        folder: Folder of the study's files.
        overrides: Overrides of the command line.
        run_id: The parent run to go on with.
        confirms: Name of the study whose best trials this one trains again.
        is_grid: Whether the study tries every combination of listed values.
        shown: Names of the params with a trial's searched values.
        dataset: The data that all its trials are trained on.
        texts: Texts to keep with the run, by the names of the files.
    """
    if not goal.is_recorded:
        yield NoRun()
        return
    connect()
    if run_id is not None and not reopen(run_id):
        run_id = None
    tags = {
        **_goal_tags(goal),
        KIND_TAG: "study",
        STUDY_TAG: name,
        **_facts_tag(goal),
        **overrides_tag(overrides),
        **({CONFIRMS_TAG: confirms} if confirms else {}),
        **({GRID_TAG: "true"} if is_grid else {}),
        FOLDER_TAG: str(folder.resolve()),
    }
    with open_run(goal.experiment, name, tags=tags, run_id=run_id, watch_machine=True, active=goal.active_run) as run:
        with replacing(folder / RUN_FILE) as part:
            part.write_text(run.run_id)
        save_view(find_run(run.run_id), list(shown))
        if dataset is not None:
            run.log_dataset(*dataset)
        for file, text in (texts or {}).items():
            run.log_text(text, file)
        yield run


@contextlib.contextmanager
def open_trial(
    goal: Goal, name: str, overrides: Sequence[str], parent: Parent | None = None, number: int | None = None
) -> Iterator[Run]:
    """Connect to the record, and open the run of a trial called `name`, under `parent` or by itself."""
    if not goal.is_recorded:
        yield NoRun()
        return
    connect()
    of_study = {} if parent is None else {STUDY_TAG: parent.study, TRIAL_TAG: str(number)}
    with _open(goal, name, overrides, parent, number, _goal_tags(goal)) as run, adopting(run.run_id, of_study):
        yield run


def _open(
    goal: Goal,
    name: str,
    overrides: Sequence[str],
    parent: Parent | None,
    number: int | None,
    tags: Mapping[str, str],
    outcome: Outcome = FINISHED,
) -> AbstractContextManager[Run]:
    tags = {**tags, KIND_TAG: "trial", **overrides_tag(overrides)}
    if parent is None:
        tags |= _facts_tag(goal)
        return open_run(goal.experiment, name, tags=tags, outcome=outcome, active=goal.active_run)
    tags |= {STUDY_TAG: parent.study, TRIAL_TAG: str(number)}
    return open_run(goal.experiment, name, tags=tags, parent=parent.find(), outcome=outcome, active=goal.active_run)


def _facts_tag(goal: Goal) -> dict[str, str]:
    return {JOB_TAG: goal.facts} if goal.facts else {}


def _goal_tags(goal: Goal) -> dict[str, str]:
    tags = objective_tags(goal.objectives, goal.directions)
    if not goal.directions:
        del tags[DIRECTION_TAG]
    return tags


def settle_runs(goal: Goal, parent: Parent, ended: Mapping[int, Ended]) -> None:
    """Make the runs in MLflow of all trials that have ended agree with how they ended.

    Args:
        goal: Goal of the study.
        parent: The study that the trials belong to.
        ended: The trials that have ended, by their numbers.
    """
    if not goal.is_recorded:
        return
    runs = {run.trial_number: run for run in trials_of(parent.find())}
    for number, end in sorted(ended.items()):
        if number in runs:
            recorded = runs[number].outcome
            if recorded is None or recorded.state != end.outcome.state:  # whichever of several processes wrote it last
                close_run(runs[number], end.outcome)
                end_children(runs[number].run_id, end.outcome)
            if end.outcome.state != "finished":  # its job may have ended before it could tell them
                complete(runs[number], end.params, end.metrics, end.step)
        else:
            _record_missing(goal, parent, number, end, runs.get(-1 if end.copy_of is None else end.copy_of))


def _record_missing(goal: Goal, parent: Parent, number: int, end: Ended, twin: RunRecord | None) -> None:
    """Record a trial that has left no run: a copy of its `twin`, or with how it ended and no more."""
    tags, params, metrics, step, outcome = _goal_tags(goal), end.params, end.metrics, end.step, end.outcome
    if twin is not None:
        tags, params, metrics, step = {**tags, COPY_TAG: str(twin.trial_number)}, twin.params, twin.metrics, 0
        if twin.outcome is not None and twin.outcome.state == outcome.state:
            outcome = twin.outcome  # which may say more
    with _open(goal, f"trial-{number:03d}", [], parent, number, tags, outcome) as run:
        run.log_params(params)
        run.log_metrics(metrics, step=step)
