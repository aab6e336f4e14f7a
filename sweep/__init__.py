"""A hyperparameter sweep: Hydra composes training jobs, Optuna searches them, MLflow keeps the record.

Importing any part of it, also in a launcher's worker process, makes two names known to the configs:
`${project:NAME}`, the folder NAME under the project's root, whatever the working directory is, and
`${half:NUMBER}`, half of a whole number, 1 or more.
"""

from pathlib import Path

from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]

OmegaConf.register_resolver("project", lambda name: str(ROOT / name), replace=True)
OmegaConf.register_resolver("half", lambda number: max(1, number // 2), replace=True)
