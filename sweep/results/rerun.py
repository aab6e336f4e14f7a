"""Train a logged run again from what was recorded, and say whether the result is the same.

sweep rerun RUN_ID    exit status 0 if it is the same bit for bit, 1 if it is not

The new run stands beside the old one in MLflow, as rerun-of-NAME. It belongs to no study. It is trained by the job
that the project names in its pyproject.toml.
"""

import contextlib
import logging
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from sweep.arguments import Parser
from sweep.errors import Stopped, SweepError, in_one_line, told_in_one_line
from sweep.job import Goal, Job, Task
from sweep.record.connect import connect
from sweep.record.lifecycle import open_run
from sweep.record.runs import RunRecord, experiment_of, find_run, history_of, naming, trials_of
from sweep.record.tags import (
    COMMIT_TAG,
    COPY_TAG,
    DIRECTION_TAG,
    DIRTY_TAG,
    KIND_TAG,
    OBJECTIVE_TAG,
    OVERRIDES_TAG,
    PARENT_TAG,
    RERUN_TAG,
)
from sweep.results.known import KeptRun, own_job
from sweep.results.settings import settings_again
from sweep.running import carry_out
from sweep.trial import Trial

FINISHED = "finished"

History = Mapping[str, Mapping[int, float]]
"""The values of metrics by their names and steps."""


class MetricDifference(NamedTuple):
    """Where the values of a metric are furthest apart."""

    metric: str
    step: int
    then: float | None
    """None where there was no value."""
    now: float | None


class Repetition(NamedTuple):
    """What a run and its repetition came to."""

    ended_then: str
    """FINISHED, or what the run said at its end."""
    ended_now: str
    num_steps: int
    num_metrics: int
    metrics: list[MetricDifference]
    """Those of the metrics that are not the same after every step."""
    kept: list[str] | None
    """How what they have kept differs, empty if it is the same; None if that was not compared."""

    @property
    def is_same(self) -> bool:
        """Whether there is no difference at all."""
        return self.ended_then == self.ended_now and not self.metrics and not self.kept


class RepeatedTrial(Trial):
    """A trial that is stopped where the run that it repeats was: after all that this reported after its last step."""

    def __init__(self, *given: Any, last_step: int, names: Collection[str]) -> None:
        super().__init__(*given)
        self._last_step = last_step
        self._missing = set(names)

    def report(self, step: int, metrics: Mapping[str, float], *, of: int | None = None) -> None:
        """Record `metrics` after `step`, and end the trial if the run that it repeats was ended there."""
        stopped = f"stopped, as the run that it repeats was, after {self.job.step} {self._last_step}"
        if step > self._last_step:
            raise Stopped(stopped)
        super().report(step, metrics, of=of)
        if step == self._last_step:
            self._missing -= metrics.keys()
            if not self._missing and step != of:
                raise Stopped(stopped)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = Parser("rerun", __doc__)
    parser.add_argument("run", metavar="RUN_ID", help="the run's id, as MLflow's pages show it")
    parser.add_argument(
        "--trust", action="store_true", help="take recorded settings that name code (_target_), and have the job run it"
    )
    options = parser.parse_args(arguments)
    _show_steps()
    with told_in_one_line():  # after Ctrl-C MLflow has the new run as FAILED, interrupted
        connect()
        run = find_run(options.run)
        require_trained(run)
        task, job = own_job(run)
        with tempfile.TemporaryDirectory(prefix="rerun-") as folder:
            again, compared = rerun(run, task, job, Path(folder), trust=options.trust)
        reasons = [] if compared.is_same else why(run, again, job)
    print(f"\n{tell(compared, reasons, job.step)}\nrecorded as {again.name} ({again.run_id})")
    sys.exit(0 if compared.is_same else 1)


def _show_steps() -> None:
    """Print what a trial says, as a single run does, and not what libraries say."""
    logger = logging.getLogger("sweep")
    logger.handlers = [logging.StreamHandler(sys.stdout)]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def require_trained(run: RunRecord) -> None:
    """Raise a SweepError unless `run` is one of a training that has ended."""
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


