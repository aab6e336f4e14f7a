"""A job composed from conf/ as train.py does it, without training it."""

import hydra

from sweep import ROOT, config


def compose(*overrides: str) -> config.Config:
    """The job that these overrides make."""
    with hydra.initialize_config_dir(str(ROOT / "conf")):
        return config.parse(hydra.compose("config", list(overrides)))
