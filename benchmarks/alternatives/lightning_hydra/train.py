"""The study with Lightning and Hydra: configs that name the classes, and the stock hydra-optuna-sweeper.

python benchmarks/alternatives/lightning_hydra/train.py                       # one run
python benchmarks/alternatives/lightning_hydra/train.py -m search=optuna hydra.sweeper.n_trials=20 trainer.max_epochs=4

Other overrides: seed=0 data.root=FOLDER data.num_workers=2 num_threads=1; hydra/launcher=joblib hydra.sweeper.n_jobs=2
trains two at a time. Files go to logs/ in the working directory, the record to MLFLOW_TRACKING_URI.
"""

import logging
import warnings

import hydra
import lightning as L
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

warnings.filterwarnings("ignore", ".*does not have many workers.*")  # wants more than two cores have use for
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


@hydra.main(
    config_path="conf",
    config_name="train",
    execution_whitelist=("parts.*", "lightning.pytorch.*"),  # what configs may name
)
def train(cfg: DictConfig) -> float:
    """One trial: build what the config names, fit it; the test accuracy after the last epoch."""
    torch.set_num_threads(cfg.num_threads)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    logger = instantiate(cfg.logger)
    logger.log_hyperparams({name: cfg[name] for name in ("model", "data", "trainer", "seed")})  # opens the run
    data = instantiate(cfg.data)
    model = instantiate(cfg.model)
    callbacks = [instantiate(callback) for callback in cfg.callbacks.values()]
    trainer = instantiate(cfg.trainer, logger=logger, callbacks=callbacks)
    trainer.fit(model, datamodule=data)
    return trainer.callback_metrics["test/accuracy"].item()


if __name__ == "__main__":
    train()
