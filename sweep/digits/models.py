"""The networks, each beside its settings.

Adding one is a class, its config with `name` and `build`, conf/model/NAME.yaml with its values and
conf/search/NAME.yaml with its search space. docs/digits.md does it step by step.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from sweep import require

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


@dataclass(frozen=True, kw_only=True)
class ModelConfig(ABC):
    """The settings of a network; each kind of network has a subclass."""

    name: str  # a Literal in each subclass
    """What model=NAME chooses."""

    flatten: ClassVar[bool]
    """Whether the network takes images as vectors (B, C*H*W) rather than as (B, C, H, W)."""

    @abstractmethod
    def build(self, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return the network, freshly initialised from torch's global random state.

        Args:
            image_shape: (C, H, W) of one image.
            num_classes: How many logits come out.

        Raises:
            SweepError: These settings and this image size do not go together.
        """


class Dropout(nn.Dropout):
    """Dropout (Srivastava et al., 2014, https://jmlr.org/papers/v15/srivastava14a.html), drawn faster on the CPU.

    There torch draws 64 bits for each unit, one after another, which took a fifth of a small MLP's step.
    Here four units share one, and the probability is rounded to a multiple of 2**-15.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Zero each unit with the probability `p` in training, and scale the others up; any shape."""
        if not self.training or x.device.type != "cpu":
            return super().forward(x)
        num_drawn = -(-x.numel() // 4)
        drawn = torch.empty(num_drawn, dtype=torch.int64).random_()  # 63 bits: the highest of every fourth int16 is 0
        uniform = (drawn.view(torch.int16)[: x.numel()] & 0x7FFF).view(x.shape)  # 0 to 2**15 - 1
        keep = (uniform >= round(self.p * 2**15)).to(x.dtype)
        return x * keep.mul_(1 / (1 - self.p))


@dataclass(frozen=True, kw_only=True)
class MLPConfig(ModelConfig):
    """The settings of a multilayer perceptron."""

    name: Literal["mlp"]

    widths: list[int]
    """Units in each hidden layer, first to last."""

    dropout: float
    """Probability of zeroing a hidden unit in training."""

    batch_norm: bool
    """Whether each hidden layer is batch-normalised before its activation."""

    activation: str
    """What follows each hidden layer: relu, gelu, silu or tanh."""

    flatten: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(len(self.widths) > 0, "model.widths", self.widths, "give at least one, as in 'model.widths=[512,256]'")
        _require_sizes("model.widths", self.widths)
        _require_dropout(self.dropout)
        require(self.activation in ACTIVATIONS, "model.activation", self.activation, f"one of {', '.join(ACTIVATIONS)}")

    def build(self, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return the MLP for flattened images, freshly initialised."""
        channels, height, width = image_shape
        return MLP(self, channels * height * width, num_classes)


class MLP(nn.Sequential):
    """A multilayer perceptron: linear, batch norm, activation, dropout for each hidden layer; then a linear layer.

    Takes (B, in_features), gives logits (B, num_classes).
    """

    def __init__(self, config: MLPConfig, in_features: int, num_classes: int) -> None:
        layers: list[nn.Module] = []
        for width in config.widths:
            layers.append(nn.Linear(in_features, width, bias=not config.batch_norm))
            if config.batch_norm:
                layers.append(nn.BatchNorm1d(width))
            layers.append(ACTIVATIONS[config.activation]())
            if config.dropout > 0:
                layers.append(Dropout(config.dropout))
            in_features = width
        super().__init__(*layers, nn.Linear(in_features, num_classes))


@dataclass(frozen=True, kw_only=True)
class CNNConfig(ModelConfig):
    """The settings of a small convolutional network."""

    name: Literal["cnn"]

    channels: list[int]
    """Channels of each block, first to last; each block halves height and width."""

    dropout: float
    """Probability of zeroing a feature before the last layer in training."""

    flatten: ClassVar[bool] = False
    batch_norm: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(
            len(self.channels) > 0, "model.channels", self.channels, "give at least one, as in 'model.channels=[16,32]'"
        )
        _require_sizes("model.channels", self.channels)
        _require_dropout(self.dropout)

    def build(self, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Return the CNN for images of this shape, freshly initialised."""
        return CNN(self, image_shape, num_classes)


class CNN(nn.Module):
    """A CNN: convolution, 2x2 max pooling, batch norm, ReLU for each block; then dropout and a linear layer.

    The first convolution looks at 5x5 pixels, the others at 3x3. Pooling comes before batch norm and
    ReLU because those then work on a quarter of the values, with nearly the same result.

    Takes (B, C, H, W), gives logits (B, num_classes).
    """

    def __init__(self, config: CNNConfig, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        in_channels, height, width = image_shape
        most_blocks = min(height, width).bit_length() - 1
        require(
            len(config.channels) <= most_blocks,
            "model.channels",
            config.channels,
            f"at most {most_blocks} blocks, since each halves the {height}x{width} image",
        )
        blocks: list[nn.Module] = []
        for kernel_size, out_channels in zip([5] + [3] * most_blocks, config.channels, strict=False):
            blocks += [
                nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
                nn.MaxPool2d(2),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(),
            ]
            in_channels, height, width = out_channels, height // 2, width // 2
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.Flatten(), Dropout(config.dropout), nn.Linear(in_channels * height * width, num_classes)
        )
        self.to(memory_format=torch.channels_last)  # a third faster on the CPU than channels first

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, num_classes)."""
        return self.head(self.blocks(x))


def _require_sizes(key: str, sizes: Sequence[int]) -> None:
    require(all(size >= 1 for size in sizes), key, list(sizes), "each must be 1 or more")


def _require_dropout(dropout: float) -> None:
    require(0 <= dropout < 1, "model.dropout", dropout, "must be 0 or more and below 1")
