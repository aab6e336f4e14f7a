"""What a study's report says, gathered from its record in MLflow.

MLflow is asked a number of questions that does not grow with the trials: for their runs in large pages, for the curves
of the best MOST_CURVES, and for how the best `trust.MOST_CANDIDATES` did on each example.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf

from sweep.errors import SweepError
from sweep.hooks import Section
from sweep.job import Job
from sweep.record.files import read_text
from sweep.record.runs import RunRecord, curve_of
from sweep.results import trust
from sweep.results.known import KeptRun
from sweep.results.settings import recorded_settings, settings_again
from sweep.results.table import Curve, StudyTable, table_of
from sweep.study.dimensions import edge_of
from sweep.study.space import LENGTH
from sweep.trial import CONFIG_FILE

MOST_CURVES = 100
"""The trials whose learning curves are shown, best first; more would not be told apart."""
CONFIRMATION_FILE = "confirmation.txt"


class Findings(NamedTuple):
    """A study as its report tells it."""

    table: StudyTable
    curves: Mapping[int, Curve]
    """The objective's values by step, of the trials whose numbers are given."""
    remarks: Sequence[str]
    """How far the best value can be trusted, and where the best trial is at the edge of the space."""
    sections: Sequence[Section]
    """What the job adds for the best trial."""
    confirmation: str | None
    """What fresh seeds said of the best trials, None if they have not been tried."""
    composed: str | None
    """The composed config as YAML."""


def gather(study: RunRecord) -> Findings:
    """What there is to say of `study`, from MLflow alone.

    Raises:
        SweepError: No trial has finished, or what was recorded is damaged or missing.
    """
    return gather_for(table_of(study))


def gather_for(table: StudyTable) -> Findings:
    """What there is to say of the study whose `table` is made already.

    Raises:
        SweepError: No trial has finished, or what was recorded is damaged.
    """
    best = table.best
    remarks = trust.in_words(trust.judge(table))
    if len(table.objectives) == 1:
        remarks += _edges(table)
    sections: list[Section] = []
    is_shown = len(table.objectives) == 1 and trust.is_shown(table, next(iter(table.job.metrics), table.objective))
    if table.job.sections is not None and is_shown:
        with KeptRun(best.run) as kept:
            sections = list(table.job.sections(kept))
    in_order = sorted(table.scored, key=table.ranked.index)[:MOST_CURVES]
    return Findings(
        table,
        curves={row.number: curve_of(row.run, table.objective) for row in in_order},
        remarks=remarks,
        sections=sections,
        confirmation=read_text(table.study, CONFIRMATION_FILE),
        composed=read_text(table.study, CONFIG_FILE),
    )


def _edges(table: StudyTable) -> list[str]:
    """Where the best trial lies at the edge of what was searched, and the job can be trained beyond."""
    if recorded_settings(table.best.run) is None:
        return []
    try:
        settings = settings_again(table.best.run, table.job)
    except SweepError:  # they name code, say: then the job is not asked
        return []
    found = {
        key: edge
        for key, dimension in table.dimensions.items()
        if key != table.job.seed and (edge := edge_of(dimension, table.best.settings.get(key)))
    }
    return [
        f"{key}={edge.value:.4g} is at the {edge.side} end of what was searched, {edge.low:.4g} to "
        f"{edge.high:.4g}: a better one may lie beyond"
        for key, edge in found.items()
        if _is_allowed(table.job, settings, key, edge.beyond)
    ]


def _is_allowed(job: Job, settings: DictConfig, key: str, value: float) -> bool:
    """Whether the job could be trained with another `value`: a dropout below 0 could not."""
    key = key.lstrip("+")
    try:
        settings = settings.copy()
        if key.endswith(LENGTH):
            key = key.removesuffix(LENGTH)
            items = list(OmegaConf.select(settings, key))
            OmegaConf.update(settings, key, (items + items[-1:])[: int(value)])
        else:
            OmegaConf.update(settings, key, value)
        job.check(settings)
    except Exception:  # whatever a job raises of settings that it does not take
        return False
    return True
