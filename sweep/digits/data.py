"""Data sets ready for use: read once, checked, split, and kept in memory for the trials that follow."""

import dataclasses
import functools
import hashlib
import os
import traceback
from typing import NamedTuple

import torch
from omegaconf import OmegaConf
from torch import Tensor

from sweep import SweepError, in_one_line, require
from sweep.digits import CONF
from sweep.digits.datasets import ROOT_VARIABLE, DataConfig, IDXConfig, LabelledImages


class Splits(NamedTuple):
    """A data set's three splits: to train on, to choose by, to report on."""

    train: LabelledImages
    val: LabelledImages
    """Images held out from the training set; empty unless `data.validation` is above 0."""
    test: LabelledImages


class DataSet(NamedTuple):
    """A data set in memory, with its name and statistics."""

    splits: Splits
    mean: float
    """Mean of the training images' pixels, in [0, 1]."""
    std: float
    """Standard deviation of the same pixels."""
    digest: str
    """The first 16 hex digits of the SHA-256 of all images and labels."""


def load(config: DataConfig) -> DataSet:
    """Return the data set of `config`, read and checked.

    It is kept in memory for the trials that follow in this process.

    Raises:
        SweepError: See `DataConfig.prepare`; or it is not fit to train on, or has too few images for the settings.
    """
    # What changes from trial to trial but not the images is left out of the cache's key.
    dataset = _load(dataclasses.replace(config, batch_size=1, shift=0))
    left = len(dataset.splits.train.labels)
    allowed = f"must be 1 or more and at most {left}, the images to train on"
    require(config.batch_size <= left, "data.batch_size", config.batch_size, allowed)
    return dataset


def with_local_root(config: DataConfig) -> DataConfig:
    """Return `config`, of a run made elsewhere or earlier, with a root where the data lie here.

    That is SWEEP_DATA_ROOT for torchvision's data sets, and for those of one's own whose YAML names it as their root;
    else the root that the run had.
    """
    root = os.environ.get(ROOT_VARIABLE)
    if not root or not (isinstance(config, IDXConfig) or ROOT_VARIABLE in _default_root(config.name)):
        return config
    there = dataclasses.replace(config, root=root)
    return there if there.is_there() or not config.is_there() else config


def _default_root(name: str) -> str:
    """Return the root in the YAML of the data set called `name`, as it is written; empty if there is none."""
    path = CONF / "data" / f"{name}.yaml"
    written = OmegaConf.to_container(OmegaConf.load(path), resolve=False) if path.is_file() else {}
    return str(written.get("root", "")) if isinstance(written, dict) else ""


@functools.lru_cache(maxsize=1)
def _load(config: DataConfig) -> DataSet:
    train, test = _read(config)
    num_train = len(train.labels)
    allowed = f"must be 0 or more and below {num_train}, the training images of {config.name}"
    require(config.validation < num_train, "data.validation", config.validation, allowed)
    digest = hashlib.sha256()
    for tensor in (*train, *test):
        digest.update(tensor.numpy().tobytes())
    # Drawn from a generator of its own: whatever a trial's seed, the same images are held out.
    order = torch.randperm(num_train, generator=torch.Generator().manual_seed(0))
    held_out, kept = order[: config.validation], order[config.validation :].sort().values
    splits = Splits(
        train=LabelledImages(*(tensor[kept] for tensor in train)) if config.validation else train,
        val=LabelledImages(*(tensor[held_out] for tensor in train)),
        test=test,
    )
    mean, std = _mean_and_std(splits.train.images)
    if std == 0:
        raise SweepError(f"data.root={config.root}: all pixels of {_sources(config)[0]} are {round(255 * mean)}")
    return DataSet(splits, mean, std, digest.hexdigest()[:16])


def _read(config: DataConfig) -> tuple[LabelledImages, LabelledImages]:
    """Return the training set and the test set of `config`, checked.

    Raises:
        SweepError: The files cannot be read, or their content is not what `config` says.
    """
    try:
        config.prepare()
        train, test = (LabelledImages(*split) for split in config.read())
    except SweepError:
        raise
    except Exception as error:  # whatever the reader of somebody's own data raises
        code = type(config).read.__code__.co_filename
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == code]
        where = f"; {os.path.relpath(code)}, line {lines[-1]}" if lines else ""
        reason = f"{type(error).__name__}: {in_one_line(error, 300)}"
        raise SweepError(f"data.root={config.root}: {config.name} cannot be read ({reason}{where})") from error
    of_train, of_test = _sources(config)
    return _checked(config, of_train, *train), _checked(config, of_test, *test)


def _sources(config: DataConfig) -> tuple[str, str]:
    """Return names of the training set and the test set for errors: their files where those are known."""
    return config.files if len(config.files) == 2 else ("the training set", "the test set")


def _checked(config: DataConfig, source: str, images: Tensor, labels: Tensor) -> LabelledImages:
    """Return `images` and `labels` as a data set, if each image has one of the classes.

    Raises:
        SweepError: They are none; the error calls them `source`.
    """

    def require_that(condition: bool, is_so: str, wanted: str) -> None:
        if not condition:
            raise SweepError(f"data.root={config.root}: {source} has {is_so}; wanted is {wanted}")

    for what, given in {"images": images, "labels": labels}.items():
        require_that(isinstance(given, Tensor), f"{what} of the type {type(given).__name__}", "a tensor of torch's")
    shape = f"(N, {', '.join(map(str, config.image_shape))})"
    is_shaped = images.ndim == 4 and images.shape[1:] == config.image_shape
    require_that(is_shaped, f"images of shape {tuple(images.shape)}", f"{shape}, N images")
    require_that(len(images) > 0, "no images", "one or more")
    require_that(images.dtype == torch.uint8, f"images {_type_and_range(images)}", "uint8, 0 for black to 255")
    require_that(labels.ndim == 1, f"labels of shape {tuple(labels.shape)}", "(N,), a number for each image")
    counts = f"{len(images):,} images and {len(labels):,} labels"
    require_that(len(images) == len(labels), counts, "as many of the one as of the other")
    is_whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    require_that(is_whole, f"labels {_type_and_range(labels)}", "whole numbers")
    numbers, last = labels.long(), len(config.classes) - 1
    is_class = bool(((numbers >= 0) & (numbers <= last)).all())
    require_that(is_class, f"labels {_type_and_range(labels)}", f"0 to {last}, the places in its classes")
    return LabelledImages(images, numbers)


def _type_and_range(values: Tensor) -> str:
    array = values.numpy()
    low, high = array.min(), array.max()
    nan = " with NaN among them" if low != low else f" from {low} to {high}"  # NaN is not equal to itself
    return f"of type {array.dtype}{nan}"


def _mean_and_std(images: Tensor) -> tuple[float, float]:
    """Return mean and standard deviation of uint8 `images` over all pixels, on the scale of 0 to 1."""
    counts = torch.bincount(images.flatten(), minlength=256).double()
    share = counts / counts.sum()
    value = torch.arange(256, dtype=torch.float64) / 255
    mean = (share * value).sum()
    std = (share * (value - mean) ** 2).sum().sqrt()
    return mean.item(), std.item()
