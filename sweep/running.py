"""How every job is run: as a trial of a study, by itself, or again from its record."""

from __future__ import annotations

import logging
import signal
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sweep import interrupts
from sweep.description import Description, Task, flatten
from sweep.errors import Stopped, SweepError, without_password
from sweep.files import replacing
from sweep.study.progress import say_at_once
from sweep.trial import CONFIG_FILE, Trial

if TYPE_CHECKING:
    from sweep.record.run import Run

log = logging.getLogger(__name__)

OURS = "sweep.plugin.sweeper."
"""Beginning of our sweepers' names; under another sweeper a job runs by itself."""


def run_job(job: Description, task: Task, cfg: DictConfig) -> float | list[float] | None:
    """Run `task`, described by `job`, on the composed `cfg`, as a trial of the current study or by itself.

    Returns:
        The value of each objective, None if the study stopped the trial.

    Raises:
        SweepError: In a study, an error that a person can mend; by itself the program ends with that line.
    """
    settings = HydraConfig.get()
    in_study = settings.mode == RunMode.MULTIRUN and str(settings.sweeper._target_).startswith(OURS)
    if in_study:
        return _run_in_study(job, task, cfg, settings)
    say_at_once("checking the settings ...")
    try:
        return _run_by_itself(job, task, cfg, settings)
    except SweepError as error:
        sys.exit(f"error: {error}")


def _run_by_itself(job: Description, task: Task, cfg: DictConfig, settings: Any) -> float | list[float] | None:
    from sweep.record import mirror

    job.checked(cfg)  # before anything is recorded
    goal = job.goal(settings.sweeper, settings.job.name, in_study=False)
    interrupts.work_begins()
    folder = Path(settings.runtime.output_dir)
    return _recorded(
        Trial(job, goal, folder), task, cfg, mirror.open_trial(goal, folder.name, list(settings.overrides.task))
    )


def _run_in_study(job: Description, task: Task, cfg: DictConfig, settings: Any) -> float | list[float] | None:
    from sweep.record import mirror
    from sweep.study.handle import handle_of
    from sweep.study.pruners import build_pruner

    sweeper, number = settings.sweeper, settings.job.num
    interrupts.work_begins()
    _leave_terminal_to_sweeper()
    _mask_passwords(Path(settings.runtime.output_dir) / (settings.output_subdir or ""))
    handle = handle_of(sweeper.storage, sweeper.study_name, number, build_pruner(sweeper.pruner))
    goal = job.goal(sweeper, settings.job.name)
    folder = Path(settings.runtime.output_dir)
    trial = Trial(job, goal, folder, study=sweeper.study_name, number=number, handle=handle)
    parent = mirror.Parent(sweeper.study_name, handle.recall("run"))
    return _recorded(
        trial, task, cfg, mirror.open_trial(goal, trial.name, list(settings.overrides.task), parent, number)
    )


def _recorded(
    trial: Trial, task: Task, cfg: DictConfig, record: AbstractContextManager[Run]
) -> float | list[float] | None:
    try:
        with record as run:
            trial.run = run
            values = carry_out(trial, task, cfg)
    except Stopped as stopped:
        log.info("%s: %s", trial.name, stopped)
        return None
    return values[0] if len(values) == 1 else values


def record_settings(trial: Trial, cfg: DictConfig) -> None:
    """Record the settings of the composed `cfg` as params and as config.yaml, which stays in the trial's folder.

    Raises:
        SweepError: The job cannot be trained.
    """
    job = trial.job
    settings = job.checked(cfg)
    path = trial.folder / CONFIG_FILE
    with replacing(path) as part:
        part.write_text(OmegaConf.to_yaml(OmegaConf.create(settings)))
    trial.run.log_params(flatten(settings))
    dataset = job.dataset(job.config(cfg))
    if dataset is not None:
        trial.run.log_dataset(*dataset)
    trial.keep(path)


def carry_out(trial: Trial, task: Task, cfg: DictConfig) -> list[float]:
    """Run `task` on the composed `cfg` as a `trial` whose record is open, and store its outcome.

    Leaves config.yaml, the settings, in the trial's folder.

    Returns:
        The value of each objective.

    Raises:
        SweepError: An error that a person can mend.
        Stopped: The study wants no more steps.
    """
    started = time.perf_counter()
    job = trial.job
    record_settings(trial, cfg)
    try:
        with trial.current(), _watched(trial):
            returned = _undecorated(task)(cfg)
    finally:
        _tell_elsewhere(trial)
    trial.note_unseen()
    values = trial.values(returned)
    trial.finish(values)
    told = job.in_words(dict(zip(trial.goal.objectives, values, strict=True)))
    log.info("%s  %s  %.1f s", trial.name if trial.study else "done:", told, time.perf_counter() - started)
    return values


def _tell_elsewhere(trial: Trial) -> None:
    if trial.run.run_id is None:
        return
    from sweep.record.connect import take_back

    if elsewhere := take_back():
        trial.note(
            f"the job sets MLflow's address to {without_password(elsewhere)}, so what it logs there is not under its "
            "study; set MLFLOW_TRACKING_URI to that for the whole command, and leave it out of the job"
        )


def _watched(trial: Trial) -> AbstractContextManager[None]:
    """Have the trial see, in the block, what its job logs to MLflow by itself, if its study watches a metric."""
    if trial.goal.watch is None:
        return nullcontext()
    from sweep.record.watch import watching

    return watching(trial.see)


def _undecorated(task: Task) -> Task:
    """Return the job's own function, without the recording that `@sweep.Job` adds to it."""
    return task.__wrapped__ if hasattr(task, "sweep_job") and hasattr(task, "__wrapped__") else task


def _mask_passwords(folder: Path) -> None:
    """Mask the storage's password in the files that Hydra has written of its config."""
    for path in folder.glob("*.yaml"):
        text = path.read_text()
        if (masked := without_password(text)) != text:
            path.write_text(masked)


def _leave_terminal_to_sweeper() -> None:
    """Log a trial to its train.log only, and ignore Ctrl-C: both the terminal and Ctrl-C are the sweeper's."""
    others = [one for one in logging.root.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    for logger in (logging.root, *others):  # libraries, such as Lightning, bring handlers of their own
        for handler in [one for one in logger.handlers if type(one) is logging.StreamHandler]:
            logger.removeHandler(handler)
            logger.propagate = True
    logging.raiseExceptions = False  # a train.log that cannot be written would be told with a traceback a line
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a process of the launcher's, not the sweeper's
        signal.signal(signal.SIGINT, signal.SIG_IGN)
