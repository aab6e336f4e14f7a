"""A study in Optuna: its storage, search space, samplers and search. The only room that imports Optuna's storages."""
