"""What a training job is given: its trial, to which it reports, and the one way in which every job is run.

    trial = sweep.trial()
    for epoch in range(1, 11):
        ...
        trial.report(epoch, {"val/rmse": rmse})

Steps count from 0 or 1 upwards; metrics are numbers by name. Outside of a study the trial records a single run.
"""

from __future__ import annotations

import logging
import math
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sweep import interrupts
from sweep.errors import Stopped, SweepError, without_password
from sweep.files import replacing
from sweep.job import Goal, Job, Task, flatten
from sweep.outcome import raise_as
from sweep.study.progress import say_at_once

if TYPE_CHECKING:
    from sweep.record.tracking import Run
    from sweep.study.handle import Handle

log = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"
"""The settings of a trial, in its folder and with its run in MLflow."""

OURS = "sweep.plugin.sweeper."
"""How the names of our sweepers begin; under another's a job runs as a single one."""

_current: Trial | None = None


class Trial:
    """One training of a job: what the job reports to, logs to and keeps files with."""

    def __init__(
        self,
        job: Job,
        goal: Goal,
        folder: Path,
        *,
        study: str | None = None,
        number: int | None = None,
        run: Run | None = None,
        handle: Handle | None = None,
    ) -> None:
        from sweep.record.tracking import NoRun
        from sweep.study.handle import NoHandle

        self.goal = goal
        """What the study, or the single run, is after."""
        self.folder = folder
        """The folder for the trial's files."""
        self.study = study
        """Name of the study that the trial belongs to, None for a single run."""
        self.number = number
        """Number of the trial in its study, from 0; None for a single run."""
        self.run: Run = run or NoRun()
        """The record of this trial; one of which nothing is kept, where the record is switched off."""
        self._job = job
        self._handle: Handle = handle or NoHandle()
        self._step: int | None = None
        self._latest: dict[str, float] = {}
        self._in_step: set[str] = set()
        self._has_ended = False

    @property
    def name(self) -> str:
        """What MLflow's pages call the trial."""
        return self.folder.name if self.number is None else f"trial-{self.number:03d}"

    def report(self, step: int, metrics: Mapping[str, float], *, of: int | None = None) -> None:
        """Record `metrics` after `step`, and end the trial if its study wants no more of it.

        Args:
            step: A whole number that never goes back; a step can be reported in several parts.
            metrics: Numbers by name. The pruner sees the first objective, if it is among them.
            of: The last step, if that is known. A trial that has come so far is not stopped any more.

        Raises:
            Stopped: The study wants no more steps; let it through. `Pruned` is one, by the pruner.
            SweepError: The step goes back, a metric is no number or not among those that the job names,
                or the trial has ended.
        """
        reported = self._checked(step, metrics)
        told_before = {name for name in reported if name in self._latest and self._job.metric(name).is_constant}
        if step != self._step:
            self._in_step.clear()
        self._step = step
        self._in_step.update(reported)
        self._latest.update(reported)
        # MLflow's pages list metrics as they come, and compare runs by the first.
        reported = dict(sorted(reported.items(), key=lambda metric: metric[0] not in self.goal.objectives))
        self.run.log_metrics({key: reported[key] for key in reported if key not in told_before}, step=step)
        log.info("%s %d%s  %s", self._job.step, step, "" if of is None else f"/{of}", self._job.in_words(reported))
        first = self.goal.objectives[0]
        if first in reported:
            self._handle.report(reported[first], step)
        if step == of:
            return
        told = self._handle.reason_to_stop(f" after {self._job.step} {step}{'' if of is None else f' of {of}'}")
        if told is not None:
            raise_as(told)

    def _checked(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        at = f"report of {self._job.step} {step!r}"
        if self._has_ended:
            raise SweepError(f"{at}: {self.name} has ended; report before the job returns")
        if isinstance(step, bool) or not hasattr(step, "__index__") or step < 0:
            raise SweepError(f"{at}: it must be a whole number, 0 or more")
        if self._step is not None and step < self._step:
            raise SweepError(f"{at}: it goes back, {self._job.step} {self._step} has been reported already")
        if step == self._step and (again := sorted(self._in_step & metrics.keys())):
            raise SweepError(f"{at}: {', '.join(again)} has been reported for it already")
        if self._job.metrics and (strange := sorted(metrics.keys() - self._job.metrics.keys())):
            names = ", ".join(self._job.metrics)
            raise SweepError(f"{at}: {', '.join(strange)} is not among the metrics that the job names: {names}")
        return {str(name): self._number(f"{at}: {name}", value, name) for name, value in metrics.items()}

    def _number(self, what: str, value: Any, name: str) -> float:
        number = as_number(value)
        if number is None or (math.isnan(number) and name in self.goal.objectives):
            raise SweepError(f"{what}={value!r}: a study wants a number for each objective")
        return number

    def log(self, *, params: Mapping[str, Any] | None = None, tags: Mapping[str, Any] | None = None) -> None:
        """Record facts besides the settings and the metrics.

        Args:
            params: What else was set, once each.
            tags: What can be searched for in MLflow.
        """
        if params:
            self.run.log_params(params)
        if tags:
            self.run.log_tags({key: str(value) for key, value in tags.items()})

    def keep(self, path: str | Path) -> None:
        """Keep a copy of the file at `path` with the trial's record."""
        self.run.log_file(Path(path))

    def values(self, returned: Any) -> list[float]:
        """The value of each objective, from what the job returned or else has reported last.

        Raises:
            SweepError: There is not one number for each.
        """
        wanted = ", ".join(self.goal.objectives)
        if returned is None:
            missing = [name for name in self.goal.objectives if name not in self._latest]
            if missing:
                reported = f"reported {', '.join(self._latest)}" if self._latest else "reported nothing"
                raise SweepError(
                    f"the job returned nothing and {reported}; a study wants a number for each objective: {wanted}"
                )
            return [self._latest[name] for name in self.goal.objectives]
        several = isinstance(returned, Sequence) and not isinstance(returned, str)
        numbers = [as_number(one) for one in (returned if several else [returned])]
        found = [one for one in numbers if one is not None and not math.isnan(one)]
        if not len(found) == len(numbers) == len(self.goal.objectives):
            raise SweepError(f"the job returned {returned!r}; a study wants a number for each objective: {wanted}")
        return found

    def finish(self, values: Sequence[float]) -> None:
        """Leave the trial's outcome; from here on it counts as finished, whatever dies.

        Raises:
            Stopped: The trial has been taken over.
        """
        final = dict(zip(self.goal.objectives, values, strict=True))
        if any(self._latest.get(name) != value for name, value in final.items()):
            self.run.log_metrics(final, step=self._step or 0)
        self._handle.finish(values)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Within, this is what `sweep.trial()` gives."""
        global _current
        before, _current = _current, self
        try:
            yield
        finally:
            _current = before
            self._has_ended = True


def trial() -> Trial:
    """The trial of the job that this process runs.

    Raises:
        SweepError: It runs none: the function that asks is neither in a study nor decorated with `@sweep.Job()`.
    """
    if _current is None:
        raise SweepError(
            "sweep.trial(): no trial runs in this process; put @sweep.Job() under @hydra.main, by which single runs "
            "are recorded too, or run the job in a study"
        )
    return _current


def run_job(job: Job, task: Task, cfg: DictConfig) -> float | list[float] | None:
    """Run `task`, what `job` tells of, on the composed `cfg`, as a trial of the study that Hydra is in or by itself.

    Returns:
        The value of each objective, None if the study stopped the trial.

    Raises:
        SweepError: In a study, something that a person can mend; by itself the program ends with that line.
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


def _run_by_itself(job: Job, task: Task, cfg: DictConfig, settings: Any) -> float | list[float] | None:
    from sweep.record import mirror

    job.checked(cfg)  # before anything is recorded
    goal = job.goal(settings.sweeper, settings.job.name, in_study=False)
    interrupts.work_begins()
    folder = Path(settings.runtime.output_dir)
    return _recorded(
        Trial(job, goal, folder), task, cfg, mirror.open_trial(goal, folder.name, list(settings.overrides.task))
    )


def _run_in_study(job: Job, task: Task, cfg: DictConfig, settings: Any) -> float | list[float] | None:
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


def carry_out(trial: Trial, task: Task, cfg: DictConfig) -> list[float]:
    """Run `task` on the composed `cfg` as a `trial` whose record is open, and leave its outcome.

    Leaves config.yaml, the settings, in the trial's folder.

    Returns:
        The value of each objective.

    Raises:
        SweepError: Something that a person can mend.
        Stopped: The study wants no more steps.
    """
    started = time.perf_counter()
    job = trial._job
    settings = job.checked(cfg)
    path = trial.folder / CONFIG_FILE
    with replacing(path) as part:
        part.write_text(OmegaConf.to_yaml(OmegaConf.create(settings)))
    trial.run.log_params(flatten(settings))
    dataset = job.dataset(job.config(cfg))
    if dataset is not None:
        trial.run.log_dataset(*dataset)
    trial.keep(path)
    with trial.current():
        returned = task(cfg)
    values = trial.values(returned)
    trial.finish(values)
    told = job.in_words(dict(zip(trial.goal.objectives, values, strict=True)))
    log.info("%s  %s  %.1f s", trial.name if trial.study else "done:", told, time.perf_counter() - started)
    return values


def as_number(value: Any) -> float | None:
    """`value` as a float if it is a number, one of NumPy's or torch's included; else None."""
    if isinstance(value, str | bytes | bool) or not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # an array of several
        return None


def _mask_passwords(folder: Path) -> None:
    """Mask the storage's password in what Hydra has written of its config."""
    for path in folder.glob("*.yaml"):
        text = path.read_text()
        if (masked := without_password(text)) != text:
            path.write_text(masked)


def _leave_terminal_to_sweeper() -> None:
    """The sweeper has a line for each trial, and decides what Ctrl-C means; what a trial says goes to its train.log."""
    for handler in list(logging.root.handlers):
        if type(handler) is logging.StreamHandler:
            logging.root.removeHandler(handler)
    logging.raiseExceptions = False  # a train.log that cannot be written would be told with a traceback a line
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a process of the launcher's, not the sweeper's
        signal.signal(signal.SIGINT, signal.SIG_IGN)
