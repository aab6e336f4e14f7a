"""A hyperparameter sweep: Hydra composes training jobs, Optuna searches them, MLflow keeps the record.

Importing any part of it, also in a launcher's worker process, makes three names known to the configs:
`${project:NAME}`, the folder NAME under the project's root, whatever the working directory is,
`${half:NUMBER}`, half of a whole number, 1 or more, and `${help:}`, what --help shows of the config it stands in.
"""

import sys
from pathlib import Path

try:
    from omegaconf import DictConfig, OmegaConf

    from sweep import interrupts
except KeyboardInterrupt:  # in the first moments of a command, which cannot do better yet
    sys.exit(130)

__all__ = ["ROOT", "interrupts"]

ROOT = Path(__file__).resolve().parents[1]

OmegaConf.register_resolver("project", lambda name: str(ROOT / name), replace=True)
OmegaConf.register_resolver("half", lambda number: max(1, number // 2), replace=True)


def _help(*, _root_: DictConfig) -> str:
    from sweep.digits import help

    return help.text(_root_).replace("$", "$$")  # Hydra fills in a template


OmegaConf.register_resolver("help", _help, replace=True)
