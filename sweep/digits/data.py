"""The data sets: torchvision's files, mapped into memory once, served a whole batch at a time.

What becomes of an image on its way to a network:

    uint8 (1, 28, 28)  ->  float in [0, 1]  ->  normalised  ->  flattened, for an MLP

ImageTransform does the last two; its `inverse` undoes them.
"""

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import os
import tempfile
import traceback
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple
from urllib.error import URLError

import torch
from filelock import FileLock
from hydra.utils import to_absolute_path
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

from sweep import SweepError, expanded, in_one_line, require
from sweep.digits import CONF

if TYPE_CHECKING:
    from torchvision.datasets import MNIST

EVALUATION_BATCH_SIZE = 1000
IMAGES_HEADER, LABELS_HEADER = 16, 8
"""Bytes before the data in MNIST's files (http://yann.lecun.com/exdb/mnist/)."""
ROOT_VARIABLE = "SWEEP_DATA_ROOT"


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
    files: ClassVar[tuple[str, ...]] = ()
    """The file in `root` that holds the training set, and the one that holds the test set, for errors to name."""
    origin: ClassVar[str]
    """The address the data set comes from."""

    def __post_init__(self) -> None:
        if "://" not in self.root:
            object.__setattr__(self, "root", to_absolute_path(str(expanded(self.root))))
        # How many images there are at most is known once they are read, see `load`.
        require(self.validation >= 0, "data.validation", self.validation, "must be 0 or more")
        require(self.batch_size >= 1, "data.batch_size", self.batch_size, "must be 1 or more")
        most = min(self.image_shape[1:]) - 1
        require(0 <= self.shift <= most, "data.shift", self.shift, f"must be 0 or more and at most {most} pixels")

    def is_there(self) -> bool:
        """Whether `root` has all of the files."""
        return all((Path(self.root) / file).is_file() for file in self.files)

    def prepare(self) -> None:
        """Get the files on disk and check them; nothing to do where they are built in.

        Raises:
            SweepError: They can be neither found nor downloaded, or one is damaged.
        """
        for file in self.files:
            if not (Path(self.root) / file).is_file():
                raise SweepError(
                    f"data.root={self.root}: there is no file {file} in it; "
                    f"{self.name} is read from {' and '.join(self.files)}"
                )

    @abstractmethod
    def read(self) -> tuple[LabelledImages, LabelledImages]:
        """The training set and the test set, after `prepare`; `load` checks them."""


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
        """Where torchvision looks for the files, and where they are unpacked and downloaded to."""
        return Path(self.root) / self.torchvision_name / "raw"

    def is_there(self) -> bool:
        return all(self._path(file).is_file() for file in self.checksums)

    def prepare(self) -> None:
        if not self.is_there():
            self._fetch()
        for file, checksum in self.checksums.items():
            path = self._path(file)
            if path.stat().st_size != self._size_of(file) or checksum not in (None, _md5(path)):
                raise SweepError(
                    f"data.root={self.root}: {path} is damaged ({path.stat().st_size} of {self._size_of(file)} bytes, "
                    "or other ones); delete it and start again to download it anew, or use data=digits"
                )

    def read(self) -> tuple[LabelledImages, LabelledImages]:
        return self._map("train", self.num_train), self._map("t10k", self.num_test)

    def _map(self, prefix: str, num_images: int) -> LabelledImages:
        """The files' own bytes after their headers, mapped: processes that read them share one copy in memory."""
        files = (self._path(f"{prefix}-images-idx3-ubyte"), self._path(f"{prefix}-labels-idx1-ubyte"))
        images, labels = (
            torch.from_file(str(file), shared=False, size=self._size_of(file.name), dtype=torch.uint8) for file in files
        )
        return LabelledImages(images[IMAGES_HEADER:].view(num_images, *self.image_shape), labels[LABELS_HEADER:].long())

    def _torchvision_class(self) -> "type[MNIST]":
        import torchvision  # takes a second that need not be waited for where the files are there

        return getattr(torchvision.datasets, self.torchvision_name)

    def _places(self) -> tuple[Path, ...]:
        """The folders in which people put files that they fetched by hand, or that `root` itself may be."""
        root = Path(self.root)
        return self.folder, root, root / self.torchvision_name, root / "raw"

    def _path(self, file: str) -> Path:
        """Where `file` is; outside of `folder` it is known by its checksum alone, for other data have these names."""
        expected = self.folder / file
        if not expected.is_file() and self.checksums[file] is not None:
            for path in (place / file for place in self._places()):
                if path.is_file() and path.stat().st_size == self._size_of(file) and _md5(path) == self.checksums[file]:
                    return path
        return expected

    def _size_of(self, file: str) -> int:
        num_images = self.num_train if file.startswith("train") else self.num_test
        _, height, width = self.image_shape
        return IMAGES_HEADER + num_images * height * width if "images" in file else LABELS_HEADER + num_images

    def _fetch(self) -> None:
        """Unpack what is here packed, download what is not, and move each finished file into place; under a lock."""
        torchvision_class = self._torchvision_class()
        root = Path(self.root)
        lock = root / f".{self.name}.lock"
        made = [folder for folder in (root, *root.parents) if not folder.exists()]
        try:
            root.mkdir(parents=True, exist_ok=True)
            with FileLock(lock):
                if self.is_there():  # by another process, while this one waited
                    return
                with tempfile.TemporaryDirectory(dir=self.root, prefix=".download-") as temporary:
                    self._move_in(self._unpack(Path(temporary)))
                    if not self.is_there():
                        downloaded = Path(torchvision_class(temporary, download=True).raw_folder)
                        self._move_in(downloaded / file for file in self.checksums)
        except (RuntimeError, URLError, OSError) as error:
            if made:
                with contextlib.suppress(OSError):  # somebody else has put something there
                    lock.unlink(missing_ok=True)
                    for folder in made:
                        folder.rmdir()
            tried = ", ".join(torchvision_class.mirrors)
            raise SweepError(
                f"data.root={self.root}: no {self.name} in {self.folder}{self._unknown()}, and no download from "
                f"{tried} ({_last_line(error)}); put its four files there, packed as .gz or not: "
                f"{', '.join(self.checksums)}; or point data.root or {ROOT_VARIABLE} to a folder that has them, "
                "or use data=digits, which needs none"
            ) from error

    def _unpack(self, folder: Path) -> list[Path]:
        """Unpack into `folder` each file that is missing and lies packed in one of `_places`, known by its checksum."""
        unpacked = []
        for file in (file for file in self.checksums if not self._path(file).is_file()):
            contents = (self._content(packed, file) for packed in self._named(f"{file}.gz"))
            if content := next(filter(None, contents), None):
                (folder / file).write_bytes(content)
                unpacked.append(folder / file)
        return unpacked

    def _content(self, packed: Path, file: str) -> bytes | None:
        """`file` as it lies in `packed`, None unless either has its known checksum."""
        try:
            with gzip.open(packed) as source:
                content = source.read(self._size_of(file) + 1)
        except (OSError, EOFError, zlib.error):
            return None
        is_known = _md5(packed) == dict(self._torchvision_class().resources)[f"{file}.gz"]
        return content if is_known or hashlib.md5(content).hexdigest() == self.checksums[file] else None

    def _move_in(self, files: Iterable[Path]) -> None:
        for file in files:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.replace(file, self.folder / file.name)

    def _named(self, name: str) -> list[Path]:
        """The files of this name where people put them."""
        return [path for place in self._places() if (path := place / name).is_file()]

    def _unknown(self) -> str:
        """Which files have the right names but were not taken, in words for an error."""
        missing = [file for file in self.checksums if not self._path(file).is_file()]
        unknown = [str(path) for file in missing for path in self._named(file) + self._named(f"{file}.gz")]
        return f" (not its own, by size and checksum: {', '.join(unknown)})" if unknown else ""


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
    """The data set of `config`, prepared, read and checked; kept in memory for the trials that follow in this process.

    Raises:
        SweepError: See `DataConfig.prepare`; or it is not fit to train on, or has too few images for the settings.
    """
    # What changes from trial to trial but not the images is left out of the cache's key.
    dataset = _load(dataclasses.replace(config, batch_size=1, shift=0))
    left = len(dataset.splits.train.labels)
    allowed = f"must be 1 or more and at most {left}, the images to train on"
    require(config.batch_size <= left, "data.batch_size", config.batch_size, allowed)
    return dataset


def here(config: DataConfig) -> DataConfig:
    """`config` of a run made elsewhere or earlier: in SWEEP_DATA_ROOT if its data belong there, or where they lay then.

    To SWEEP_DATA_ROOT belong torchvision's data sets, and those of one's own whose YAML names it as their root.
    """
    root = os.environ.get(ROOT_VARIABLE)
    if not root or not (isinstance(config, _IDXConfig) or ROOT_VARIABLE in _default_root(config.name)):
        return config
    there = dataclasses.replace(config, root=root)
    return there if there.is_there() or not config.is_there() else config


def _default_root(name: str) -> str:
    """The root in the YAML of the data set called `name`, as it is written; empty if there is none."""
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
    """The training set and the test set of `config`, checked.

    Raises:
        SweepError: They cannot be read, or are not what `config` says.
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
    """What to call the training set and the test set in an error: by their files where those are known."""
    return config.files if len(config.files) == 2 else ("the training set", "the test set")


def _checked(config: DataConfig, source: str, images: Tensor, labels: Tensor) -> LabelledImages:
    """`images` with one of the classes for each of them, as int64.

    Raises:
        SweepError: That is not what they are; it calls them `source`.
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
