"""A hyperparameter sweep: Hydra composes training jobs, Optuna searches them, MLflow keeps the record.

Importing any part of it, also in a launcher's worker process, makes `${project:NAME}` known to the
configs: the folder NAME under the project's root, whatever the working directory is.
"""

from pathlib import Path

from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]

OmegaConf.register_resolver("project", lambda name: str(ROOT / name), replace=True)
