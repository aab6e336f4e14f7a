"""From images in memory to the input of a network, a whole batch at a time.

    uint8 (1, 28, 28)  ->  float in [0, 1]  ->  normalised  ->  flattened, for an MLP

ImageTransform does the last two; its `inverse` undoes them.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from sweep.digits.datasets import LabelledImages

EVALUATION_BATCH_SIZE = 1000


class ImageTransform(nn.Module):
    """Normalise images in [0, 1] to mean 0 and standard deviation 1, and flatten them if asked.

    A module, so that a saved model carries its preprocessing along.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float, std: float, image_shape: tuple[int, int, int], flatten: bool) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))
        self.image_shape = image_shape
        self.flatten = flatten

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) in [0, 1] to the network's input: (B, C*H*W) if flattened, else (B, C, H, W)."""
        x = (images - self.mean).div_(self.std)
        return x.flatten(1) if self.flatten else x

    def inverse(self, x: Tensor) -> Tensor:
        """Map a result of `forward` back to images (B, C, H, W) in [0, 1]."""
        return x.reshape(-1, *self.image_shape) * self.std + self.mean


class ImageBatches(Dataset[tuple[Tensor, Tensor]]):
    """Images and labels in memory, indexed a whole batch at a time.

    Args:
        data: Images and labels on the device where the batches are wanted.
        transform: The network's preprocessing; None leaves images untouched, (B, C, H, W) in [0, 1].
        shift: Most pixels by which each image is shifted each way, at random, with black coming in.
    """

    def __init__(self, data: LabelledImages, transform: ImageTransform | None = None, shift: int = 0) -> None:
        self.data = data
        self.transform = transform
        self.shift = shift

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images and labels (B,) at `indices` (B,)."""
        images = self.data.images.index_select(0, indices)  # six times as fast on the CPU as images[indices]
        if self.shift:
            images = shift_randomly(images, self.shift)
        x = images.float().div_(255)
        return (self.transform(x) if self.transform else x), self.data.labels.index_select(0, indices)

    def __len__(self) -> int:
        return len(self.data.labels)


def shift_randomly(images: Tensor, pixels: int) -> Tensor:
    """Return `images` (B, C, H, W), each shifted at random by up to `pixels` each way, padded with 0."""
    batch_size, _, height, width = images.shape
    # Every position a window can take, (B, C, 2*pixels+1, 2*pixels+1, H, W), without a copy.
    windows = F.pad(images, (pixels,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    down, right = torch.randint(2 * pixels + 1, (2, batch_size), device=images.device)
    return windows[torch.arange(batch_size, device=images.device), :, down, right]


class _Shuffled(Sampler[Tensor]):
    """A sampler of full batches in a new random order each epoch; a rest waits for another epoch."""

    def __init__(self, num_images: int, batch_size: int, device: torch.device, seed: int) -> None:
        self.num_images = num_images
        self.batch_size = batch_size
        self.device = device
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.randperm(self.num_images, generator=self.generator).to(self.device)
        yield from order[: len(self) * self.batch_size].split(self.batch_size)

    def __len__(self) -> int:
        return self.num_images // self.batch_size


def training_loader(batches: ImageBatches, batch_size: int, seed: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return shuffled batches of `batch_size`; the same `seed` gives the same order."""
    sampler = _Shuffled(len(batches), batch_size, batches.data.labels.device, seed)
    return DataLoader(batches, sampler=sampler, batch_size=None)


def evaluation_loader(batches: ImageBatches) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return all of `batches` once, in order."""
    indices = torch.arange(len(batches), device=batches.data.labels.device)
    return DataLoader(batches, sampler=indices.split(EVALUATION_BATCH_SIZE), batch_size=None)


def to_device(data: LabelledImages, device: torch.device) -> LabelledImages:
    """Return `data` on `device`; the very same tensors if they are there already."""
    return LabelledImages(data.images.to(device), data.labels.to(device))
