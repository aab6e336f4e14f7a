"""The job that ships: a classifier of handwritten digits.

Importing it makes `${help:}`, the text of `python sweep/train.py --help`, known to its config.
"""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).resolve().parents[2] / "conf"
"""The folder with the job's choices."""


def _help(*, _root_: DictConfig) -> str:
    from sweep.digits import help

    return help.text(_root_).replace("$", "$$")  # Hydra fills in a template


OmegaConf.register_resolver("help", _help, replace=True)
