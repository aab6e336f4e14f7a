"""The parts taken from the hydra-optuna-sweeper plugin: its reading of search spaces and its sampler factories.

The public names of the plugin are its sweeper and the sweeper's settings only. These parts lie in its module `_impl`,
under names without an underscore; they are imported here and nowhere else.
"""

from hydra_plugins.hydra_optuna_sweeper._impl import (
    create_nsgaii_sampler,
    create_nsgaiii_sampler,
    create_params_from_overrides,
)

__all__ = ["create_nsgaii_sampler", "create_nsgaiii_sampler", "create_params_from_overrides"]
