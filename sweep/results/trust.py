"""How far to trust the best value of a study, from the scores of its trials on each example."""

import math
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from sweep.description import Metric
from sweep.errors import SweepError
from sweep.hooks import PerExample
from sweep.record.runs import RunRecord, naming
from sweep.results.known import KeptRun
from sweep.results.table import StudyTable, TrialRow
from sweep.results.uncertainty import interval, interval_of_mean, selection_bias

MOST_CANDIDATES = 100
"""The finished trials that are compared example by example, the best ones.

Those further down seldom win a resample: of 500 simulated models of equal quality, the other 400 add 3% to
the selection bias; beyond the best 50 it would be 10%.
"""

SAME = 1e-4
"""How far the mean of the scores may be from the recorded metric, which was summed in another order."""


class Trust(NamedTuple):
    """A metric of the best trial, with its interval and selection bias."""

    name: str
    """Name of the metric."""
    metric: Metric
    value: float
    low: float
    """Lower end of the value's 95% interval."""
    high: float
    """Upper end of the value's 95% interval."""
    num_examples: int
    """Number of examples that the metric was measured on."""
    num_candidates: int
    """Number of trials that the best was chosen from by these examples; 0 if they had no part in the choice."""
    selection_bias: float | None = None
    """Expected optimism of the value because the best was chosen by it; None if that is not known."""
    num_compared: int = 0
    """Number of candidates that the selection bias was estimated from."""
    num_finished: int = 0
    """Number of candidates that have finished; the others were pruned."""


def is_shown(table: StudyTable, metric: str) -> bool:
    """Return whether the best trial's value of `metric` may be shown.

    Where the seed is searched, the mean over the seeds decides, see `sweep confirm`. If the objective is not measured
    on the examples of the job's first metric, those are held back until the end, or a person would choose a seed by
    them. The part of a metric's name before the / says which examples it is measured on.
    """
    kept_for_winner = _examples_of(next(iter(table.job.metrics), table.objective))
    if table.job.seed not in table.dimensions or kept_for_winner == _examples_of(table.objective):
        return True
    return _examples_of(metric) != kept_for_winner


def _examples_of(metric: str) -> str:
    return metric.partition("/")[0]


def judge_best(table: StudyTable) -> list[Trust]:
    """Return how far to trust each shown value of the best trial.

    Those are the objective, shares that were measured on the same examples, and the job's first metric, if it may be
    shown. Empty where there are several objectives, or no trial has kept its scores by example.
    """
    if len(table.objectives) > 1 or table.job.per_example is None:
        return []
    return [found for metric in _metrics(table) if (found := _judge(table, metric)) is not None]


def _metrics(table: StudyTable) -> Iterator[str]:
    yield table.objective
    for name, metric in table.job.metrics.items():
        is_first = name == next(iter(table.job.metrics))
        is_beside = metric.is_share and _examples_of(name) == _examples_of(table.objective)
        if name != table.objective and (is_beside or (is_first and is_shown(table, name))):
            yield name


def _judge(table: StudyTable, name: str) -> Trust | None:
    best, metric = table.best, table.job.metric(name)
    own = scores_by_example(table, best.run, name)
    if own is None:
        return None
    scores = np.asarray(own.scores, dtype=np.float64)
    value = float(scores.mean())
    low, high = interval(value, len(scores)) if metric.is_share else interval_of_mean(scores)
    told = Trust(name, metric, value, low, high, len(scores), num_candidates=0)
    if _examples_of(name) != _examples_of(table.objective):
        return told
    finished = [row for row in table.ranked if row.is_candidate]
    told = told._replace(num_candidates=len(table.scored), num_finished=len(finished))
    if name != table.objective:  # it was not picked by this metric
        return told
    compared = [best, *(row for row in finished if row.number != best.number)][:MOST_CANDIDATES]
    known = [own, *_of_others(table, compared[1:], own, name)]
    if len(known) < len(compared):
        return told
    bias = selection_bias(np.stack([np.asarray(one.scores, dtype=np.float64) for one in known]), table.direction)
    return told._replace(selection_bias=bias, num_compared=len(known))


def _of_others(table: StudyTable, rows: Sequence[TrialRow], own: PerExample, name: str) -> Iterator[PerExample]:
    """Yield the scores of `rows` on the same examples, up to the first trial measured on others."""
    for row in rows:
        found = scores_by_example(table, row.run, name) if row.run.digest == table.best.run.digest else None
        if found is None or found.examples != own.examples or len(found.scores) != len(own.scores):
            return
        yield found


def scores_by_example(table: StudyTable, run: RunRecord, metric: str) -> PerExample | None:
    """Return how the model of `run` did on each example, None if that was not kept or is damaged."""
    if table.job.per_example is None:
        return None
    try:
        with KeptRun(run) as kept, naming(run):
            found = table.job.per_example(kept, metric)
            if found is None or not len(found.scores):
                return None
            mean, recorded = float(np.mean(found.scores)), run.metrics.get(metric, math.nan)
            if not math.isclose(mean, recorded, rel_tol=SAME, abs_tol=SAME):
                raise SweepError(
                    f"its scores by example have a mean of {mean:.6g}, recorded is {metric} {recorded:.6g}"
                )
    except SweepError as error:
        print(f"note: {error}; left out", file=sys.stderr)
        return None
    return found


def trust_in_words(judged: Sequence[Trust]) -> list[str]:
    """Return a line or two for each value."""
    lines = []
    for trust in judged:
        value, low, high = map(trust.metric.in_words, (trust.value, trust.low, trust.high))
        lines.append(f"{trust.name} {value}: 95% interval {low} to {high}, {trust.num_examples:,} examples")
        if trust.num_candidates > 1:
            lines.append(f"picked from {trust.num_candidates} trials by these same examples: {_bias_in_words(trust)}")
        elif trust.num_candidates == 0:
            lines.append("these examples had no part in the choice")
    return lines


def _bias_in_words(trust: Trust) -> str:
    if trust.selection_bias is None:
        return "its selection bias cannot be told"
    told = f"expected selection bias {points(trust.metric, trust.selection_bias)}"
    if trust.num_compared < trust.num_finished:
        return f"{told} (by the best {trust.num_compared} of the {trust.num_finished} that finished)"
    if trust.num_compared < trust.num_candidates:
        return f"{told} (by the {trust.num_compared} that finished)"
    return told


def points(metric: Metric, difference: float) -> str:
    """Return a difference between two values of `metric` as text: "0.07 points" of percent, or a number."""
    return f"{100 * difference:.2f} points" if metric.is_share else metric.in_words(difference)
