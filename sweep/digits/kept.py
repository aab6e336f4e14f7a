"""Hooks of the digits job for runs that have ended: verify their model, train them again, compare their weights."""

import dataclasses
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from sweep import Kept, SweepError, Verified, pytorch
from sweep.digits import batches, data, datasets, exported, loop
from sweep.digits import config as configs
from sweep.digits.classifier import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Classifier,
    classifier_for,
    load_classifier,
    load_config,
    read_config,
    read_weights,
)
from sweep.digits.job import DEVICE_TAG, PRECISION_TAG, THREADS_TAG

MODEL_FOLDER = "model"
"""Name of the folder with the MLflow model."""

METRIC = "test/accuracy"

FLIPS_PER_IMAGE = 0.0002
"""Share of the images that may be classified otherwise than recorded: two of MNIST's 10,000.

Another processor adds in another order, which can flip an image on the border between two digits. One image may flip
in any case.
"""


def verify(folder: Path, kept: Kept, trust: bool) -> Verified:
    """Check that the model in `folder` scores on the test set as recorded, both from its weights and as MLflow's.

    The data are read from SWEEP_DATA_ROOT, or else from where they lay in training.

    Args:
        folder: Folder with weights.pt, config.yaml and model/ as they were kept; model/ is made anew unless `trust`.
        kept: The run that kept them.
        trust: Whether to take model/, and so to run what is in it, as it is.

    Raises:
        SweepError: A file is damaged, code in it would be run, or the model does not score as recorded.
    """
    classifier = load_classifier(folder)
    settings = data.with_local_root(load_config(folder).data)
    _require_recorded(kept, "weights", classifier, settings)
    doubt = "" if trust else _replace_model(classifier, settings, folder)
    _require_recorded(kept, "MLflow model", pytorch.load_model(folder / MODEL_FOLDER), settings)
    return Verified(how_to_load(folder, settings), doubt)


def _replace_model(classifier: Classifier, settings: datasets.DataConfig, folder: Path) -> str:
    """Make the MLflow model in `folder` anew from `classifier`.

    Returns:
        Why the one that was there may be another, empty if it is the same.
    """
    logged = folder / MODEL_FOLDER
    test = batches.ImageBatches(data.load(settings).splits.test)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".model-") as temporary:
        made = Path(temporary) / MODEL_FOLDER
        pytorch.save_model(classifier, test[torch.arange(2)][0], made)
        try:
            doubt = exported.compare_models(logged, made)
        except SweepError as error:
            raise SweepError(
                f"{error}; not loaded. --trust takes it as it is and runs what is in it; sweep predict reads "
                f"{WEIGHTS_FILE} alone"
            ) from error
        shutil.rmtree(logged)
        os.replace(made, logged)
    return doubt


def score(model: Callable[[Tensor], Tensor], settings: datasets.DataConfig) -> float:
    """Return the accuracy on the test set of a `model`, in evaluation mode, that takes images in [0, 1]."""
    test = data.load(settings).splits.test
    return loop.evaluate(model, batches.evaluation_loader(batches.ImageBatches(test))).accuracy


def _require_recorded(kept: Kept, what: str, model: Callable[[Tensor], Tensor], settings: datasets.DataConfig) -> None:
    """Score `model`, print that it is as good as recorded, or raise a SweepError.

    `what` names it in the messages.
    """
    recorded = kept.metrics.get(METRIC, math.nan)
    if not math.isfinite(recorded):
        raise SweepError(f"it has no {METRIC} recorded to compare with; do not use it")
    accuracy = score(model, settings)
    num_images = len(data.load(settings).splits.test.labels)
    flips = round(abs(accuracy - recorded) * num_images)
    if flips > max(1, FLIPS_PER_IMAGE * num_images):
        raise SweepError(
            f"its {what} scores {accuracy:.4f} on the test set of {settings.name}, "
            f"recorded is {recorded:.4f} ({flips} images apart); do not use it"
        )
    print(f"{what:12}  {METRIC} {accuracy:.2%}, as recorded")


