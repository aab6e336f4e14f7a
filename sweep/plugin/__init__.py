"""What Hydra sees: the sweeper, its settings, launchers and worker processes. Light to import."""
