"""The studies that there are, newest first.

sweep list
"""

from collections.abc import Sequence
from datetime import datetime

from sweep.arguments import Parser
from sweep.errors import exit_with_one_line
from sweep.record.connect import connect
from sweep.record.runs import RunRecord, studies
from sweep.record.tags import NUM_BEST_TAG, NUM_TRIALS_TAG, STUDY_TAG
from sweep.results.folder import own_folder_of, size_in_words, size_of
from sweep.results.known import job_of
from sweep.results.summary import aligned
from sweep.results.table import table_of
from sweep.study.activity import is_locked

HEADER = ("date", "state", "trials", "best", "size", "study")
"""Names of the columns; the study's name comes last, for it may be long and has to be copied whole."""
STATES = {"interrupted": "stopped"}
"""Words for how a study ended that differ from those of a trial: a stopped one goes on by the same command."""


def main(arguments: list[str] | None = None) -> None:
    """Run the verb `sweep list`."""
    Parser("list", __doc__).parse_args(arguments)
    with exit_with_one_line():
        connect()
        found = studies()
        rows = [row_of(study) for study in found]
    print("\n".join(studies_in_words(rows)) if rows else "no study yet")


def row_of(study: RunRecord) -> list[str]:
    """Return the cells of a study's row, as named in HEADER.

    A concluded study has its number of trials and its best values in its record; for another one its trials are asked
    for.
    """
    folder = own_folder_of(study)
    num_trials, best = study.whole_number(NUM_TRIALS_TAG, -1), _best_recorded(study)
    state: str = study.outcome.state if study.outcome else "running"
    if state == "running" and folder is not None and not is_locked(folder):
        state = "killed"
    if state in ("running", "killed") or num_trials < 0:
        table = table_of(study, dimensions={})
        num_trials, best = len(table.rows), "-"
        if table.front:
            best = table.metric.in_words(table.best.values[table.objective])
            best = best if len(table.objectives) == 1 else _front_in_words(len(table.front))
    return [
        _date_in_words(datetime.fromtimestamp(study.started)),
        STATES.get(state, state),
        str(num_trials),
        best,
        "-" if folder is None else size_in_words(size_of(folder)),
        study.tags[STUDY_TAG],
    ]


def _date_in_words(date: datetime) -> str:
    """Return a date as ls does: month and day with the time, or with the year if that is another one."""
    return f"{date:%b %d}" if date.year == datetime.now().year else f"{date:%b %Y}"


def _best_recorded(study: RunRecord) -> str:
    (objective, *others) = study.objectives
    if others:
        return _front_in_words(study.whole_number(NUM_BEST_TAG, 0))
    return job_of(study).metric(objective).in_words(study.metrics[objective]) if objective in study.metrics else "-"


def _front_in_words(size: int) -> str:
    return f"front {size}"


def studies_in_words(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of the table, with all columns but the last flush right."""
    left = aligned([HEADER[:-1], *(row[:-1] for row in rows)])
    names = [HEADER[-1], *(row[-1] for row in rows)]
    return [f"{line}  {name}" for line, name in zip(left, names, strict=True)]