def how_to_load(folder: Path, settings: datasets.DataConfig) -> str:
    """Return code that uses the model in `folder`, which takes images like those of `settings`."""
    shape = ", ".join(map(str, settings.image_shape))
    return f"""\
{folder}/ holds model/ (MLflow's), weights.pt (torch.save) and config.yaml.

with mlflow and torch, this project not needed:
    import mlflow
    model = mlflow.pytorch.load_model("{folder}/model")

with torch alone:
    import torch
    model = torch.export.load("{folder}/model/data/model.pt2").module()

with this project, to train on or to change:
    from sweep.digits.classifier import load_classifier
    model = load_classifier("{folder}")

each takes images as float32 (N, {shape}), 0 black to 1 white, and gives a score for each class of {settings.name}
({", ".join(settings.classes)}):
    predicted = model(images).argmax(dim=1)"""


def again(settings: DictConfig, tags: Mapping[str, str]) -> DictConfig:
    """Return recorded `settings` with `auto` and null replaced by their values in the run's `tags`, if possible here.

    The data are read from SWEEP_DATA_ROOT, or else from where they lay.

    Raises:
        SweepError: This version of the project does not allow the settings.
    """
    config = configs.from_yaml(OmegaConf.to_yaml(settings))  # not resolved, whoever recorded them
    device = tags.get(DEVICE_TAG, config.device)
    try:
        loop.pick_device(device)
    except SweepError:
        device = config.device  # the result then is another, and the device is named as a reason
    num_threads = tags.get(THREADS_TAG, "")
    config = dataclasses.replace(
        config,
        data=data.with_local_root(config.data),
        device=device,
        precision=tags.get(PRECISION_TAG, config.precision),
        num_threads=int(num_threads) if num_threads.isdecimal() and int(num_threads) else config.num_threads,
    )
    return OmegaConf.create(dataclasses.asdict(config))


class WeightsDifference(NamedTuple):
    """The difference between two tensors of weights."""

    name: str
    num_weights: int
    num_differ: int
    """Number of weights that differ; all of them if the shape or type differs."""
    largest: float
    """Largest difference between two weights; NaN if the shape or type differs."""


def differences(then: Kept, now: Kept) -> list[str]:
    """Return lines on how the weights of two runs differ; empty if they are bit for bit the same, or none were kept.

    Raises:
        SweepError: The weights are damaged, or another model's than the run's settings say.
    """
    weights = [_weights_of(run) for run in (then, now)]
    differing = differing_weights(*weights)
    if not differing:
        return []
    missing = [when for when, found in zip(("then", "now"), weights, strict=True) if not found]
    if missing:
        return [f"weights: none were kept {missing[0]}"]
    num_differ, worst = sum(one.num_differ for one in differing), differing[0]
    by = f"by up to {worst.largest:.2g} (in {worst.name})"
    if math.isnan(worst.largest):
        by = f"{worst.name} in its shape, type or name"
    num_tensors = len({*weights[0], *weights[1]})
    return [f"weights: {num_differ:,} differ, in {len(differing)} of {num_tensors} tensors, {by}"]


def _weights_of(run: Kept) -> dict[str, Tensor]:
    """Return the weights that `run` has kept, empty if it kept none."""
    path, config = run.file(WEIGHTS_FILE), run.file(CONFIG_FILE)
    found = {} if path is None else read_weights(path)
    if path is not None and config is not None:
        classifier_for(read_config(config), found)
    return found


def differing_weights(then: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> list[WeightsDifference]:
    """Return the differences of the tensors that are not bit for bit the same, the largest first."""
    found = []
    for name in [*then, *(name for name in now if name not in then)]:
        a, b = then.get(name), now.get(name)
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            size = (b if a is None else a).numel()  # type: ignore[union-attr]
            found.append(WeightsDifference(name, size, size, math.nan))
        elif num_differ := int((_bytes(a) != _bytes(b)).any(dim=1).sum()):
            largest = (a.double() - b.double()).abs().max().item()
            found.append(WeightsDifference(name, a.numel(), num_differ, largest))
    return sorted(found, key=lambda one: (not math.isnan(one.largest), -one.largest))


def _bytes(tensor: Tensor) -> Tensor:
    """Return a tensor's bytes, (..., bytes of one number), for which -0 is not 0, and one NaN equals another."""
    return tensor.contiguous().flatten().view(torch.uint8).reshape(tensor.numel(), -1)
