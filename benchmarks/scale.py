"""What grows with the number of workers and trials, where trials do nothing but report.

python benchmarks/scale.py                                   1,000 trials, 1, 16 and 64 workers, the default storage
python benchmarks/scale.py --storage postgresql+psycopg://USER@HOST/DATABASE --workers 64
"""

import argparse
import os
import queue
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna

from sweep.plugin.workers import PROCESSES
from sweep.study.handle import handle_of
from sweep.study.slots import keep_busy
from sweep.study.study import Study
from sweep.study.trials import counts

NUM_EPOCHS = 4


def serve(connection: Any, address: str, name: str) -> None:
    """A worker: for each trial number that comes, report NUM_EPOCHS epochs; send back the seconds each took."""
    while (number := connection.recv()) is not None:
        handle = handle_of(address, name, number, optuna.pruners.SuccessiveHalvingPruner(min_resource=2))
        seconds = []
        for epoch in range(1, NUM_EPOCHS + 1):
            started = time.perf_counter()
            handle.report(number % 7 + epoch, epoch)
            handle.reason_to_stop()
            seconds.append(time.perf_counter() - started)
        handle.finish([number % 7])
        connection.send((seconds, _own_megabytes()))


def _own_megabytes() -> float:
    rows = [line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()]
    return sum(int(row[1]) for row in rows if row[0].startswith("Private_")) / 1024


def suggest(trial: optuna.Trial) -> None:
    """A space of six dimensions, one of them conditional."""
    for i in range(trial.suggest_int("layers", 1, 3)):
        trial.suggest_int(f"width{i}", 32, 1024, log=True)
    trial.suggest_float("dropout", 0, 0.3)
    trial.suggest_float("lr", 1e-3, 1e-1, log=True)


def measure(address: str, folder: Path, num_workers: int, num_trials: int, sampler: optuna.samplers.BaseSampler) -> str:
    """Run one study and return its line of the table."""
    name = f"scale-{num_workers}-{time.time()}"
    shared = Study(address, name, ["maximize"], num_trials, folder)
    shared.optuna.sampler = sampler
    free: queue.SimpleQueue[Any] = queue.SimpleQueue()
    workers = []
    for _ in range(num_workers):
        ours, theirs = PROCESSES.Pipe()
        workers.append(PROCESSES.Process(target=serve, args=(theirs, address, name)))
        workers[-1].start()
        free.put(ours)
    asks: list[float] = []
    reports: list[float] = []
    megabytes: list[float] = []

    def timed(trial: optuna.Trial) -> None:
        started = time.perf_counter()
        suggest(trial)
        asks.append(time.perf_counter() - started)

    def work() -> bool:
        trial = shared.claim(timed, lambda: False)
        if trial is None:
            return False
        connection = free.get()
        connection.send(trial.number)
        seconds, own = connection.recv()
        free.put(connection)
        reports.extend(seconds)
        megabytes.append(own)
        shared.tell(trial.number)
        return True

    started = time.perf_counter()
    keep_busy(num_workers, work)
    seconds = time.perf_counter() - started
    for _ in workers:
        free.get().send(None)
    for worker in workers:
        worker.join()
    shared.close()
    count = sum(map(counts, shared.trials()))
    assert count == num_trials
    reports.sort()
    return _row(
        num_workers, f"{num_trials / seconds:.1f}", _ms(asks[:100]), _ms(asks[-100:]), _ms(reports),
        f"{reports[int(0.99 * len(reports))] * 1000:.0f}", f"{max(megabytes):.0f}", _size(address),
    )  # fmt: skip


def _ms(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.1f}"


def _size(address: str) -> str:
    return f"{os.path.getsize(address) / 2**20:.1f}" if "://" not in address else "-"


def _row(*cells: Any) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", help="a database's URL (a journal file in a temporary folder)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--sampler", choices=["tpe", "random"], default="tpe")
    options = parser.parse_args()
    PROCESSES.set_forkserver_preload(["sweep.study.study"])
    print(
        _row(
            "workers", "trials/s", "ask, first 100 (ms)", "ask, last 100 (ms)", "report (ms)", "report, 99% (ms)",
            "memory of a worker (MB)", "storage (MB)",
        )
    )  # fmt: skip
    print(_row(*["---"] * 8))
    for num_workers in options.workers:
        with tempfile.TemporaryDirectory() as folder:
            address = options.storage or f"{folder}/optuna.journal"
            samplers = {
                "tpe": optuna.samplers.TPESampler(seed=0, group=True),
                "random": optuna.samplers.RandomSampler(0),
            }
            sampler = samplers[options.sampler]
            print(measure(address, Path(folder), num_workers, options.trials, sampler), flush=True)


if __name__ == "__main__":
    main()