def rerun(run: RunRecord, task: Task, job: Job, folder: Path, trust: bool = False) -> tuple[RunRecord, Repetition]:
    """Train `run` again, record that beside it, and compare the two.

    A run that was stopped is trained up to the step it reached; one that failed, until it fails again.

    Args:
        run: One that `require_trained` lets pass.
        task: The function of its job.
        job: What that says about itself; how it is trained again, with what was left to the machine, is its part.
        folder: For files that are needed only meanwhile.
        trust: Whether recorded settings may name code.

    Returns:
        The new run, and how it compares.

    Raises:
        SweepError: It was recorded without what is needed to train it again, or cannot be trained here.
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
    return again, compare(run, again, ended, job)


def _require_same_data(run: RunRecord, job: Job, settings: DictConfig) -> None:
    dataset = job.dataset(settings)
    if dataset is not None and dataset.digest != run.digest:
        raise SweepError(
            f"run={run.run_id}: {run.name}: {dataset.name} is not the same here as it was trained on (digest "
            f"{dataset.digest}, recorded {run.digest or 'none'}); have the job find the data that it was"
        )


def _was_stopped(run: RunRecord) -> bool:
    return run.outcome is not None and run.outcome.state in ("pruned", "stopped", "interrupted")


def _ending(run: RunRecord) -> str:
    return FINISHED if run.outcome is None or run.outcome.state == "finished" else run.outcome.reason


def _train(run: RunRecord, task: Task, settings: DictConfig, trial: Trial) -> tuple[RunRecord, str]:
    """The new run, and how it ended: FINISHED, or what it said; as `run` where it got as far as that was stopped."""
    tags = {
        KIND_TAG: "rerun",  # not "trial": what looks for the best run must not meet this one twice
        RERUN_TAG: run.run_id,
    }
    tags |= {key: run.tags[key] for key in (OBJECTIVE_TAG, DIRECTION_TAG, OVERRIDES_TAG) if key in run.tags}
    ended = _ending(run) if _was_stopped(run) else FINISHED
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


def compare(then: RunRecord, now: RunRecord, ended: str, job: Job) -> Repetition:
    """Every metric after every step, and what was kept, of two runs.

    Args:
        then: A run that has ended.
        now: The run that repeats it.
        ended: How that one ended.
        job: Their job, which compares what they have kept if both have finished.
    """
    measured = [_measured(run, job) for run in (then, now)]
    kept = None
    if job.differences is not None and _ending(then) == ended == FINISHED:
        with KeptRun(then) as kept_then, KeptRun(now) as kept_now:
            kept = job.differences(kept_then, kept_now)
    return Repetition(
        ended_then=_ending(then),
        ended_now=ended,
        num_steps=len({step for history in measured[0].values() for step in history}),
        num_metrics=len(measured[0]),
        metrics=differing_metrics(*measured),
        kept=kept,
    )


def _measured(run: RunRecord, job: Job) -> dict[str, dict[int, float]]:
    """The metrics of `run` by step; of what stays the same, which versions before recorded at each, the first value."""
    return {
        name: dict(sorted(values.items())[:1]) if job.metric(name).is_constant else values
        for name, values in history_of(run).items()
    }


def differing_metrics(then: History, now: History) -> list[MetricDifference]:
    """Of each metric that is not the same after every step, the step after which it differs most."""
    found = []
    for metric in sorted({*then, *now}):
        a, b = then.get(metric, {}), now.get(metric, {})
        differing = [step for step in sorted({*a, *b}) if a.get(step) != b.get(step)]
        if differing:
            missing = [step for step in differing if step not in a or step not in b]
            worst = missing[0] if missing else max(differing, key=lambda step: abs(a[step] - b[step]))
            found.append(MetricDifference(metric, worst, a.get(worst), b.get(worst)))
    return found


def why(then: RunRecord, now: RunRecord, job: Job) -> list[str]:
    """What may make two runs of the same settings differ, from what is recorded of both."""
    reasons, unknown = [], []
    for key, what in {COMMIT_TAG: "the code", **job.circumstances}.items():
        a, b = (run.tags.get(key) for run in (then, now))
        if a is None:
            unknown.append(what)
        elif a != b:
            reasons.append(f"{what}: {a} then, {b} now")
    if unknown:
        reasons.append(f"{', '.join(unknown)}: not recorded then")
    for when, run in {"then": then, "now": now}.items():
        if run.tags.get(DIRTY_TAG) == "true":
            reasons.append(f"the code: some files were not as committed {when}, and may have mattered")
    if job.nondeterminism is not None:
        with KeptRun(now) as kept:
            reasons += job.nondeterminism(kept)
    alike = ", ".join(["the code", *job.circumstances.values()])
    return reasons or [f"nothing that is recorded: the same of {alike}; is the record intact?"]


def tell(compared: Repetition, reasons: list[str], step: str) -> str:
    """What a person reads of a comparison; the `reasons` only where there is a difference.

    Args:
        compared: What the two came to.
        reasons: Why they may differ.
        step: What a step is called.
    """
    if compared.is_same:
        return f"the same, bit for bit: {_what_is_same(compared, step)}"
    lines = ["not the same"]
    if compared.ended_then != compared.ended_now:
        lines += [f"  then  {compared.ended_then}", f"  now   {compared.ended_now}"]
    for one in compared.metrics:
        lines.append(f"  {one.metric}: {_number(one.then)} then, {_number(one.now)} now, after {step} {one.step}")
    lines += [f"  {line}" for line in compared.kept or []]
    return "\n".join([*lines, "it may be because of", *(f"  {reason}" for reason in reasons)])


def _what_is_same(compared: Repetition, step: str) -> str:
    if not compared.num_steps:
        return f"it ended before its first {step} did, with {compared.ended_then}"
    told = f"{compared.num_metrics} metrics in {compared.num_steps} {step}{'s' * (compared.num_steps != 1)}"
    if compared.ended_then != FINISHED:
        return f"{told}; nothing else, since the run did not finish: {compared.ended_then}"
    return told if compared.kept is None else f"{told}, and what was kept"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.9g}"
