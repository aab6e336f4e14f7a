"""The decorator by which a training job says what it is, and is run as a trial.

@hydra.main(config_path="conf", config_name="config")
@sweep.Job(metrics={"val/rmse": sweep.Metric(direction="minimize")}, seed="seed")
def main(cfg): ...
"""

import functools
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig

from sweep import project
from sweep.description import Description, Task


@dataclass(frozen=True, kw_only=True)
class Job(Description):
    """What a training job says about itself, as a decorator of its function, under `@hydra.main`.

    Each field has a default. A decorated function that is run by itself, outside of a study, is recorded as a single
    run.
    """

    def __call__(self, task: Task) -> Task:
        """`task`, a function that takes the composed config, as a job that says this about itself.

        Its project is then the one whose root is meant, see `sweep.project`.
        """
        project.settle(task)

        @functools.wraps(task)
        def run(cfg: DictConfig) -> Any:
            from sweep.running import run_job  # it brings the record along, which `--help` need not wait for

            return run_job(self, task, cfg)

        run.sweep_job = self  # type: ignore[attr-defined]
        return run


def of(task: Any) -> Job:
    """What the job `task` says about itself; what a job that says nothing does, if it says nothing."""
    return getattr(task, "sweep_job", None) or Job()


def as_job(task: Task) -> Task:
    """`task`, attached to a job that says nothing if it is not attached to one."""
    return task if hasattr(task, "sweep_job") else Job(active_run=False)(task)
