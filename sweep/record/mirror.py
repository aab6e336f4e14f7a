"""A study and its trials in MLflow: the runs that are opened for them, and the repair of what a crash has left."""

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
    """The study under whose run a trial is recorded."""

    study: str
    run_id: str | None
    """Id of the study's run, as it travels with the study; None if it does not, and the name must do."""

    def find(self) -> RunRecord:
        """The run of the study.

        Raises:
            SweepError: There is none.
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
    """The parent run of the study called `name`, and connect to the record.

    Args:
        name: Name of the study.
        goal: What it is after.
        folder: Where its files lie.
        overrides: The command line's.
        run_id: The parent run to go on with.
        confirms: Name of the study whose best trials this one trains again.
        is_grid: Whether it tries every combination of listed values.
        shown: The params of a trial that tell what was searched.
        dataset: The data that all its trials are trained on.
        texts: What to keep with the run, by the names of the files.
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
    """The run of a trial called `name`, of the study of `parent` or by itself, and connect to the record."""
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


def settle(goal: Goal, parent: Parent, ended: Mapping[int, Ended]) -> None:
    """See that every trial that has ended has a run in MLflow that has ended in the same way.

    Args:
        goal: What the study is after.
        parent: The study.
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
    """Record a trial that has left no run: a copy of its `twin`, or one of which no more is known than how it ended."""
    tags, params, metrics, step, outcome = _goal_tags(goal), end.params, end.metrics, end.step, end.outcome
    if twin is not None:
        tags, params, metrics, step = {**tags, COPY_TAG: str(twin.trial_number)}, twin.params, twin.metrics, 0
        if twin.outcome is not None and twin.outcome.state == outcome.state:
            outcome = twin.outcome  # which may say more
    with _open(goal, f"trial-{number:03d}", [], parent, number, tags, outcome) as run:
        run.log_params(params)
        run.log_metrics(metrics, step=step)
