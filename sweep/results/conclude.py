"""The conclusion of a study: its best trials in its record, its report, and the table for a person."""

import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import BaseDistribution

from sweep.description import Description
from sweep.errors import SweepError, explain, in_one_line, without_password
from sweep.record.run import Run
from sweep.record.runs import find_run
from sweep.record.tags import ERROR_TAG, NUM_BEST_TAG, NUM_TRIALS_TAG
from sweep.results import gather, report, summary, trust
from sweep.results.table import StudyTable, table_of
from sweep.study.ending import none_finished
from sweep.study.space import LENGTH

log = logging.getLogger(__name__)


def shown_params(dimensions: Iterable[str], composed: DictConfig) -> list[str]:
    """Return the names of a trial's params with its values for `dimensions`; a list shows in its items."""
    return [_param(key, composed) for key in dimensions if not key.endswith(LENGTH)]


def as_recorded(params: Mapping[str, Any], composed: DictConfig) -> dict[str, Any]:
    """Return a trial's values for the dimensions, by the names under which its job records them."""
    lengths = {key for key in params if key.endswith(LENGTH) and f"{key.removesuffix(LENGTH)}.0" in params}
    return {_param(key, composed): value for key, value in params.items() if key not in lengths}


def _param(key: str, composed: DictConfig) -> str:
    """Return the name under which a job records the setting, or the choice of the group, `key`."""
    key = key.lstrip("+")
    value = None
    with contextlib.suppress(OmegaConfBaseException):  # of a list's length, say
        value = OmegaConf.select(composed, key.replace("/", "."))
    return f"{key}.name" if isinstance(value, DictConfig) and "name" in value else key


def composed_text(config: DictConfig) -> str:
    """Return the config as YAML: the job, the search space and the study's settings."""
    shown = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    parts = [shown, OmegaConf.create({"hydra": {"sweeper": config.hydra.sweeper}})]
    return without_password("".join(OmegaConf.to_yaml(part, resolve=False) for part in parts))


def conclude(
    run: Run,
    dimensions: Mapping[str, BaseDistribution] | None = None,
    job: Description | None = None,
    failure: Exception | None = None,
    files: Sequence[Path] = (),
) -> str:
    """Record the study's best trial, or its Pareto front, with the study's `run`, and make its report.

    Args:
        run: The run of the study.
        dimensions: The searched dimensions; by default as recorded.
        job: Description of the study's job; by default as recorded.
        failure: The error that ended the study, if one did.
        files: Files to keep in the run.

    Returns:
        The table of trials and what to type next; nothing where there is no record.

    Raises:
        SweepError: No trial has finished.
    """
    if run.run_id is None:
        return ""
    table = table_of(find_run(run.run_id), job, dimensions)
    if not table.front:
        raise failure if isinstance(failure, SweepError) else _no_trial_finished(table, failure)
    notes = []
    if len(table.objectives) == 1:
        settings = {key: value for key in table.dimensions if (value := table.best.run.setting(key))}
        run.log_params_once(settings)
        shown = {name: value for name, value in table.best.metrics.items() if trust.is_shown(table, name)}
        run.log_metrics(shown, step=0)
        if any(table.study.params.get(key, value) != value for key, value in settings.items()):
            notes.append("(Params cannot be changed in MLflow: those of this run are of an earlier best trial.)")
    found = [{"trial": row.number, "run_id": row.run_id} for row in table.front]
    run.log_text(OmegaConf.to_yaml(OmegaConf.create({"best_trials": found})), "best_trials.yaml")
    run.log_tags({NUM_TRIALS_TAG: str(len(table.rows)), NUM_BEST_TAG: str(len(table.front))})
    for file in files:
        run.log_file(file)
    remarks, seen = _report(table)
    lines = [*summary.best_lines(table, with_settings=True), *notes, *remarks]
    run.log_note("\n\n".join(line.strip() for line in lines))  # in Markdown an indented line would be code
    return summary.summary_in_words(table, remarks, seen)


def _report(table: StudyTable) -> tuple[Sequence[str], list[str]]:
    """Make the report; return remarks on the best trial and where to look. A failed report costs no study."""
    try:
        findings = gather.gather_for(table)
        return findings.remarks, report.where(table.study, report.write(findings))
    except Exception as error:  # a full disk, data that have been moved, a plot that breaks
        again = f"sweep report --study {table.name}"
        told = f"report  could not be made ({in_one_line(error, 200)}); again: {again}"
        return [], [told, *report.where(table.study, None)]


def _no_trial_finished(table: StudyTable, failure: Exception | None) -> SweepError:
    if not table.rows:
        return SweepError(f"no trial could be started: {failure and (explain(failure) or repr(failure))}")
    reasons = [row.run.tags[ERROR_TAG] for row in table.rows if ERROR_TAG in row.run.tags]
    return SweepError(none_finished(len(table.rows), reasons))
