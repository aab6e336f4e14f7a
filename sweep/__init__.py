"""A hyperparameter sweep: Hydra composes training jobs, Optuna searches them, MLflow keeps the record.

What a training job may import is here: `Job`, the decorator that describes it; `trial()`, to which it reports; the
exceptions; the types that its hooks take and return; and helpers for one-line errors, atomic writes and safe reading.

Importing any part of the package, also in a launcher's worker process, registers two resolvers for configs:
`${project:NAME}`, the folder NAME under the project's root, whatever the working directory is, and `${half:NUMBER}`,
half of a whole number, 1 or more.
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
    # The names above must be known first.
    from sweep.description import Dataset, Metric
    from sweep.errors import Pruned, Stopped, SweepError, explain, in_one_line, one_of, require
    from sweep.files import expanded, replacing
    from sweep.hooks import Kept, PerExample, Section, Verified
    from sweep.job import Job
    from sweep.plain import plain_settings, plain_yaml
    from sweep.trial import Trial, trial
except KeyboardInterrupt:
    sys.exit(130)

__all__ = [
    "Dataset", "Job", "Kept", "Metric", "PerExample", "Pruned", "Section", "Stopped", "SweepError", "Trial",
    "Verified", "expanded", "explain", "in_one_line", "interrupts", "one_of", "plain_settings", "plain_yaml",
    "replacing", "require", "trial",
]  # fmt: skip
