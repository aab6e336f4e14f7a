"""The trial: the object to which a training job reports.

    trial = sweep.trial()
    for epoch in range(1, 11):
        ...
        trial.report(epoch, {"val/rmse": rmse})

Steps count from 0 or 1 upwards; metrics are numbers by name. Outside of a study the trial records a single run.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.description import Description
from sweep.errors import Stopped, SweepError
from sweep.goal import Goal
from sweep.outcome import raise_as

if TYPE_CHECKING:
    from sweep.record.run import Run
    from sweep.study.handle import Handle

log = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"
"""File with the settings of a trial, in its folder and with its run in MLflow."""

_current: Trial | None = None


class Trial:
    """One training of a job, to which the job reports its metrics, and with which it logs facts and keeps files.

    `folder` is where its files go; `number` and `study` are None outside of a study; `run.run_id` is the id of its run
    in MLflow, None if nothing is recorded.
    """

    def __init__(
        self,
        job: Description,
        goal: Goal,
        folder: Path,
        *,
        study: str | None = None,
        number: int | None = None,
        run: Run | None = None,
        handle: Handle | None = None,
        name: str | None = None,
    ) -> None:
        from sweep.record.run import NoRun
        from sweep.study.handle import NoHandle

        self.goal = goal
        """The goal of the study, or of the single run."""
        self.folder = folder
        """The folder for the trial's files."""
        self.study = study
        """Name of the study that the trial belongs to, None for a single run."""
        self.number = number
        """Number of the trial in its study, from 0; None for a single run."""
        self.run: Run = run or NoRun()
        """The record of this trial; one of which nothing is kept, where the record is switched off."""
        self.job = job
        """Description of the job."""
        self.name = name or (folder.name if number is None else f"trial-{number:03d}")
        """Name of the trial in MLflow's pages."""
        self._handle: Handle = handle or NoHandle()
        self._step: int | None = None
        self._latest: dict[str, float] = {}
        self._in_step: set[str] = set()
        self._has_ended = False
        self._is_logging = False
        self._seen: set[str] = set()
        self._stopped: Stopped | None = None

    def report(self, step: int, metrics: Mapping[str, float], *, of: int | None = None) -> None:
        """Record `metrics` after `step`, and end the trial if its study wants no more of it.

        Args:
            step: A whole number that never goes back; a step can be reported in several parts.
            metrics: Numbers by name. The pruner sees the first objective, if it is among them.
            of: The last step, if that is known. A trial that has come so far is not stopped any more.

        Raises:
            Stopped: The study wants no more steps; `Pruned` is one, by the pruner. Let it through, or return soon:
                the trial counts as stopped in either case.
            SweepError: The step goes back, a metric is no number or not among those that the job names,
                or the trial has ended.
        """
        self._take(step, self._checked(step, metrics), of)

    def see(self, run_id: str, name: str, value: float, step: int) -> None:
        """Take up a metric that the job has logged to MLflow by itself, if it is the one that the study watches.

        A step that does not go on, as that of a job which never says one, counts as the next.

        Raises:
            Stopped: The study wants no more steps.
        """
        if self._is_logging:  # what has been reported
            return
        self._seen.add(name)
        if name == self.goal.watch and not math.isnan(value):
            following = step if self._step is None or step > self._step else self._step + 1
            self._take(following, {name: value}, is_logged=run_id == self.run.run_id)

    def _take(self, step: int, reported: dict[str, float], of: int | None = None, is_logged: bool = False) -> None:
        told_before = {name for name in reported if name in self._latest and self.job.metric(name).is_constant}
        if step != self._step:
            self._in_step.clear()
        self._step = step
        self._in_step.update(reported)
        self._latest.update(reported)
        # MLflow's pages list metrics as they come, and compare runs by the first.
        reported = dict(sorted(reported.items(), key=lambda metric: metric[0] not in self.goal.objectives))
        if not is_logged:
            self._is_logging = True
            self.run.log_metrics({key: reported[key] for key in reported if key not in told_before}, step=step)
            self._is_logging = False
        log.info("%s %d%s  %s", self.job.step, step, "" if of is None else f"/{of}", self.job.in_words(reported))
        first = self.goal.watch or self.goal.objectives[0]
        try:
            if first in reported:
                self._handle.report(reported[first], step)
            if step == of:
                return
            told = self._handle.reason_to_stop(f" after {self.job.step} {step}{'' if of is None else f' of {of}'}")
            if told is not None:
                raise_as(told)
        except Stopped as stopped:
            self._stopped = stopped
            raise

    def _checked(self, step: int, metrics: Mapping[str, float]) -> dict[str, float]:
        at = f"report of {self.job.step} {step!r}"
        if self._has_ended:
            raise SweepError(f"{at}: {self.name} has ended; report before the job returns")
        if isinstance(step, bool) or not hasattr(step, "__index__") or step < 0:
            raise SweepError(f"{at}: it must be a whole number, 0 or more")
        if self._step is not None and step < self._step:
            raise SweepError(f"{at}: it goes back, {self.job.step} {self._step} has been reported already")
        if step == self._step and (again := sorted(self._in_step & metrics.keys())):
            raise SweepError(f"{at}: {', '.join(again)} has been reported for it already")
        if self.job.metrics and (strange := sorted(metrics.keys() - self.job.metrics.keys())):
            names = ", ".join(self.job.metrics)
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
            params: Other settings, each logged once.
            tags: Texts by which runs can be searched in MLflow.
        """
        if params:
            self.run.log_params(params)
        if tags:
            self.run.log_tags({key: str(value) for key, value in tags.items()})

    def note(self, text: str) -> None:
        """Show the person who started the study, once, a hint on how the job could do better."""
        log.warning("%s", text)
        self._handle.note(text)

    def note_unseen(self) -> None:
        """Show a hint that the metric which the study watches has not been logged."""
        watched = self.goal.watch
        if watched is not None and watched not in self._seen | self._latest.keys():
            logged = f"it logged {', '.join(sorted(self._seen))}" if self._seen else "it logged none"
            self.note(
                f"hydra.sweeper.watch={watched}: the job logs no such metric to MLflow, so nothing is pruned; {logged}"
            )

    def keep(self, path: str | Path) -> None:
        """Keep a copy of the file at `path` with the trial's run."""
        self.run.log_file(Path(path))

    def values(self, returned: Any) -> list[float]:
        """Return the value of each objective, from the job's return value or else its last report.

        Raises:
            SweepError: There is not one number for each.
            Stopped: `report` has raised it, and the job has returned all the same.
        """
        if self._stopped is not None:
            raise self._stopped
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
        """Store the trial's outcome; from here on it counts as finished, whatever process dies.

        Raises:
            Stopped: The trial has been taken over.
        """
        final = dict(zip(self.goal.objectives, values, strict=True))
        if any(self._latest.get(name) != value for name, value in final.items()):
            self.run.log_metrics(final, step=self._step or 0)
        self._handle.finish(values)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make this trial, in the block, the one that `sweep.trial()` returns."""
        global _current
        before, _current = _current, self
        try:
            yield
        finally:
            _current = before
            self._has_ended = True


def trial() -> Trial:
    """Return the trial of the job that this process runs.

    Where there is none, in a program that is not in a study and has no `@sweep.Job`, the first call opens a single
    run, which ends with the job.

    Raises:
        SweepError: The record of that run cannot be opened.
    """
    from sweep import single  # which few programs need

    if _current is None or single.is_over(_current):
        return single.begin()
    return _current


def as_number(value: Any) -> float | None:
    """Return `value` as a float if it is a number, also one of NumPy's or torch's; else None."""
    if isinstance(value, str | bytes | bool) or not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # an array of several
        return None
