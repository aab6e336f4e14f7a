"""The description of the digits job. Light to import: torch is imported inside the functions."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

import sweep
from sweep import Dataset, Kept, Metric, PerExample, Section, Verified

SHARE = Metric(direction="maximize", is_share=True)
LOSS = Metric(direction="minimize")
HELD_OUT = ("data.validation",)
"""Keys that decide how many images are held out, and so which."""

PARAMETERS = "model/parameters"
"""Name of the metric that counts the model's parameters."""

METRICS: dict[str, Metric] = {
    "test/accuracy": SHARE,
    "test/loss": LOSS,
    "val/accuracy": replace(SHARE, depends_on=HELD_OUT),
    "val/loss": replace(LOSS, depends_on=HELD_OUT),
    "train/loss": LOSS,
    PARAMETERS: Metric(direction="minimize", decimals=0, is_constant=True),
}
"""The metrics of the job; those of val/ exist only with data.validation above 0.

A metric of your own goes here, and into `train.train`, which computes it. Of one without a direction
a study asks for hydra.sweeper.direction.
"""

DEVICE_TAG = "sweep.device"
PROCESSOR_TAG = "sweep.processor"
PRECISION_TAG = "sweep.precision"
THREADS_TAG = "sweep.num_threads"
TORCH_TAG = "sweep.torch"
PARAMETERS_TAG = "sweep.parameters"


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


def _verify(folder: Path, kept: Kept, trust: bool) -> Verified:
    from sweep.digits import kept as runs

    return runs.verify(folder, kept, trust)


def _again(settings: DictConfig, tags: Mapping[str, str]) -> DictConfig:
    from sweep.digits import kept as runs

    return runs.again(settings, tags)


def _differences(then: Kept, now: Kept) -> list[str]:
    from sweep.digits import kept as runs

    return runs.differences(then, now)


def _nondeterminism(kept: Kept) -> list[str]:
    threads, device = kept.tags.get(THREADS_TAG, "1"), kept.tags.get(DEVICE_TAG, "cpu")
    return [
        *([f"{threads} threads: they may add in another order each time"] if threads != "1" else []),
        *([f"{device}: some of its kernels may add in another order each time"] if device != "cpu" else []),
    ]


def _per_example(kept: Kept, metric: str) -> PerExample | None:
    from sweep.digits import evaluation

    return evaluation.per_example(kept, metric)


def _sections(kept: Kept) -> Iterable[Section]:
    from sweep.digits import evaluation

    return evaluation.sections(kept)


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
    model_files=("weights.pt", "config.yaml"),
    verify=_verify,
    per_example=_per_example,
    sections=_sections,
    again=_again,
    differences=_differences,
    nondeterminism=_nondeterminism,
    circumstances={
        TORCH_TAG: "torch",
        DEVICE_TAG: "the device",
        PROCESSOR_TAG: "the processor",
        PRECISION_TAG: "the precision",
        THREADS_TAG: "the number of threads",
    },
)
