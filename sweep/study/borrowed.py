"""What is taken from the hydra-optuna-sweeper plugin: the reading of a search space, and its factories of samplers.

The plugin makes public its sweeper and the settings of it only. What it searches with lies in its module `_impl`,
under names that are not private: they are imported here and nowhere else.
"""

from hydra_plugins.hydra_optuna_sweeper._impl import (
    create_nsgaii_sampler,
    create_nsgaiii_sampler,
    create_params_from_overrides,
)

__all__ = ["create_nsgaii_sampler", "create_nsgaiii_sampler", "create_params_from_overrides"]
