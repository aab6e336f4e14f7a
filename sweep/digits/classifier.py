"""The trained classifier: the network with its preprocessing, and the files that it is loaded from."""

import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from sweep import SweepError, in_one_line
from sweep.digits import batches
from sweep.digits import config as configs
from sweep.digits.config import Config

WEIGHTS_FILE = "weights.pt"
CONFIG_FILE = "config.yaml"


class Classifier(nn.Sequential):
    """A network with its preprocessing before it: it takes images (B, C, H, W) in [0, 1] and returns logits."""

    transform: batches.ImageTransform
    network: nn.Module

    def __init__(self, transform: batches.ImageTransform, network: nn.Module) -> None:
        super().__init__(OrderedDict(transform=transform, network=network))


def build_classifier(config: Config, mean: float = 0.0, std: float = 1.0) -> Classifier:
    """Return the untrained classifier of `config`, which normalises by `mean` and `std`."""
    transform = batches.ImageTransform(mean, std, config.data.image_shape, config.model.flatten)
    return Classifier(transform, config.model.build(config.data.image_shape, len(config.data.classes)))


def load_classifier(folder: str | Path) -> Classifier:
    """Return the trained classifier from the config.yaml and weights.pt that a trial left in `folder`.

    Nothing in the files is run: the settings are plain values, and the weights tensors.

    Returns:
        In evaluation mode, on the CPU; it takes images (B, C, H, W) in [0, 1], as torchvision's ToTensor
        makes them, and gives logits (B, num_classes).

    Raises:
        SweepError: The files are not there, are damaged, or do not belong together.
    """
    config, weights = load_config(folder), load_weights(folder)
    classifier = classifier_for(config, weights)
    classifier.load_state_dict(weights, assign=True)
    return classifier.eval()


def classifier_for(config: Config, weights: Mapping[str, torch.Tensor]) -> Classifier:
    """Return the classifier of `config` with these `weights`.

    Raises:
        SweepError: The weights are another model's.
    """
    with torch.device("meta"):  # shapes only: what takes memory is no more than what the file holds
        classifier = build_classifier(config)
    expected = classifier.state_dict()
    for name in sorted({*expected, *weights}):
        theirs, ours = (_described(tensors.get(name)) for tensors in (weights, expected))
        if theirs != ours:
            raise SweepError(
                f"{WEIGHTS_FILE}: it is another model's than {CONFIG_FILE} says: its {name[:100]!r} is {theirs}, "
                f"not {ours}"
            )
    return classifier


def _described(tensor: torch.Tensor | None) -> str:
    return "missing" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def load_config(folder: str | Path) -> Config:
    """Return the settings in the config.yaml in `folder`.

    Raises:
        SweepError: The file is not there, is damaged, or its values are not allowed.
    """
    return read_config(Path(folder) / CONFIG_FILE)


def read_config(path: Path) -> Config:
    """Return the settings in the file at `path`; see `load_config`."""
    try:
        return configs.from_yaml(path.read_bytes())
    except OSError as error:
        raise SweepError(f"{path.parent}: no {CONFIG_FILE} to load ({error.strerror})") from error
    except SweepError as error:
        raise SweepError(f"{CONFIG_FILE}: {in_one_line(error, 300)}") from error


def load_weights(folder: str | Path) -> dict[str, torch.Tensor]:
    """Return the tensors in the weights.pt in `folder`, by name.

    Raises:
        SweepError: The file is not there, is damaged, or holds something else.
    """
    return read_weights(Path(folder) / WEIGHTS_FILE)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors in the file at `path`, by name; see `load_weights`."""
    try:
        with zipfile.ZipFile(path) as archive:  # stored as they are, or a small file could fill the memory
            if any(member.file_size != member.compress_size for member in archive.infolist()):
                raise ValueError("it is compressed")
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise SweepError(f"{path.parent}: no {WEIGHTS_FILE} to load ({error.strerror})") from error
    except Exception as error:  # whatever zip, pickle and torch raise of what they cannot read
        raise SweepError(
            f"{WEIGHTS_FILE}: it is damaged, or holds something other than tensors, which is not loaded "
            f"({type(error).__name__})"
        ) from error
    if not isinstance(found, dict) or not all(map(_is_dense, found.values())) or not all(map(_is_text, found)):
        raise SweepError(f"{WEIGHTS_FILE}: it does not hold tensors by their names")
    size = sum(tensor.numel() * tensor.itemsize for tensor in found.values())
    if size > path.stat().st_size:
        raise SweepError(f"{WEIGHTS_FILE}: it is damaged: {path.stat().st_size:,} bytes, for tensors of {size:,}")
    return found


def _is_dense(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and value.device.type == "cpu"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def load_classes(folder: str | Path) -> tuple[str, ...]:
    """Return the names of the classes of the classifier in `folder`, in the order of its logits."""
    return load_config(folder).data.classes
