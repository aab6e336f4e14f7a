"""What a person reads when a study has ended."""

from collections.abc import Sequence

from sweep.tracking import DIRECTION_TAG, OBJECTIVE_TAG, STUDY_TAG, RunRecord

MOST_ROWS = 50


def tell(
    study: RunRecord, trials: Sequence[RunRecord], best: RunRecord, searched: Sequence[str], where_to_look: str
) -> str:
    """The table of trials, best first, the best one, and what to type next.

    Args:
        study: Its parent run.
        trials: All of its trials.
        best: The best of them.
        searched: The keys whose values differ between trials; a column each.
        where_to_look: What to type, or where to go, to see the record.
    """
    objective, name = study.tags[OBJECTIVE_TAG], study.tags[STUDY_TAG]
    counts = ", ".join(
        f"{sum(trial.status == status for trial in trials)} {status.lower()}"
        for status in sorted({trial.status for trial in trials})
    )
    lines = [table(trials, objective, study.tags[DIRECTION_TAG], searched), ""]
    lines.append(f"study   {name}: {len(trials)} trials, {counts}")
    lines.append(f"best    trial {best.trial_number}: {objective} {_value(best, objective)}")
    if objective.startswith("test/") and len(trials) > 1:
        lines.append(f"        picked from {len(trials)} by the test set itself, so a little flattered")
    lines.append(f"look    {where_to_look}")
    lines.append(f"fetch   python sweep/best.py --study {name}")
    return "\n".join(lines)


def table(trials: Sequence[RunRecord], objective: str, direction: str, searched: Sequence[str]) -> str:
    """A line for each trial, best first, those without a value last; at most MOST_ROWS."""
    sign = 1 if direction == "minimize" else -1
    ranked = sorted(
        trials,
        key=lambda trial: (
            trial.status != "FINISHED",
            sign * trial.metrics.get(objective, 0.0),
            trial.trial_number,
        ),
    )
    header = ["trial", objective, *searched, "seconds", "status"]
    rows = [
        [
            str(trial.trial_number),
            _value(trial, objective),
            *(_short(trial.setting(key)) for key in searched),
            f"{trial.seconds:.1f}",
            trial.status.lower(),
        ]
        for trial in ranked[:MOST_ROWS]
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    if len(ranked) > MOST_ROWS:
        lines.append(f"... and {len(ranked) - MOST_ROWS} more, all in MLflow")
    return "\n".join(lines)


def _value(trial: RunRecord, objective: str) -> str:
    if trial.status != "FINISHED" or objective not in trial.metrics:
        return "-"
    value = trial.metrics[objective]
    return f"{value:.2%}" if objective.endswith("/accuracy") else f"{value:.4f}"


def _short(param: str) -> str:
    """A recorded setting, numbers to four digits."""
    try:
        return f"{float(param):.4g}"
    except ValueError:
        return param
