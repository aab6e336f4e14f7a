"""The single run that `sweep.trial()` opens in a program that is not in a study and has no `@sweep.Job`.

The run ends with the job: when the program ends, or when Hydra has gone on to another job. It has failed if an error
ended the job. Hydra keeps that error until the program ends, so it is looked up where Hydra puts it.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus

from sweep import project
from sweep.job import Job
from sweep.trial import Trial


class _Open(NamedTuple):
    """The run that is open, and what ends it."""

    trial: Trial
    stack: ExitStack
    returned: JobReturn | None
    """The object in which Hydra puts how the job ended."""
    process: int


_open: _Open | None = None
_error: BaseException | None = None
"""The exception that ended the program, as Python reports it."""


def begin() -> Trial:
    """Open a single run for the job that this process runs, and return its trial.

    Raises:
        SweepError: The record cannot be opened, or the settings cannot be recorded.
    """
    global _open
    from sweep.record import mirror
    from sweep.running import record_settings

    _watch()
    _end()
    project.settle_root(sys.modules["__main__"])
    job = Job(active_run=False)
    program, folder, overrides = Path(sys.argv[0]).stem or "python", Path.cwd(), []
    name = program
    if HydraConfig.initialized():
        settings = HydraConfig.get()
        program, folder, overrides = settings.job.name, Path(settings.runtime.output_dir), settings.overrides.task
        name = folder.name
    goal = job.goal({}, program, in_study=False)
    returned = _returned()
    with ExitStack() as stack:
        run = stack.enter_context(mirror.open_trial(goal, name, list(overrides)))
        trial = Trial(job, goal, folder, run=run, name=name)
        if returned is not None and returned.cfg is not None:
            record_settings(trial, returned.cfg)
        stack.enter_context(trial.current())
        _open = _Open(trial, stack.pop_all(), returned, os.getpid())
    return trial


def is_over(trial: Trial) -> bool:
    """Return whether `trial` belongs to a single run whose job has ended, though the program goes on."""
    if _open is None or _open.trial is not trial or _open.returned is None:
        return False
    return _open.returned.status != JobStatus.UNKNOWN


def _returned() -> JobReturn | None:
    """Return the object in which Hydra will put how the calling job ended, None if Hydra runs none."""
    frame = sys._getframe().f_back
    while frame is not None:
        if frame.f_globals.get("__name__") == "hydra.core.utils":
            for value in frame.f_locals.values():
                if isinstance(value, JobReturn):
                    return value
        frame = frame.f_back
    return None


@functools.cache
def _watch() -> None:
    """Have the run ended when the program ends, and the exception that ended the program noted."""
    reported = sys.excepthook

    def report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        global _error
        _error = error
        reported(kind, error, traceback)

    sys.excepthook = report
    atexit.register(_end)


def _end() -> None:
    """End the open run in the way that its job ended."""
    global _open
    if _open is None or _open.process != os.getpid():
        return
    ended, _open = _open, None
    error = _error
    if ended.returned is not None and ended.returned.status == JobStatus.FAILED:
        error = ended.returned._return_value
    ended.stack.__exit__(*((type(error), error, error.__traceback__) if error else (None, None, None)))
