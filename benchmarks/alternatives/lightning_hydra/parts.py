"""What the configs name: the model with its training, and the data."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy
from torchvision import transforms
from torchvision.datasets import MNIST


class MLPModule(L.LightningModule):
    """The MLP 784-512-256-10 and how it is trained; takes (B, 1, 28, 28), gives logits (B, 10)."""

    def __init__(self, lr: float, dropout: float, weight_decay: float, label_smoothing: float) -> None:  # noqa: ARG002
        super().__init__()
        self.save_hyperparameters(logger=False)  # reads the arguments; train.py logs them, with the others
        self.net = nn.Sequential(
            nn.Flatten(), *self._hidden(784, 512, dropout), *self._hidden(512, 256, dropout), nn.Linear(256, 10)
        )
        self.accuracy = MulticlassAccuracy(num_classes=10, average="micro")

    @staticmethod
    def _hidden(in_features: int, width: int, dropout: float) -> list[nn.Module]:
        # The bias would be subtracted again by the batch norm that follows.
        return [nn.Linear(in_features, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)]

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self(x), y, label_smoothing=self.hparams["label_smoothing"])
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        x, y = batch
        self.accuracy(self(x), y)
        self.log("test/accuracy", self.accuracy, on_step=False, on_epoch=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        lr, weight_decay = self.hparams["lr"], self.hparams["weight_decay"]
        optimizer = torch.optim.AdamW(self.parameters(), lr=lr, weight_decay=weight_decay)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=lr, total_steps=int(self.trainer.estimated_stepping_batches), cycle_momentum=False
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class MNISTData(L.LightningDataModule):
    """MNIST, each image transformed as it is asked for. The test images take validation's part, after each epoch."""

    def __init__(self, root: str, batch_size: int, num_workers: int) -> None:
        super().__init__()
        self.root, self.batch_size = root, batch_size
        self.workers: dict[str, Any] = {"num_workers": num_workers, "persistent_workers": num_workers > 0}

    def prepare_data(self) -> None:
        for train in (True, False):
            MNIST(self.root, train=train, download=True)

    def setup(self, stage: str) -> None:  # noqa: ARG002, Lightning's signature
        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
        self.train = MNIST(self.root, train=True, transform=transform)
        self.test = MNIST(self.root, train=False, transform=transform)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True, drop_last=True, **self.workers)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.test, batch_size=1000, **self.workers)
