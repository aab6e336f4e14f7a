"""The end of a study: its best trials in its record, its report, and the table that a person reads."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sweep.errors import SweepError, explain, in_one_line, without_password
from sweep.record import tracking
from sweep.record.tracking import Run, RunRecord
from sweep.results import summary, trust
from sweep.study.ending import none_finished
from sweep.study.space import LENGTH


def shown_params(dimensions: Iterable[str], composed: DictConfig) -> list[str]:
    """The params of a trial that tell its values for `dimensions`; a list's length shows in its items."""
    return [_param(key, composed) for key in dimensions if not key.endswith(LENGTH)]


def as_recorded(params: Mapping[str, Any], composed: DictConfig) -> dict[str, Any]:
    """A trial's values for the dimensions by the names under which its job records them."""
    lengths = {key for key in params if key.endswith(LENGTH) and f"{key.removesuffix(LENGTH)}.0" in params}
    return {_param(key, composed): value for key, value in params.items() if key not in lengths}


def _param(key: str, composed: DictConfig) -> str:
    """The name under which a job records the setting, or the choice of the group, `key`."""
    key = key.lstrip("+")
    value = None
    with contextlib.suppress(OmegaConfBaseException):  # of a list's length, say
        value = OmegaConf.select(composed, key.replace("/", "."))
    return f"{key}.name" if isinstance(value, DictConfig) and "name" in value else key


def composed_text(config: DictConfig) -> str:
    """The config as YAML: the job, what is searched, and how."""
    shown = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    parts = [shown, OmegaConf.create({"hydra": {"sweeper": config.hydra.sweeper}})]
    return without_password("".join(OmegaConf.to_yaml(part, resolve=False) for part in parts))


def conclude(run: Run, searched: list[str], failure: Exception | None = None, files: Sequence[Path] = ()) -> str:
    """Put the best trial's record, or what is on the Pareto front, into the study's `run`.

    Args:
        run: The parent run.
        searched: The keys whose values differ between trials.
        failure: What ended the study, if it was an error.
        files: To keep in the run.

    Returns:
        The table of trials and what to type next; nothing where there is no record.

    Raises:
        SweepError: No trial has finished.
    """
    if run.run_id is None:
        return ""
    study = tracking.find_run(run.run_id)
    trials = tracking.trials_of(study)
    front = tracking.front_of(trials, study.objectives, study.directions)
    if not front:
        raise failure if isinstance(failure, SweepError) else _no_trial_finished(trials, failure)
    notes = []
    if len(study.objectives) == 1:
        (best,) = front
        settings = {key: best.setting(key) for key in searched if best.setting(key)}
        run.log_params_once(settings)
        hidden = () if trust.shows_test(study.objectives, searched) else ("test/",)
        run.log_metrics({key: value for key, value in best.metrics.items() if not key.startswith(hidden)}, step=0)
        if any(study.params.get(key, value) != value for key, value in settings.items()):
            notes.append("(Params cannot be changed in MLflow: those of this run are of an earlier best trial.)")
    found = [{"trial": one.trial_number, "run_id": one.run_id} for one in front]
    run.log_text(OmegaConf.to_yaml(OmegaConf.create({"best_trials": found})), "best_trials.yaml")
    for file in files:
        run.log_file(file)
    remarks, seen = _report(study)
    lines = [*summary.best_lines(study, front, searched), *notes, *remarks]
    run.log_note("\n\n".join(line.strip() for line in lines))  # in Markdown an indented line would be code
    return summary.tell(study, trials, front, searched, remarks, seen)


def _report(study: RunRecord) -> tuple[list[str], list[str]]:
    """What there is to say of the best trial, and where to look; a report that cannot be made costs no study."""
    try:
        from sweep.results import report  # what draws takes a second to import, which the start need not wait for

        facts = report.gather(study)
        return facts.remarks, report.where(study, report.write(facts))
    except Exception as error:  # a full disk, data that have been moved, a plot that breaks
        again = f"sweep report --study {study.tags[tracking.STUDY_TAG]}"
        look, *more = tracking.where_to_look(study)
        return [], [
            f"report  could not be made ({in_one_line(error, 200)}); again: {again}",
            f"look    {look}",
            *(f"        {line}" for line in more),
        ]


def _no_trial_finished(trials: list[RunRecord], failure: Exception | None) -> SweepError:
    if not trials:
        return SweepError(f"no trial could be started: {failure and (explain(failure) or repr(failure))}")
    reasons = [run.tags[tracking.ERROR_TAG] for run in trials if tracking.ERROR_TAG in run.tags]
    return SweepError(none_finished(len(trials), reasons))
