"""Minimise Himmelblau's function: a job that returns a number and imports nothing of the framework."""

import hydra
from omegaconf import DictConfig


@hydra.main(config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float:
    """The height at the point (x, y); four points have the height 0."""
    return (cfg.x**2 + cfg.y - 11) ** 2 + (cfg.x + cfg.y**2 - 7) ** 2


if __name__ == "__main__":
    main()
