"""The data sets: torchvision's files, mapped into memory once, served a whole batch at a time.

What becomes of an image on its way to a network:

    uint8 (1, 28, 28)  ->  float in [0, 1]  ->  normalised  ->  flattened, for an MLP

ImageTransform does the last two; its `inverse` undoes them.
"""

import dataclasses
import functools
import hashlib
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple
from urllib.error import URLError

import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from sweep.errors import SweepError, require

if TYPE_CHECKING:
    from torchvision.datasets import MNIST

EVALUATION_BATCH_SIZE = 1000
IMAGES_HEADER, LABELS_HEADER = 16, 8
"""Bytes before the data in MNIST's files (http://yann.lecun.com/exdb/mnist/)."""


class LabelledImages(NamedTuple):
    """A set of images and what they show."""

    images: Tensor
    """(N, C, H, W), uint8, 0 is black."""
    labels: Tensor
    """(N,), int64."""


class Splits(NamedTuple):
    """A data set as it is used: to train on, to choose by, to report on."""

    train: LabelledImages
    val: LabelledImages
    """Held out from the training images; empty unless `data.validation` is above 0."""
    test: LabelledImages


@dataclass(frozen=True, kw_only=True)
class DataConfig(ABC):
    """What is common to all data sets; a subclass for each."""

    name: str  # a Literal in each subclass
    """What data=NAME chooses."""

    root: str
    """The folder that holds, or will hold, the files; by default SWEEP_DATA_ROOT, or data/ in the project."""

    batch_size: int
    """Images in a training batch."""

    validation: int
    """How many training images to hold out, always the same ones."""

    shift: int
    """Training images are moved by up to this many pixels each way, at random."""

    image_shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)
    classes: ClassVar[tuple[str, ...]] = tuple("0123456789")
    num_train: ClassVar[int]
    """Images in the training set, those held out included."""
    origin: ClassVar[str]
    """The address the data set comes from."""

    def __post_init__(self) -> None:
        require(
            0 <= self.validation < self.num_train,
            "data.validation",
            self.validation,
            f"must be 0 or more and below {self.num_train}, the training images of {self.name}",
        )
        left = self.num_train - self.validation
        require(
            1 <= self.batch_size <= left,
            "data.batch_size",
            self.batch_size,
            f"must be 1 or more and at most {left}, the images to train on",
        )
        most = min(self.image_shape[1:]) - 1
        require(0 <= self.shift <= most, "data.shift", self.shift, f"must be 0 or more and at most {most} pixels")

    def prepare(self) -> None:
        """Get the files on disk and check them; nothing to do where they are built in.

        Raises:
            SweepError: They can be neither found nor downloaded, or one is damaged.
        """
        return

    @abstractmethod
    def read(self) -> tuple[LabelledImages, LabelledImages]:
        """The training set and the test set, after `prepare`."""


