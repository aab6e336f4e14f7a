"""What the digits job says about itself. Light to import: torch waits inside the functions."""

from dataclasses import replace

from omegaconf import DictConfig

import sweep
from sweep import Dataset, Metric

SHARE = Metric(direction="maximize", is_share=True)
LOSS = Metric(direction="minimize")
HELD_OUT = ("data.validation",)
"""How many images are held out, and so which."""

PARAMETERS = "model/parameters"
"""The metric that counts what is trained."""

METRICS: dict[str, Metric] = {
    "test/accuracy": SHARE,
    "test/loss": LOSS,
    "val/accuracy": replace(SHARE, depends_on=HELD_OUT),
    "val/loss": replace(LOSS, depends_on=HELD_OUT),
    "train/loss": LOSS,
    PARAMETERS: Metric(direction="minimize", decimals=0, is_constant=True),
}
"""What a job measures, and which way it is better; those of val/ are there with data.validation above 0 only.

A metric of your own goes here, and into `train.train`, which computes it. Of one without a direction
a study asks for hydra.sweeper.direction.
"""


def _check(cfg: DictConfig) -> object:
    from sweep.digits import config, train

    checked = config.parse(cfg)
    train.check(checked)
    return checked


def _num_gpus(cfg: DictConfig) -> int:
    import torch

    from sweep.digits import loop

    return torch.cuda.device_count() if loop.pick_device(cfg.device).type == "cuda" else 0


def _dataset(cfg: DictConfig) -> Dataset:
    from sweep.digits import config, data

    used = config.parse(cfg).data
    return Dataset(used.name, data.load(used).digest, used.origin)


DIGITS = sweep.Job(
    check=_check,
    metrics=METRICS,
    seed="seed",
    threads="num_threads",
    free=("tracking.", "data.root", "device"),
    not_settings=("search", "output_dir"),
    named_by=("data.name", "model.name"),
    step="epoch",
    num_steps="epochs",
    num_gpus=_num_gpus,
    # The last is what the logging of a model is waiting for otherwise.
    preload=("sweep.digits.train", "mlflow.pytorch", "torch._dynamo"),
    dataset=_dataset,
)
