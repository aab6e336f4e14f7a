"""The comparison of a run with its repetition: whether both are the same bit for bit, and why they may differ."""

from collections.abc import Mapping
from typing import NamedTuple

from sweep.description import Description
from sweep.record.runs import RunRecord, history_of
from sweep.record.tags import COMMIT_TAG, DIRTY_TAG
from sweep.results.known import KeptRun

FINISHED = "finished"

MetricHistory = Mapping[str, Mapping[int, float]]
"""The values of metrics by name and step."""


class MetricDifference(NamedTuple):
    """The step at which the values of a metric differ most."""

    metric: str
    step: int
    then: float | None
    """Value in the first run, None if it has none at this step."""
    now: float | None
    """Value in the repetition, None if it has none at this step."""


class Repetition(NamedTuple):
    """The comparison of a run with its repetition."""

    ended_then: str
    """FINISHED, or the reason that the run gave at its end."""
    ended_now: str
    """FINISHED, or the reason that the repetition gave at its end."""
    num_steps: int
    num_metrics: int
    metrics: list[MetricDifference]
    """The metrics that are not the same after every step."""
    kept: list[str] | None
    """Lines on how the kept files differ, empty if they are the same; None if they were not compared."""

    @property
    def is_same(self) -> bool:
        """Whether there is no difference at all."""
        return self.ended_then == self.ended_now and not self.metrics and not self.kept


def ending_of(run: RunRecord) -> str:
    """Return FINISHED, or the reason that `run` gave at its end."""
    return FINISHED if run.outcome is None or run.outcome.state == "finished" else run.outcome.reason


def compare_runs(then: RunRecord, now: RunRecord, ended: str, job: Description) -> Repetition:
    """Compare two runs by every metric after every step, and by their files.

    Args:
        then: A run that has ended.
        now: The run that repeats it.
        ended: FINISHED, or the reason that `now` gave at its end.
        job: Description of their job, which compares the kept files if both runs have finished.
    """
    measured = [_measured(run, job) for run in (then, now)]
    kept = None
    if job.differences is not None and ending_of(then) == ended == FINISHED:
        with KeptRun(then) as kept_then, KeptRun(now) as kept_now:
            kept = job.differences(kept_then, kept_now)
    return Repetition(
        ended_then=ending_of(then),
        ended_now=ended,
        num_steps=len({step for history in measured[0].values() for step in history}),
        num_metrics=len(measured[0]),
        metrics=differing_metrics(*measured),
        kept=kept,
    )


def _measured(run: RunRecord, job: Description) -> dict[str, dict[int, float]]:
    """Return the metrics of `run` by step.

    Constant metrics, which earlier versions recorded at each step, have their first value only.
    """
    return {
        name: dict(sorted(values.items())[:1]) if job.metric(name).is_constant else values
        for name, values in history_of(run).items()
    }


def differing_metrics(then: MetricHistory, now: MetricHistory) -> list[MetricDifference]:
    """Return, for each metric that is not the same after every step, the step at which it differs most."""
    found = []
    for metric in sorted({*then, *now}):
        a, b = then.get(metric, {}), now.get(metric, {})
        differing = [step for step in sorted({*a, *b}) if a.get(step) != b.get(step)]
        if differing:
            missing = [step for step in differing if step not in a or step not in b]
            worst = missing[0] if missing else max(differing, key=lambda step: abs(a[step] - b[step]))
            found.append(MetricDifference(metric, worst, a.get(worst), b.get(worst)))
    return found


def why(then: RunRecord, now: RunRecord, job: Description) -> list[str]:
    """Return sentences on what may make two runs of the same settings differ, from both records."""
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


def repetition_in_words(compared: Repetition, reasons: list[str], step: str) -> str:
    """Return a comparison as text for a person, with the `reasons` only if there is a difference.

    Args:
        compared: The comparison of the two runs.
        reasons: Sentences on why they may differ.
        step: The job's word for a step.
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
    told = f"{_counted(compared.num_metrics, 'metric')} in {_counted(compared.num_steps, step)}"
    if compared.ended_then != FINISHED:
        return f"{told}; nothing else, since the run did not finish: {compared.ended_then}"
    return told if compared.kept is None else f"{told}, and what was kept"


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.9g}"
