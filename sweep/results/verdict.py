"""The verdict of a confirmation: which settings have the best mean over fresh seeds, and which differ."""

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sweep.errors import SweepError
from sweep.record.runs import RunRecord
from sweep.results import summary, trust
from sweep.results.table import StudyTable, TrialRow
from sweep.results.uncertainty import Comparison, compare_means, interval, interval_of_mean, selection_bias

SETTINGS = "settings"
"""Key with the settings that a trial of a confirmation uses: the name of the trial that found them."""


class Candidate(NamedTuple):
    """Settings that were trained again."""

    name: str
    """Name of the trial that found them."""
    found: float
    """Value of the objective in the trial that found the settings."""
    values: list[float]
    """Value of the objective with each fresh seed."""
    runs: list[RunRecord]
    """Run of each fresh seed."""

    @property
    def mean(self) -> float:
        """Mean of the objective over the seeds."""
        return statistics.mean(self.values)

    @property
    def spread(self) -> float:
        """Standard deviation of the objective over the seeds."""
        return statistics.stdev(self.values)


class Verdict(NamedTuple):
    """The result of training the candidates with fresh seeds."""

    candidates: list[Candidate]
    """The candidates, the best mean first."""
    comparisons: list[Comparison]
    """The comparison of each two candidates, by their names."""
    num_seeds: int
    """How many seeds each candidate was to be trained with; some runs may have failed, or not have run yet."""

    @property
    def winner(self) -> Candidate:
        """The candidate with the best mean."""
        return self.candidates[0]

    def differ(self, one: str, other: str) -> bool:
        """Return whether the means of these two candidates can be told apart."""
        return any({one, other} == {pair.one, pair.other} and pair.differ for pair in self.comparisons)


def name_of(row: TrialRow) -> str:
    """Return the name of a trial's settings, whatever its run is called by now."""
    return f"trial-{row.number:03d}"


def judge_candidates(
    table: StudyTable, chosen: Sequence[TrialRow], trials: Sequence[RunRecord], num_seeds: int
) -> Verdict:
    """Return the verdict of `trials`, which trained the `chosen` trials of `table` with `num_seeds` seeds.

    Raises:
        SweepError: Not every one of them has finished with two seeds or more.
    """
    objective = table.objective
    candidates = []
    for one in chosen:
        again = [run for run in trials if run.overrides.get(SETTINGS) == name_of(one)]
        runs = [run for run in again if run.status == "FINISHED" and objective in run.metrics]
        runs.sort(key=lambda run: _as_number(run.params.get(table.job.seed or "", "")))
        if len(runs) < 2:
            raise SweepError(
                f"study={table.study.name}: {name_of(one)} has finished with {len(runs)} fresh seeds, which tells "
                "nothing yet; what was stopped goes on with the same command, what failed says why in MLflow"
            )
        values = [run.metrics[objective] for run in runs]
        candidates.append(Candidate(name_of(one), one.values[objective], values, runs))
    sign = 1 if table.direction == "minimize" else -1
    candidates.sort(key=lambda candidate: sign * candidate.mean)
    comparisons = compare_means({candidate.name: candidate.values for candidate in candidates})
    return Verdict(candidates, comparisons, num_seeds)


def _as_number(seed: str) -> int:
    return int(seed) if seed.isdecimal() else 0


def verdict_in_words(table: StudyTable, verdict: Verdict) -> str:
    """Return the candidates, which of them differ, the winner and how good it is, as text."""
    objective, winner = table.objective, verdict.winner
    middle = sorted(winner.runs, key=lambda run: run.metrics[objective])[len(winner.runs) // 2]
    lines = _candidates_in_words(table, verdict)
    lines += [f"        {line}" for line in _trust_in_words(table, verdict)]
    lines.append(f"fetch   sweep best --run {middle.run_id}    (the middle one of its seeds)")
    return "\n".join(lines)


def _candidates_in_words(table: StudyTable, verdict: Verdict) -> list[str]:
    objective, winner, in_words = table.objective, verdict.winner, table.metric.in_words
    header = ["", f"mean {objective}", "spread", "as found", "with each seed"]
    rows = [
        [
            one.name,
            in_words(one.mean),
            trust.points(table.metric, one.spread),
            in_words(one.found),
            "  ".join(map(in_words, one.values)),
        ]
        for one in verdict.candidates
    ]
    lines = [*summary.fitted(header, rows, spare=[4]), ""]
    lines.append(f"winner  {winner.name}: {objective} {rows[0][1]}, the mean of {len(winner.values)} fresh seeds")
    lacking = [one for one in verdict.candidates if len(one.values) < verdict.num_seeds]
    if lacking:
        seeds = ", ".join(f"{one.name} with {len(one.values)}" for one in lacking)
        lines.append(f"        of {verdict.num_seeds} seeds not all have finished: {seeds}")
    others = [one.name for one in verdict.candidates[1:]]
    same = [name for name in others if not verdict.differ(winner.name, name)]
    worse = [name for name in others if name not in same]
    if same:
        lines.append(
            f"        cannot be told apart from {', '.join(same)} by so few seeds; take the one that suits you"
        )
    if worse:
        lines.append(f"        better than {', '.join(worse)} (Tukey's test over all pairs, 95%)")
    told_apart = [f"{a.name} from {b}" for a, b in _other_pairs(verdict) if verdict.differ(a.name, b)]
    if told_apart:
        lines.append(f"        besides, {', '.join(told_apart)} can be told apart")
    return lines


def _other_pairs(verdict: Verdict) -> Iterable[tuple[Candidate, str]]:
    others = verdict.candidates[1:]
    return ((one, other.name) for i, one in enumerate(others) for other in others[i + 1 :])


def _trust_in_words(table: StudyTable, verdict: Verdict) -> list[str]:
    """Return how far to trust the winner's mean of the job's first metric, with its selection bias."""
    name = next(iter(table.job.metrics), table.objective)
    metric, chose = table.job.metric(name), name == table.objective
    scores = [_mean_scores(table, one, name) for one in (verdict.candidates if chose else [verdict.winner])]
    own = scores[0]
    if own is None:
        return []
    mean = float(own.mean())
    low, high = interval(mean, len(own)) if metric.is_share else interval_of_mean(own)
    told = [metric.in_words(value) for value in (mean, low, high)]
    lines = [f"{name} {told[0]}: 95% interval {told[1]} to {told[2]}, {len(own):,} examples"]
    known = [one for one in scores if one is not None]
    if 1 < len(known) == len(scores):
        bias = trust.points(metric, selection_bias(np.stack(known), table.direction))
        lines.append(f"picked from {len(known)} means by these same examples: expected selection bias {bias}")
    return lines


def _mean_scores(table: StudyTable, candidate: Candidate, metric: str) -> NDArray[np.float64] | None:
    """Return the mean score of each example over the seeds, (N,); None where scores were not kept."""
    found = [trust.scores_by_example(table, run, metric) for run in candidate.runs]
    known = [one for one in found if one is not None]
    is_whole = len(known) == len(found) and len({(one.examples, len(one.scores)) for one in known}) == 1
    return np.mean([np.asarray(one.scores, dtype=np.float64) for one in known], axis=0) if is_whole else None
