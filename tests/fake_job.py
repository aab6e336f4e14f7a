"""A job without torch whose epochs take 10 ms, for tests of slots, kills, resume and pruning.

Its value after each epoch comes nearer to 1 - (x - 0.5)^2: the higher, the better.
"""

import time

import hydra
from omegaconf import DictConfig

import sweep


def curve(x: float, epochs: int) -> list[float]:
    """The value after each epoch."""
    return [(1 - (x - 0.5) ** 2) * (1 - 0.5**epoch) for epoch in range(1, epochs + 1)]


@hydra.main(config_path=None, config_name="fake_job")
@sweep.Job(metrics={"val/score": sweep.Metric(direction="maximize", is_share=True)}, step="epoch", seed="seed")
def main(cfg: DictConfig) -> None:
    """Report a curve."""
    for epoch, value in enumerate(curve(cfg.x, cfg.epochs), 1):
        time.sleep(cfg.seconds)
        sweep.trial().report(epoch, {"val/score": value}, of=cfg.epochs)


if __name__ == "__main__":
    from hydra.core.config_store import ConfigStore

    from sweep.plugin.sweeper import register_plugin

    register_plugin()
    settings = {"x": 0.1, "epochs": 3, "seed": 0, "seconds": 0.01, "note": ""}
    ConfigStore.instance().store("fake_job", settings)
    main()
