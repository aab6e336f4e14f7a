"""A hyperparameter sweep: Hydra composes training jobs, Optuna searches them, MLflow keeps the record.

What a training job needs is here: `Job`, by which it says what it is; `trial()`, to which it reports; the exceptions.

Importing any part of it, also in a launcher's worker process, makes two names known to the configs:
`${project:NAME}`, the folder NAME under the project's root, whatever the working directory is, and
`${half:NUMBER}`, half of a whole number, 1 or more.
"""

import sys

try:
    from omegaconf import OmegaConf

    from sweep import interrupts, project
except KeyboardInterrupt:  # in the first moments of a command, which cannot do better yet
    sys.exit(130)

OmegaConf.register_resolver("project", lambda name: str(project.root() / name), replace=True)
OmegaConf.register_resolver("half", lambda number: max(1, number // 2), replace=True)

try:
    from sweep.errors import Pruned, Stopped, SweepError  # the names above must be known first
    from sweep.hooks import Kept, PerExample, Section, Verified
    from sweep.job import Dataset, Job, Metric
    from sweep.trial import Trial, trial
except KeyboardInterrupt:
    sys.exit(130)

__all__ = [
    "Dataset", "Job", "Kept", "Metric", "PerExample", "Pruned", "Section", "Stopped", "SweepError", "Trial",
    "Verified", "interrupts", "trial",
]  # fmt: skip
