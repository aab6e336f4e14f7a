"""A study in MLflow: its parent run, the best of its trials told there, and the ends of trials whose job could not."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution

from sweep import data, space, summary, tracking, trial, trust
from sweep.config import GROUPS, Config
from sweep.errors import Stopped, SweepError, explain, in_one_line, without_password
from sweep.files import replacing
from sweep.tracking import Run, RunRecord

log = logging.getLogger(__name__)


class Ending(NamedTuple):
    """How a study's trial ended."""

    status: str
    """In MLflow's words: FINISHED, KILLED or FAILED."""
    reason: str = ""
    copy_of: int | None = None
    """The trial whose settings and outcome it has, where it was not trained itself."""
    params: Mapping[str, Any] = {}
    """Its values for the dimensions."""
    metrics: Mapping[str, float] = {}
    """Its objectives' values; of a trial that has not finished, the last one that it reported."""
    epoch: int = 0
    """After which they were so, 0 where that is not known."""


@contextlib.contextmanager
def open_study(
    name: str,
    job: Config,
    directions: Sequence[str],
    composed: DictConfig,
    dimensions: Mapping[str, BaseDistribution],
    run_id: str | None = None,
) -> Iterator[Run]:
    """The parent run of the study called `name`, and connect to the record.

    Args:
        name: The study's.
        job: Any one of its jobs.
        directions: Which way each of its objectives is better.
        composed: What Hydra composed, before anything was searched.
        dimensions: What is searched.
        run_id: The parent run to go on with.
    """
    if not job.tracking.enabled:
        yield tracking.NoRun()
        return
    tracking.connect()
    if run_id is not None and not tracking.reopen(run_id):
        run_id = None
    folder = Path(composed.hydra.sweep.dir).resolve()
    tags = tracking.objective_tags(job.objective, directions) | {
        tracking.KIND_TAG: "study",
        tracking.STUDY_TAG: name,
        tracking.OVERRIDES_TAG: " ".join(composed.hydra.overrides.task),
        **({tracking.CONFIRMS_TAG: confirms} if (confirms := composed.hydra.sweeper.get("confirms")) else {}),
        **({} if "storage" in composed.hydra.sweeper else {tracking.GRID_TAG: "true"}),
        tracking.FOLDER_TAG: str(folder),
    }
    with tracking.open_run(job.tracking.experiment, name, tags=tags, run_id=run_id, watch_machine=True) as run:
        with replacing(folder / tracking.RUN_FILE) as part:
            part.write_text(run.run_id)
        tracking.save_view(tracking.find_run(run.run_id), _params(dimensions))
        if not any(key.lstrip("+") == "data" for key in dimensions):  # each trial says which one it was
            run.log_dataset(job.data.name, data.load(job.data).digest, job.data.origin)
        run.log_text(_composed(composed), trial.CONFIG_FILE)
        run.log_text(space.to_json(dimensions), space.SPACE_FILE)
        yield run


def _params(dimensions: Iterable[str]) -> list[str]:
    """The params of a trial that tell its values for `dimensions`; a list's length shows in its items."""
    return [_param(key) for key in dimensions if not key.endswith(space.LENGTH)]


def _param(key: str) -> str:
    key = key.lstrip("+")
    return f"{key}.name" if key in GROUPS else key


