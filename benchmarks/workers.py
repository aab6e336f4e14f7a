"""What a second worker is worth on two cores, how soon workers are ready, and how much memory one holds.

python benchmarks/workers.py
python benchmarks/workers.py --trials 20 --epochs 4 --rounds 3
"""

import argparse
import json
import statistics
import threading
from typing import Any

import psutil
import studies
from studies import Study, Task

SECONDS_BETWEEN_LOOKS = 0.2


class Watch(threading.Thread):
    """Looks, until stopped, at how much memory the workers among this process's descendants hold, in MB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._is_over = threading.Event()
        self.own: dict[int, float] = {}
        """The most that each worker, by its process id, held in pages that no other process has."""
        self.shared_once: dict[int, float] = {}
        """The same where a page that several processes have counts as a part for each."""

    def run(self) -> None:
        while not self._is_over.wait(SECONDS_BETWEEN_LOOKS):
            for process in psutil.Process().children(recursive=True):
                try:
                    parent = process.parent()
                    # Workers are forked from a server process, whose command line they keep.
                    if parent is None or "forkserver" not in " ".join(parent.cmdline()):
                        continue
                    memory = process.memory_full_info()
                except psutil.Error:  # it has ended meanwhile
                    continue
                for record, size in ((self.own, memory.uss), (self.shared_once, memory.pss)):
                    record[process.pid] = max(record.get(process.pid, 0.0), size / 2**20)

    def stop(self) -> None:
        """Look no more."""
        self._is_over.set()
        self.join()


def run_study(task: Task, num_workers: int) -> Study:
    """A study of ours, without pruning, whose trials have a thread each."""
    overrides = (studies.UNPRUNED, "num_threads=1", f"hydra.sweeper.n_jobs={num_workers}")
    return studies.run_study(f"{num_workers} workers", studies.ours(task, *overrides), task.num_trials)


def measure(num_trials: int, epochs: int, num_rounds: int) -> dict[str, Any]:
    """The figures, for JSON; studies with one worker and with two take turns."""
    task = Task(num_trials, epochs, 0, studies.data_root())
    watch = Watch()
    watch.start()
    rounds = [(run_study(task, 1), run_study(task, 2)) for _ in range(num_rounds)]
    watch.stop()
    speedups = [two.trials_per_hour / one.trials_per_hour for one, two in rounds]
    ready = [two.starts[:2] for _, two in rounds]
    return {
        "num_trials": num_trials,
        "epochs": epochs,
        "speedup": statistics.median(speedups),
        "speedup_of_rounds": speedups,
        "seconds_to_first_trials": [statistics.median(each) for each in zip(*ready, strict=True)],
        "own_megabytes": max(watch.own.values()),
        "megabytes_shared_once": max(watch.shared_once.values()),
    }


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    print(json.dumps(measure(options.trials, options.epochs, options.rounds), indent=2))


if __name__ == "__main__":
    main()
