"""What a person reads of a study: numbers in words, the table of its trials, the best of them."""

from collections import Counter
from collections.abc import Mapping, Sequence

from sweep.tracking import COPY_TAG, ERROR_TAG, INTERRUPTED, STOPPED_TAG, STUDY_TAG, RunRecord

MOST_ROWS = 50


def in_words(metrics: Mapping[str, float]) -> str:
    """Metrics by name, as in "test/accuracy 98.67%  test/loss 0.0512"."""
    return "  ".join(f"{name} {value_in_words(name, value)}" for name, value in metrics.items())


def value_in_words(metric: str, value: float) -> str:
    """The value of a metric as a person reads it."""
    if metric.endswith("/accuracy"):
        return f"{value:.2%}"
    return f"{value:,.0f}" if metric == "model/parameters" else f"{value:.4f}"


def none_finished(num_trials: int, reasons: Sequence[str]) -> str:
    """What there is to say of a study without a finished trial, with the first of the `reasons`."""
    return f"none of {num_trials} trials finished; the first said: {next(iter(reasons), 'nothing')}"


def counts_in_words(trials: Sequence[RunRecord]) -> str:
    """How many trials there are, and how they ended."""
    counts = Counter("copied" if COPY_TAG in trial.tags else status_in_words(trial) for trial in trials)
    interrupted = counts.pop(INTERRUPTED, 0)
    told = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
    if interrupted:
        told += f"; besides, {interrupted} interrupted"
    return f"{counts.total()} trials, {told}"


def tell(
    study: RunRecord,
    trials: Sequence[RunRecord],
    front: Sequence[RunRecord],
    searched: Sequence[str],
    remarks: Sequence[str],
    where_to_look: Sequence[str],
) -> str:
    """The table of trials, best first, the best one, and what to type next.

    Args:
        study: Its parent run.
        trials: All of its trials.
        front: The best of them, or all on the Pareto front where there are several objectives.
        searched: The keys whose values differ between trials; a column each.
        remarks: What else there is to say of the best.
        where_to_look: Lines that say what to type, or where to go, to see the record.
    """
    name = study.tags[STUDY_TAG]
    lines = [table(trials, study.objectives, study.directions, searched, front), ""]
    lines.append(f"study   {name}: {counts_in_words(trials)}")
    lines += best_lines(study, front)
    lines += [f"        {remark}" for remark in remarks]
    lines += where_to_look
    lines.append(f"fetch   sweep best --study {name}")
    return "\n".join(lines)


def best_lines(study: RunRecord, front: Sequence[RunRecord], searched: Sequence[str] = ()) -> list[str]:
    """The best trial, or the Pareto front, in words, with its settings for the keys `searched`."""

    def line(trial: RunRecord) -> str:
        settings = "".join(f"  {key}={_short(trial.setting(key))}" for key in searched if trial.setting(key))
        metrics = in_words({objective: trial.metrics[objective] for objective in study.objectives})
        return f"trial {trial.trial_number}: {metrics}{settings}"

    if len(study.objectives) == 1:
        return [f"best    {line(front[0])}"]
    return [f"front   {len(front)} trials that no other beats in one objective without losing in another:"] + [
        f"        {line(trial)}" for trial in front
    ]


def ranked(trials: Sequence[RunRecord], objectives: Sequence[str], directions: Sequence[str]) -> list[RunRecord]:
    """`trials`, best first by the first objective, those that have not finished last."""
    sign = 1 if directions[0] == "minimize" else -1
    return sorted(
        trials,
        key=lambda trial: (
            trial.status != "FINISHED",
            sign * trial.metrics.get(objectives[0], 0.0),
            trial.trial_number,
        ),
    )


def table(
    trials: Sequence[RunRecord],
    objectives: Sequence[str],
    directions: Sequence[str],
    searched: Sequence[str],
    front: Sequence[RunRecord] = (),
) -> str:
    """A line for each trial, best first by the first objective, those without a value last; at most MOST_ROWS."""
    on_front = {trial.run_id for trial in front}
    in_order = ranked(trials, objectives, directions)
    several = len(objectives) > 1
    header = ["trial", *objectives, *["front"] * several, *searched, "seconds", "status"]
    rows = [
        [
            str(trial.trial_number),
            *(_value(trial, objective) for objective in objectives),
            *["*" if trial.run_id in on_front else ""] * several,
            *(_short(trial.setting(key)) for key in searched),
            f"{trial.seconds:.1f}",
            status_in_words(trial),
        ]
        for trial in in_order[:MOST_ROWS]
    ]
    lines = aligned([header, *rows])
    if len(in_order) > MOST_ROWS:
        lines.append(f"... and {len(in_order) - MOST_ROWS} more, all in MLflow")
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each of `rows`, each column as wide as its widest cell and flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def status_in_words(trial: RunRecord) -> str:
    """A trial's end: finished, pruned, stopped, interrupted, failed, or whose copy it is; running if it has none."""
    if COPY_TAG in trial.tags:
        return f"as {trial.tags[COPY_TAG]}"
    if trial.status == "KILLED":
        return "pruned" if trial.tags.get(STOPPED_TAG, "").startswith("pruned") else "stopped"
    return INTERRUPTED if trial.tags.get(ERROR_TAG) == INTERRUPTED else trial.status.lower()


def _value(trial: RunRecord, objective: str) -> str:
    if trial.status not in ("FINISHED", "KILLED") or objective not in trial.metrics:
        return "-"
    return value_in_words(objective, trial.metrics[objective])


def _short(param: str) -> str:
    """A recorded setting, numbers to four digits."""
    try:
        return f"{float(param):.4g}"
    except ValueError:
        return param
