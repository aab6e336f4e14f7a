"""The findings of a study, gathered from its record in MLflow for its report.

The number of questions to MLflow does not grow with the trials: it is asked for their runs in large pages, for the
curves of the best MOST_CURVES, and for the scores by example of the best `trust.MOST_CANDIDATES`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf

from sweep.description import Description
from sweep.errors import SweepError
from sweep.hooks import Section
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
"""Most trials whose learning curves are shown, best first; more could not be told apart."""
CONFIRMATION_FILE = "confirmation.txt"


class Findings(NamedTuple):
    """The contents of a study's report."""

    table: StudyTable
    curves: Mapping[int, Curve]
    """The objective's values by step, by the number of the trial."""
    remarks: Sequence[str]
    """Sentences on how far to trust the best value, and on settings at the edge of the search space."""
    sections: Sequence[Section]
    """Sections that the job adds for the best trial."""
    confirmation: str | None
    """The text of the study's confirmation with fresh seeds, None if there is none."""
    composed: str | None
    """The composed config as YAML."""


def gather(study: RunRecord) -> Findings:
    """Return the findings of `study`, from MLflow alone.

    Raises:
        SweepError: No trial has finished, or what was recorded is damaged or missing.
    """
    return gather_for(table_of(study))


def gather_for(table: StudyTable) -> Findings:
    """Return the findings of the study with this `table`.

    Raises:
        SweepError: No trial has finished, or what was recorded is damaged.
    """
    best = table.best
    remarks = trust.trust_in_words(trust.judge_best(table))
    if len(table.objectives) == 1:
        remarks += _edges(table)
    sections: list[Section] = []
    is_shown = len(table.objectives) == 1 and trust.is_shown(table, next(iter(table.job.metrics), table.objective))
    if table.job.sections is not None and is_shown:
        with KeptRun(best.run) as kept:
            sections = list(table.job.sections(kept))
    scored = {row.number for row in table.scored}
    in_order = [row for row in table.ranked if row.number in scored][:MOST_CURVES]
    return Findings(
        table,
        curves={row.number: curve_of(row.run, table.objective) for row in in_order},
        remarks=remarks,
        sections=sections,
        confirmation=read_text(table.study, CONFIRMATION_FILE),
        composed=read_text(table.study, CONFIG_FILE),
    )


def _edges(table: StudyTable) -> list[str]:
    """Return a sentence for each setting of the best trial at an edge of the space, if jobs beyond are allowed."""
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


def _is_allowed(job: Description, settings: DictConfig, key: str, value: float) -> bool:
    """Return whether the job could be trained with another `value`: a dropout below 0 could not."""
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
