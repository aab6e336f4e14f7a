"""The decorator by which a training job describes itself, and is run as a trial.

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
    """The description of a training job, as a decorator of its function, under `@hydra.main`.

    Each field has a default. A decorated function that is run by itself, outside of a study, is recorded as a single
    run.
    """

    def __call__(self, task: Task) -> Task:
        """Return `task`, a function that takes the composed config, as a job with this description.

        The root becomes that of the job's project, see `sweep.project`.
        """
        project.settle_root(task)

        @functools.wraps(task)
        def run(cfg: DictConfig) -> Any:
            from sweep.running import run_job  # it brings the record along, which `--help` need not wait for

            return run_job(self, task, cfg)

        run.sweep_job = self  # type: ignore[attr-defined]
        return run


def of(task: Any) -> Job:
    """Return the description of the job `task`, or that of a job that says nothing."""
    return getattr(task, "sweep_job", None) or Job()


def as_job(task: Task) -> Task:
    """Return `task`, decorated with a `Job` that says nothing if it is not decorated yet."""
    return task if hasattr(task, "sweep_job") else Job(active_run=False)(task)