@dataclass(frozen=True, kw_only=True)
class _IDXConfig(DataConfig):
    """A data set of torchvision's that comes in MNIST's four files."""

    torchvision_name: ClassVar[str]
    """Of its class in torchvision.datasets."""
    checksums: ClassVar[dict[str, str | None]]
    """MD5 of each file as it lies in `folder`, None where only the size is known."""

    num_train: ClassVar[int] = 60_000
    num_test: ClassVar[int] = 10_000

    @property
    def folder(self) -> Path:
        """Where torchvision looks for the files."""
        return Path(self.root) / self.torchvision_name / "raw"

    def prepare(self) -> None:
        if not self._is_complete():
            self._download()
        for file, checksum in self.checksums.items():
            path = self.folder / file
            if path.stat().st_size != self._size_of(file) or checksum not in (None, _md5(path)):
                raise SweepError(
                    f"data.root={self.root}: {path} is damaged ({path.stat().st_size} of {self._size_of(file)} bytes, "
                    "or other ones); delete it and start again to download it anew, or use data=digits"
                )

    def read(self) -> tuple[LabelledImages, LabelledImages]:
        return self._map("train", self.num_train), self._map("t10k", self.num_test)

    def _map(self, prefix: str, num_images: int) -> LabelledImages:
        """The files' own bytes after their headers, mapped: processes that read them share one copy in memory."""
        files = (self.folder / f"{prefix}-images-idx3-ubyte", self.folder / f"{prefix}-labels-idx1-ubyte")
        images, labels = (
            torch.from_file(str(file), shared=False, size=self._size_of(file.name), dtype=torch.uint8) for file in files
        )
        return LabelledImages(images[IMAGES_HEADER:].view(num_images, *self.image_shape), labels[LABELS_HEADER:].long())

    def _torchvision_class(self) -> "type[MNIST]":
        import torchvision  # takes a second that need not be waited for where the files are there

        return getattr(torchvision.datasets, self.torchvision_name)

    def _is_complete(self) -> bool:
        return all((self.folder / file).is_file() for file in self.checksums)

    def _size_of(self, file: str) -> int:
        num_images = self.num_train if file.startswith("train") else self.num_test
        _, height, width = self.image_shape
        return IMAGES_HEADER + num_images * height * width if "images" in file else LABELS_HEADER + num_images

    def _download(self) -> None:
        """Download under a lock, into a temporary folder, and move each finished file into place."""
        torchvision_class = self._torchvision_class()
        try:
            Path(self.root).mkdir(parents=True, exist_ok=True)
            with FileLock(Path(self.root) / f".{self.name}.lock"):
                if self._is_complete():  # by another process, while this one waited
                    return
                with tempfile.TemporaryDirectory(dir=self.root, prefix=".download-") as folder:
                    downloaded = Path(torchvision_class(folder, download=True).raw_folder)
                    self.folder.mkdir(parents=True, exist_ok=True)
                    for file in self.checksums:
                        os.replace(downloaded / file, self.folder / file)
        except (RuntimeError, URLError, OSError) as error:
            tried = ", ".join(torchvision_class.mirrors)
            raise SweepError(
                f"data.root={self.root}: no {self.name} in {self.folder}, and no download from {tried} "
                f"({_last_line(error)}); put its four files there, point data.root or SWEEP_DATA_ROOT "
                "to a folder that has them, or use data=digits, which needs none"
            ) from error


@dataclass(frozen=True, kw_only=True)
class MNISTConfig(_IDXConfig):
    """Handwritten digits (LeCun, Cortes and Burges, 1998, http://yann.lecun.com/exdb/mnist/)."""

    name: Literal["mnist"]
    origin: ClassVar[str] = "http://yann.lecun.com/exdb/mnist/"
    torchvision_name: ClassVar[str] = "MNIST"
    checksums: ClassVar[dict[str, str | None]] = {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }


@dataclass(frozen=True, kw_only=True)
class FashionMNISTConfig(_IDXConfig):
    """Pictures of clothes in MNIST's format (Xiao, Rasul and Vollgraf, 2017, https://arxiv.org/abs/1708.07747).

    torchvision knows the checksums of its packed files, which are checked as they are downloaded; of
    the unpacked ones only the sizes are.
    """

    name: Literal["fashion_mnist"]
    origin: ClassVar[str] = "https://github.com/zalandoresearch/fashion-mnist"
    torchvision_name: ClassVar[str] = "FashionMNIST"
    checksums: ClassVar[dict[str, str | None]] = dict.fromkeys(MNISTConfig.checksums)
    classes: ClassVar[tuple[str, ...]] = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DigitsConfig(DataConfig):
    """1,797 handwritten digits that come with scikit-learn, scaled from 8x8 to 28x28 pixels.

    A stand-in for MNIST that needs no download (Alpaydin and Kaynak, 1998,
    https://archive.ics.uci.edu/dataset/80). Every fifth image is a test image.
    """

    name: Literal["digits"]
    origin: ClassVar[str] = "https://archive.ics.uci.edu/dataset/80"
    num_train: ClassVar[int] = 1_437

    def read(self) -> tuple[LabelledImages, LabelledImages]:
        from sklearn.datasets import load_digits  # takes two seconds that the other data sets need not wait

        bundled = load_digits()
        small = torch.from_numpy(bundled.images).unsqueeze(1)  # (1797, 1, 8, 8), 0 to 16
        large = F.interpolate(small, size=self.image_shape[1:], mode="bilinear", align_corners=False)
        images = (large / 16 * 255).round().to(torch.uint8)
        labels = torch.from_numpy(bundled.target).long()
        is_test = torch.arange(len(labels)) % 5 == 0
        return LabelledImages(images[~is_test], labels[~is_test]), LabelledImages(images[is_test], labels[is_test])


class DataSet(NamedTuple):
    """A data set in memory, with what is needed to use and to name it."""

    splits: Splits
    mean: float
    """Of the training images' pixels, in [0, 1]."""
    std: float
    digest: str
    """The first 16 hex digits of the SHA-256 of all images and labels."""


