"""Tell scikit-learn's handwritten digits apart: a LightningModule and a Trainer as Lightning's docs write them."""

import hydra
import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import sweep
from sweep.lightning import ReportToTrial


class Classifier(L.LightningModule):
    def __init__(self, width, dropout, lr):
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val/accuracy", (self.network(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


@hydra.main(config_path="conf", config_name="config")
@sweep.Job(metrics={"val/accuracy": sweep.Metric(direction="maximize", is_share=True)}, seed="seed", step="epoch")
def main(cfg):
    torch.set_num_threads(1)  # several would wait for each other more than they compute
    L.seed_everything(cfg.seed)
    x, y = (torch.tensor(part) for part in load_digits(return_X_y=True))
    train, val = random_split(TensorDataset(x.float() / 16, y), [0.8, 0.2], torch.Generator().manual_seed(0))
    trainer = L.Trainer(**cfg.trainer, default_root_dir=sweep.trial().folder, callbacks=[ReportToTrial()])
    trainer.fit(Classifier(**cfg.model), DataLoader(train, cfg.batch_size, shuffle=True), DataLoader(val, 500))
    sweep.trial().keep(trainer.checkpoint_callback.best_model_path)


if __name__ == "__main__":
    main()