def _settings(params: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's values for the dimensions by the names under which its job records them."""
    lengths = {key for key in params if key.endswith(space.LENGTH) and f"{key.removesuffix(space.LENGTH)}.0" in params}
    return {_param(key): value for key, value in params.items() if key not in lengths}


def _composed(config: DictConfig) -> str:
    """The config as YAML: the job, what is searched, and how."""
    shown = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    parts = [shown, OmegaConf.create({"hydra": {"sweeper": config.hydra.sweeper}})]
    return without_password("".join(OmegaConf.to_yaml(part, resolve=False) for part in parts))


def grid(
    name: str,
    job: Config,
    directions: Sequence[str],
    composed: DictConfig,
    values: Mapping[str, Sequence[str]],
    sweep: Callable[[], Any],
) -> Any:
    """Run `sweep`, a grid of jobs like `job`, under a parent run, and print the table of its trials.

    Args:
        name: The study's.
        job: Any one of its jobs.
        directions: Which way each of its objectives is better.
        composed: What Hydra composed, without the values to try.
        values: Of each key that has several, those to try.
        sweep: Runs all trials.
    """
    failure: Exception | None = None
    result = None
    searched = list(values)
    with open_study(name, job, directions, composed, space.of_choices(values)) as run:
        log.info("study %s: trying %s for the best %s", name, ", ".join(searched), ", ".join(job.objective))
        try:
            result = sweep()
        except Exception as error:  # a trial's; what the others found is still worth the table
            failure = error
        table = conclude(run, name, job, searched, failure)
    if table:
        log.info("\n%s", table)
    if failure is not None:
        raise failure
    return result


def conclude(
    run: Run, name: str, job: Config, searched: list[str], failure: Exception | None = None, files: Sequence[Path] = ()
) -> str:
    """Put the best trial's record, or what is on the Pareto front, into the study's `run`.

    Args:
        run: The parent run.
        name: The study's.
        job: Any one of its jobs.
        searched: The keys whose values differ between trials.
        failure: What ended the study, if it was an error.
        files: To keep in the run.

    Returns:
        The table of trials and what to type next; nothing where there is no record.

    Raises:
        SweepError: No trial has finished.
    """
    if not job.tracking.enabled:
        return ""
    study = tracking.find_study(name)
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
    from sweep import report  # what draws takes a second to import, which the start of a study need not wait

    try:
        facts = report.gather(study)
        return facts.remarks, report.where(study, report.write(facts))
    except Exception as error:  # a full disk, data that have been moved, a plot that breaks
        again = f"sweep report --study {study.tags[tracking.STUDY_TAG]}"
        return [], [
            f"report  could not be made ({in_one_line(error, 200)}); again: {again}",
            *report.where(study, None),
        ]


def settle(name: str, job: Config, folder: Path, endings: Mapping[int, Ending]) -> None:
    """See that every trial that has ended has a run in MLflow that has ended in the same way.

    Args:
        name: The study's.
        job: Any one of its jobs.
        folder: The study's.
        endings: Of the trials that have ended, by their numbers.
    """
    if not job.tracking.enabled:
        return
    runs = {run.trial_number: run for run in tracking.trials_of(tracking.find_study(name))}
    for number, ending in sorted(endings.items()):
        settings = _settings(ending.params)
        if number in runs:
            if not _agrees(runs[number], ending):
                tracking.close_run(runs[number], ending.status, ending.reason)
            if ending.status != "FINISHED":  # its job may have ended before it could tell them
                tracking.complete(runs[number], settings, ending.metrics, ending.epoch)
            continue
        missing = trial.Job(output_dir=folder / str(number), overrides=[], study=name, number=number)
        if ending.copy_of in runs:
            trial.record_copy(job.tracking.experiment, missing, runs[ending.copy_of])
        elif ending.status == "FINISHED":  # recorded elsewhere, or not at all
            trial.record_values(job.tracking.experiment, missing, settings, ending.metrics)
        else:
            error = Stopped(ending.reason) if ending.status == "KILLED" else SweepError(ending.reason)
            trial.record_ended(job.tracking.experiment, missing, error, settings, ending.metrics, ending.epoch)


def _agrees(run: RunRecord, ending: Ending) -> bool:
    """Whether MLflow has a trial's end as Optuna has it, whichever of several processes wrote it last."""
    is_interrupted = run.tags.get(tracking.ERROR_TAG) == tracking.INTERRUPTED
    return run.status == ending.status and is_interrupted == (ending.reason == tracking.INTERRUPTED)


def _no_trial_finished(trials: list[RunRecord], failure: Exception | None) -> SweepError:
    if not trials:
        return SweepError(f"no trial could be started: {failure and (explain(failure) or repr(failure))}")
    reasons = [run.tags[tracking.ERROR_TAG] for run in trials if tracking.ERROR_TAG in run.tags]
    return SweepError(summary.none_finished(len(trials), reasons))