def load(config: DataConfig) -> DataSet:
    """The data set of `config`, prepared and read; kept in memory for the trials that follow in this process.

    Raises:
        SweepError: See `DataConfig.prepare`.
    """
    # What changes from trial to trial but not the images is left out of the cache's key.
    return _load(dataclasses.replace(config, batch_size=1, shift=0))


def here(config: DataConfig) -> DataConfig:
    """`config` of a run made elsewhere or earlier: the data are in SWEEP_DATA_ROOT, or else where they lay then."""
    return dataclasses.replace(config, root=os.environ.get("SWEEP_DATA_ROOT", config.root))


@functools.lru_cache(maxsize=1)
def _load(config: DataConfig) -> DataSet:
    config.prepare()
    train, test = config.read()
    digest = hashlib.sha256()
    for tensor in (*train, *test):
        digest.update(tensor.numpy().tobytes())
    # Drawn from a generator of its own: whatever a trial's seed, the same images are held out.
    order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(0))
    held_out, kept = order[: config.validation], order[config.validation :].sort().values
    splits = Splits(
        train=LabelledImages(*(tensor[kept] for tensor in train)) if config.validation else train,
        val=LabelledImages(*(tensor[held_out] for tensor in train)),
        test=test,
    )
    mean, std = _mean_and_std(splits.train.images)
    return DataSet(splits, mean, std, digest.hexdigest()[:16])


def _mean_and_std(images: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of uint8 `images` over all pixels, on the scale of 0 to 1."""
    counts = torch.bincount(images.flatten(), minlength=256).double()
    share = counts / counts.sum()
    value = torch.arange(256, dtype=torch.float64) / 255
    mean = (share * value).sum()
    std = (share * (value - mean) ** 2).sum().sqrt()
    return mean.item(), std.item()


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
        """(B, C, H, W) in [0, 1] to what the network takes: (B, C*H*W) if flattened, else (B, C, H, W)."""
        x = (images - self.mean).div_(self.std)
        return x.flatten(1) if self.flatten else x

    def inverse(self, x: Tensor) -> Tensor:
        """What `forward` gave, back to (B, C, H, W) in [0, 1]."""
        return x.reshape(-1, *self.image_shape) * self.std + self.mean


class ImageBatches(Dataset[tuple[Tensor, Tensor]]):
    """Images and labels in memory, indexed a whole batch at a time.

    Args:
        data: On the device where the batches are wanted.
        transform: What the network needs; None leaves images untouched, (B, C, H, W) in [0, 1].
        shift: Move each image by up to this many pixels each way, at random, black coming in.
    """

    def __init__(self, data: LabelledImages, transform: ImageTransform | None = None, shift: int = 0) -> None:
        self.data = data
        self.transform = transform
        self.shift = shift

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The images and labels (B,) at `indices` (B,)."""
        images = self.data.images.index_select(0, indices)  # six times as fast on the CPU as images[indices]
        if self.shift:
            images = shift_randomly(images, self.shift)
        x = images.float().div_(255)
        return (self.transform(x) if self.transform else x), self.data.labels.index_select(0, indices)

    def __len__(self) -> int:
        return len(self.data.labels)


def shift_randomly(images: Tensor, pixels: int) -> Tensor:
    """`images` (B, C, H, W), each moved by its own random -pixels to +pixels in both directions, padded with 0."""
    batch_size, _, height, width = images.shape
    # Every position a window can take, (B, C, 2*pixels+1, 2*pixels+1, H, W), without a copy.
    windows = F.pad(images, (pixels,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    down, right = torch.randint(2 * pixels + 1, (2, batch_size), device=images.device)
    return windows[torch.arange(batch_size, device=images.device), :, down, right]


class _Shuffled(Sampler[Tensor]):
    """The indices of full batches in a new random order each epoch; what is left over waits for another epoch."""

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
    """Shuffled batches of `batch_size`; the same `seed` gives the same order."""
    sampler = _Shuffled(len(batches), batch_size, batches.data.labels.device, seed)
    return DataLoader(batches, sampler=sampler, batch_size=None)


def evaluation_loader(batches: ImageBatches) -> DataLoader[tuple[Tensor, Tensor]]:
    """All of `batches` once, in order."""
    indices = torch.arange(len(batches), device=batches.data.labels.device)
    return DataLoader(batches, sampler=indices.split(EVALUATION_BATCH_SIZE), batch_size=None)


def to_device(data: LabelledImages, device: torch.device) -> LabelledImages:
    """`data` on `device`; the very same tensors where they are there already."""
    return LabelledImages(data.images.to(device), data.labels.to(device))


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
