"""The search of a study: trials are asked for, run in slots, told and shown, until there are enough."""

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import optuna
from hydra.core.utils import JobReturn, JobStatus
from optuna.trial import FrozenTrial, TrialState

from sweep.description import Description
from sweep.errors import RecordError, SweepError, concerns_record, explain, in_one_line
from sweep.outcome import Ended
from sweep.study.ending import best_trials, ended, values_in_words
from sweep.study.progress import Counts, Progress, Running, Standing
from sweep.study.slots import TIMEOUT, Stop, keep_busy
from sweep.study.study import Claim, Study
from sweep.study.trials import COPY_OF, ERROR, NOTES, WORKER, counts, was_interrupted

SECONDS_TO_TELL = 60
"""Seconds until a study at its end first says what it waits for."""

RunJobs = Callable[[Sequence[Sequence[str]], int], Sequence[JobReturn]]
"""Function that runs jobs, given the overrides of each and the first one's number, as Hydra's launchers do."""


class Search:
    """The search of one study by this process.

    Args:
        study: The study, with its sampler.
        job: Description of the study's job.
        objectives: The metrics that the study searches for.
        num_steps: How many steps each trial takes, unless that is searched; None where the job does not say.
        launch: Function that runs one job at a call, and can be called from several threads.
        stop_jobs: Function that ends the processes of jobs, whatever they are doing.
        num_slots: How many jobs run at a time.
        suggest: Function that returns the overrides of a trial's job.
        settle: Function that has MLflow record ended trials, given by their numbers.
        max_failure_rate: The share of this process's trials that may fail before no more are handed out.
        stop: Tells whether to hand out no more trials.
    """

    def __init__(
        self,
        study: Study,
        job: Description,
        objectives: Sequence[str],
        num_steps: Any,
        launch: RunJobs,
        stop_jobs: Callable[[], None],
        num_slots: int,
        suggest: Callable[[optuna.Trial], list[str]],
        settle: Callable[[Mapping[int, Ended]], None],
        max_failure_rate: float,
        stop: Stop,
    ) -> None:
        self._study, self._job, self._objectives, self._num_steps = study, job, objectives, num_steps
        self._start, self._stop_jobs, self._num_slots, self._suggest = launch, stop_jobs, num_slots, suggest
        self._settle, self._max_failure_rate, self._stop = settle, max_failure_rate, stop
        self._settling = threading.Lock()
        self._over = threading.Event()
        self._noted: set[str] = set()  # what has been said once is true of the other trials too
        self._ends: Counter[bool] = Counter()  # of this process's trials, by whether they failed
        self.failure: Exception | None = None
        """The error to raise once too many trials have failed, or the record is lost."""

    def run(self) -> None:
        """Run trials until the study has them all, or `stop` says so.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed twice; the running trials are interrupted.
        """
        self._study.settle_dead()
        self._settle_record()
        self._progress = Progress(self._study.n_trials, self._standing)
        threading.Thread(target=self._keep_telling, daemon=True).start()
        try:
            with self._stop.on_interrupt(self._tell_interrupt):
                keep_busy(self._num_slots, self._work_on_record)
        except KeyboardInterrupt:
            self._study.interrupt_own()
            raise
        finally:
            self._over.set()
            self._stop_jobs()
            self._progress.close()
            if self.lost_record is None:
                self._settle_record()

    @property
    def lost_record(self) -> Exception | None:
        """The error that ended the search because the record or a disk could not be written; None without one."""
        return self.failure if self.failure is not None and concerns_record(self.failure) else None

    def _work_on_record(self) -> bool:
        try:
            return self._work()
        except Exception as error:
            if not concerns_record(error):
                raise
            self._lose_record(error)
            return False

    def _lose_record(self, error: Exception) -> None:
        """Hand out no more trials, since the record is lost: the next trial would end in the same way."""
        if self.lost_record is None:
            self.failure = error if isinstance(error, RecordError) else RecordError(explain(error))
            self._stop.reason = "a record or a disk that cannot be written"

    def _work(self) -> bool:
        claim = self._study.claim(self._overrides, self._stop)
        if claim is None:
            return False
        self._progress.update()
        started = time.perf_counter()
        twin = None if isinstance(claim.job, Exception) else self._study.twin_of(claim)
        if twin is not None:
            self._study.copy(claim.number, twin)
        else:
            self._launch(claim)
        trial = self._study.trial(claim.number)
        if twin is not None or trial.state == TrialState.FAIL:
            with suppress(Exception):  # a record that is away for a moment; the end of the search looks again
                self._settle_record(trial)
        self._tell(trial, time.perf_counter() - started)
        return True

    def _launch(self, claim: Claim) -> None:
        error: Exception | None = None
        try:
            self._study.tell(claim.number, self._values_from_job(claim))
        except Exception as raised:  # the job's own, or the launcher's where a worker or a node is lost
            if concerns_record(raised):
                self._lose_record(raised)
                self._study.interrupt(claim.number)
                return
            error = raised
            self._study.fail(claim.number, in_one_line(error))
        self._ends[error is not None] += 1
        if error is not None and self._ends[True] / self._ends.total() > self._max_failure_rate:
            self.failure = SweepError(
                f"{self._ends[True]} of {self._ends.total()} trials failed, more than "
                f"hydra.sweeper.max_failure_rate={self._max_failure_rate} allows; the last one: {error}"
            )
            self._stop.reason = "too many failures"

    def _overrides(self, trial: optuna.Trial) -> list[str] | Exception:
        """Return the overrides of the trial's job, or the error of custom_search_space that fails the trial."""
        try:
            return self._suggest(trial)
        except Exception as error:
            if concerns_record(error):
                raise
            return error

    def _values_from_job(self, claim: Claim) -> list[float] | None:
        try:
            if isinstance(claim.job, Exception):
                raise claim.job
            (result,) = self._start([claim.job], claim.number)
            return _values(result)
        except Exception:
            if not self._study.has_outcome(claim.number):
                raise
            return None  # the job was through; what was lost is only its way back

    def _settle_record(self, *trials: FrozenTrial) -> None:
        """Have MLflow record these trials, or all that have ended, as Optuna has them."""
        with self._settling:
            over = [trial for trial in trials or self._study.trials() if trial.state.is_finished()]
            self._settle({trial.number: ended(trial, self._objectives, self._job.step) for trial in over})

    def _counts(self) -> Counts:
        states = Counter(trial.state for trial in self._study.trials() if counts(trial))
        return Counts(
            finished=states[TrialState.COMPLETE],
            running=states[TrialState.RUNNING],
            pruned=states[TrialState.PRUNED],
            failed=states[TrialState.FAIL],
        )

    def _standing(self) -> Standing:
        trials = [trial for trial in self._study.trials() if trial.state == TrialState.RUNNING]
        return Standing(self._counts(), self._best(), [Running(trial.number, self._step(trial)) for trial in trials])

    def _step(self, trial: FrozenTrial) -> str:
        """Return the step that a trial is in, as text; empty where its job does not say."""
        last = trial.params.get(self._job.num_steps or "", self._num_steps)
        if len(self._objectives) > 1 or self._study.address is None or last is None:
            return ""
        return f"{self._job.step} {min((trial.last_step or 0) + 1, last)}/{last}"

    def _best(self) -> str:
        """Return the best value so far as text, empty if there is none."""
        best = best_trials(self._study)
        if not best:
            return ""
        if len(self._objectives) > 1:
            return f"{len(best)} on the front"
        value = self._job.metric(self._objectives[0]).in_words(best[0].values[0])
        return f"best {value} (trial {best[0].number})"

    def _tell(self, trial: FrozenTrial, seconds: float) -> None:
        if trial.state == TrialState.COMPLETE:
            end = values_in_words(self._job, self._objectives, trial.values)
        elif trial.state == TrialState.PRUNED:
            step = trial.last_step or 0
            value = values_in_words(self._job, self._objectives[:1], [trial.intermediate_values[step]])
            end = f"pruned after {self._job.step} {step}, {value}"
        elif was_interrupted(trial):
            end = "interrupted; its settings are tried again when the study goes on"
        else:
            end = f"failed: {trial.user_attrs.get(ERROR, 'no reason given')}"
        if COPY_OF in trial.user_attrs:
            end += f"  (same settings as trial {trial.user_attrs[COPY_OF]})"
        line = f"trial {trial.number:>3}  {end}  {seconds:.1f} s"
        if not self._progress.is_live:
            so_far = [f"{self._counts().done}/{self._study.n_trials}", self._best()]
            line += f"  [{', '.join(filter(None, so_far))}]"
        self._progress.line(line)
        for note in trial.user_attrs.get(NOTES, []):
            if note not in self._noted:
                self._noted.add(note)
                self._progress.line(f"note: {note}")
        self._progress.update()

    def _tell_interrupt(self) -> None:
        self._progress.line("no more trials are handed out; those that run will finish. Ctrl-C again stops them now.")
        # In a thread of its own: this one may hold the storage's lock just now.
        threading.Thread(target=self._tell_waiting, daemon=True).start()

    def _keep_telling(self) -> None:
        """Say what the study waits for once no more trials are handed out, ever less often."""
        pause = SECONDS_TO_TELL
        while not self._over.wait(min(pause, self._stop.seconds_left)):
            with suppress(Exception):  # a record that is away; whoever writes into it says so
                if self._stop() or self._study.num_counted() >= self._study.n_trials:
                    pause *= 2
                    self._tell_waiting()

    def _tell_waiting(self) -> None:
        running = [trial for trial in self._study.trials() if trial.state == TrialState.RUNNING]
        if not running or self._over.is_set():
            return
        reason = f"{self._stop.reason}: no more trials are handed out; " if self._stop.reason == TIMEOUT else ""
        told = [f"trial {trial.number}{_process_in_words(trial)}" for trial in running]
        hint = "to end one that hangs, kill -9 its process; " if any("(" in one for one in told) else ""
        again = "once more" if self._stop.is_interrupted else "twice"
        self._progress.line(f"{reason}waiting for {', '.join(told)}; {hint}Ctrl-C {again} stops all of them now")


def _values(result: JobReturn) -> list[float] | None:
    if result.status != JobStatus.COMPLETED:
        raise result._return_value  # its property of that name prints a line of its own besides
    value = result.return_value
    if value is None:
        return None
    try:
        return [float(one) for one in (value if isinstance(value, Sequence) else [value])]
    except (TypeError, ValueError) as error:
        raise SweepError(f"the job returned {value!r}; a study wants a number for each objective") from error


def _process_in_words(trial: FrozenTrial) -> str:
    """Return the process that a trial runs in, as text; empty if that is this one or is not known."""
    host, _, pid = trial.user_attrs.get(WORKER, "").rpartition(" ")
    is_here = host == socket.gethostname()
    return (
        ""
        if not pid or (is_here and pid == str(os.getpid()))
        else f" (process {pid}{'' if is_here else f' on {host}'})"
    )
