"""A Hydra launcher for one machine: each slot has a worker process, which it keeps from job to job.

A worker that dies costs only its job; the slot's next job gets a new worker. Workers end when the process that started
them does, whatever ended it.
"""

import inspect
import multiprocessing
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker, spawn
from multiprocessing.connection import Connection, wait
from types import ModuleType
from typing import Any, NamedTuple

import cloudpickle
import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from sweep.errors import SweepError, in_one_line

# On Linux workers are forked from a clean server process that has the imports done: they share its memory, and
# one is there in a moment. Elsewhere forking is not safe, and each imports by itself.
PROCESSES: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
PRELOADED = (
    "sweep.running",
    "sweep.record.mirror",
    "sweep.study.handle",
    "mlflow.store.tracking.sqlalchemy_store",
    "optuna",
)
"""Modules that every job needs."""


class WorkerLauncher(Launcher):
    """A launcher that runs jobs in worker processes, as many at a time as threads call `launch`."""

    def __init__(self, num_workers: int, num_gpus: int = 0) -> None:
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._workers = [_Worker(visible_gpu(i, num_gpus)) for i in range(num_workers)]
        for worker in self._workers:
            self._free.put(worker)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the job's function and config for `launch`."""
        self._context, self._config = hydra_context, config
        self._task = task_function

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run these jobs, one after another, in a free worker process, and return their results."""
        worker = self._free.get()
        try:
            return [
                worker.run(
                    _Order(self._context, self._config, self._task, Singleton.get_state(), list(overrides), number)
                )
                for number, overrides in enumerate(job_overrides, start=initial_job_idx)
            ]
        finally:
            self._free.put(worker)

    def stop(self) -> None:
        """Kill the workers, whatever they are doing."""
        for worker in self._workers:
            worker.stop()


def start_importing(modules: Sequence[str]) -> None:
    """Start the process that workers are forked from, and have it import what jobs need meanwhile.

    Args:
        modules: Modules that the job needs, besides those that every job does.
    """
    if sys.platform == "linux":
        PROCESSES.set_forkserver_preload([*PRELOADED, *modules])
        resource_tracker.ensure_running()  # first, since it unblocks what it finds blocked
        # The server inherits this: it would answer Ctrl-C with a traceback of its imports. Workers ignore it anyway.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def require_sendable(task: TaskFunction) -> None:
    """Raise a SweepError if the job's function cannot be sent to another process, as workers need it."""
    try:
        cloudpickle.dumps(task)
    except Exception as error:  # whatever the objects raise that it holds
        raise SweepError(
            f"the job's function cannot be sent to worker processes ({in_one_line(error, 200)}); make what it uses "
            "inside of it, or run one trial at a time in this process: hydra.sweeper.n_jobs=1"
        ) from error


def require_main() -> None:
    """Refuse to start a study in a worker process that is still importing the program.

    Raises:
        SweepError: The program runs itself when it is imported.
    """
    if _main_being_imported:
        raise SweepError(
            f"{_main_being_imported}: it runs its main function when it is imported, which worker processes do; put "
            "the call under if __name__ == '__main__', or take hydra.sweeper.n_jobs=1"
        )


def visible_gpu(slot: int, num_gpus: int) -> dict[str, str]:
    """Return the environment variables that give a slot one of `num_gpus` GPUs; further slots share them in turn."""
    if num_gpus == 0:
        return {}
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = given.split(",") if given else [str(i) for i in range(num_gpus)]
    return {"CUDA_VISIBLE_DEVICES": devices[slot % len(devices)]}


class _Program(NamedTuple):
    """The program that started the workers, which multiprocessing imports into each of them."""

    module: str | None
    """Name of the module if the program was started with python -m."""
    path: str | None
    """File of the program; None for one that was typed."""


_main_being_imported = ""


def _import_main(program: _Program) -> None:
    """Import the program as multiprocessing does, with its errors told in one line.

    Raises:
        SweepError: The program cannot be imported.
    """
    global _main_being_imported
    _main_being_imported = program.module or program.path or ""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then lets errors through
    try:
        if program.module is not None:
            spawn._fixup_main_from_name(program.module)  # type: ignore[attr-defined]
        elif program.path is not None:
            spawn.import_main_path(program.path)
    except BaseException as error:  # SystemExit too
        if isinstance(error, SweepError):
            raise
        if any(frame.filename == inspect.getfile(hydra.main) for frame in traceback.extract_tb(error.__traceback__)):
            require_main()
        raise SweepError(
            f"{_main_being_imported}: worker processes cannot import it ({type(error).__name__}: "
            f"{in_one_line(error, 200)}); mend that, or take hydra.sweeper.n_jobs=1"
        ) from error
    finally:
        _main_being_imported = ""


@contextmanager
def _without_main() -> Iterator[_Program]:
    """Start processes, in the block, that do not import the program; yield what `_import_main` takes."""
    with _STARTING:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield _Program(getattr(main.__spec__, "name", None), getattr(main, "__file__", None))
        finally:
            sys.modules["__main__"] = main


_STARTING = threading.Lock()


class _Order(NamedTuple):
    context: HydraContext
    config: DictConfig
    task: TaskFunction
    singletons: dict[Any, Any]
    overrides: list[str]
    number: int


def _failed(error: Exception) -> JobReturn:
    failed = JobReturn()
    failed.status = JobStatus.FAILED
    failed.return_value = error
    return failed


class _Worker:
    """A process that does one job after another, started when the first one comes."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._process: Any = None
        self._connection: Connection[Any, Any]

    def run(self, job: _Order) -> JobReturn:
        if self._process is None:
            self._start()
        try:
            # Hydra's state holds functions that only cloudpickle can send.
            self._connection.send_bytes(cloudpickle.dumps(job))
            return self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            status = self._process.exitcode
            self._process = None
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return _failed(SweepError(f"its worker process died ({how}); if it was SIGKILL, memory may have run out"))

    def _start(self) -> None:
        self._connection, other_end = PROCESSES.Pipe()
        with _without_main() as program:
            self._process = PROCESSES.Process(target=_serve, args=(other_end, self._environment, program))
            self._process.start()
        other_end.close()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()


def _serve(connection: "Connection[Any, Any]", environment: Mapping[str, str], program: _Program) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the sweeper decides
    os.environ.update(environment)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    failed: SweepError | None = None
    try:
        _import_main(program)
    except SweepError as error:
        failed = error
    while True:
        try:
            job = cloudpickle.loads(connection.recv_bytes())
        except EOFError:
            return
        if failed is not None:
            connection.send(_failed(failed))
            continue
        try:
            result = _run(job)
        except Exception as error:  # Hydra's: a job that cannot be composed, or its folder not be written
            result = _failed(error)
        connection.send(result)


def _die_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _run(job: _Order) -> JobReturn:
    """Run a job in this process as Hydra's own launchers do."""
    setup_globals()
    Singleton.set_state(job.singletons)
    config = job.context.config_loader.load_sweep_config(job.config, job.overrides)
    with open_dict(config):
        config.hydra.job.id = f"{config.hydra.job.name}_{job.number}"
        config.hydra.job.num = job.number
    HydraConfig.instance().set_config(config)
    return run_job(
        hydra_context=job.context,
        task_function=job.task,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
