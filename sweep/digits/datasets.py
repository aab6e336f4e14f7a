"""The data sets: where their files are found, checked, or fetched, and how they are read.

Images come as uint8 (N, C, H, W), torchvision's mapped into memory, so that processes share one copy.
"""

import contextlib
import gzip
import hashlib
import os
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple
from urllib.error import URLError

import torch
from filelock import FileLock
from hydra.utils import to_absolute_path
from torch import Tensor
from torch.nn import functional as F

from sweep import SweepError, expanded, require

if TYPE_CHECKING:
    from torchvision.datasets import MNIST

IMAGES_HEADER, LABELS_HEADER = 16, 8
"""Bytes before the data in MNIST's files (http://yann.lecun.com/exdb/mnist/)."""
ROOT_VARIABLE = "SWEEP_DATA_ROOT"


class LabelledImages(NamedTuple):
    """Images with the classes of what they show."""

    images: Tensor
    """(N, C, H, W), uint8, 0 is black."""
    labels: Tensor
    """(N,), int64."""


@dataclass(frozen=True, kw_only=True)
class DataConfig(ABC):
    """The settings that all data sets have; each data set is a subclass."""

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
    """Names of the files in `root` with the training set and the test set, for errors to name."""
    origin: ClassVar[str]
    """Address that the data set comes from."""

    def __post_init__(self) -> None:
        if "://" not in self.root:
            object.__setattr__(self, "root", to_absolute_path(str(expanded(self.root))))
        # How many images there are at most is known once they are read, see `load`.
        require(self.validation >= 0, "data.validation", self.validation, "must be 0 or more")
        require(self.batch_size >= 1, "data.batch_size", self.batch_size, "must be 1 or more")
        most = min(self.image_shape[1:]) - 1
        require(0 <= self.shift <= most, "data.shift", self.shift, f"must be 0 or more and at most {most} pixels")

    def is_there(self) -> bool:
        """Return whether `root` has all of the files."""
        return all((Path(self.root) / file).is_file() for file in self.files)

    def prepare(self) -> None:
        """Get the files on disk and check them; do nothing for a data set that is built in.

        Raises:
            SweepError: The files can be neither found nor downloaded, or one is damaged.
        """
        for file in self.files:
            if not (Path(self.root) / file).is_file():
                raise SweepError(
                    f"data.root={self.root}: there is no file {file} in it; "
                    f"{self.name} is read from {' and '.join(self.files)}"
                )

    @abstractmethod
    def read(self) -> tuple[LabelledImages, LabelledImages]:
        """Return the training set and the test set, once `prepare` has been called; `load` checks them."""


@dataclass(frozen=True, kw_only=True)
class IDXConfig(DataConfig):
    """A torchvision data set that comes in MNIST's four files."""

    torchvision_name: ClassVar[str]
    """Name of the class in torchvision.datasets."""
    checksums: ClassVar[dict[str, str | None]]
    """MD5 of each file as it lies in `folder`, None where only the size is known."""

    num_train: ClassVar[int] = 60_000
    num_test: ClassVar[int] = 10_000

    @property
    def folder(self) -> Path:
        """The folder in which torchvision looks for the files, to which they are unpacked and downloaded."""
        return Path(self.root) / self.torchvision_name / "raw"

    def is_there(self) -> bool:
        """Return whether all four files are found, unpacked, with their checksums."""
        return all(self._path(file).is_file() for file in self.checksums)

    def prepare(self) -> None:
        """Find, unpack or download the four files, and check them."""
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
        """Return the training set and the test set, mapped into memory."""
        return self._map("train", self.num_train), self._map("t10k", self.num_test)

    def _map(self, prefix: str, num_images: int) -> LabelledImages:
        """Return the bytes after the files' headers, mapped, so that processes share one copy in memory."""
        files = (self._path(f"{prefix}-images-idx3-ubyte"), self._path(f"{prefix}-labels-idx1-ubyte"))
        images, labels = (
            torch.from_file(str(file), shared=False, size=self._size_of(file.name), dtype=torch.uint8) for file in files
        )
        return LabelledImages(images[IMAGES_HEADER:].view(num_images, *self.image_shape), labels[LABELS_HEADER:].long())

    def _torchvision_class(self) -> "type[MNIST]":
        import torchvision  # takes a second that need not be waited for where the files are there

        return getattr(torchvision.datasets, self.torchvision_name)

    def _places(self) -> tuple[Path, ...]:
        """Return the folders in which people put files that they fetched by hand, or that `root` may be."""
        root = Path(self.root)
        return self.folder, root, root / self.torchvision_name, root / "raw"

    def _path(self, file: str) -> Path:
        """Return the path of `file`; outside of `folder` its checksum identifies it, as others have its name."""
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
        """Unpack packed files that are here, download the others, and move each into place; under a lock."""
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
        """Unpack into `folder` each missing file that lies packed in one of `_places`, known by its checksum."""
        unpacked = []
        for file in (file for file in self.checksums if not self._path(file).is_file()):
            contents = (self._content(packed, file) for packed in self._named(f"{file}.gz"))
            if content := next(filter(None, contents), None):
                (folder / file).write_bytes(content)
                unpacked.append(folder / file)
        return unpacked

    def _content(self, packed: Path, file: str) -> bytes | None:
        """Return the content of `file` from `packed`, None unless either has its known checksum."""
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
        """Return the files of this name in the places where people put them."""
        return [path for place in self._places() if (path := place / name).is_file()]

    def _unknown(self) -> str:
        """Return, as text for an error, the files that have the right names but other contents."""
        missing = [file for file in self.checksums if not self._path(file).is_file()]
        unknown = [str(path) for file in missing for path in self._named(file) + self._named(f"{file}.gz")]
        return f" (not its own, by size and checksum: {', '.join(unknown)})" if unknown else ""


@dataclass(frozen=True, kw_only=True)
class MNISTConfig(IDXConfig):
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
class FashionMNISTConfig(IDXConfig):
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
        """Return the training set and the test set, scaled to 28x28 pixels."""
        from sklearn.datasets import load_digits  # takes two seconds that the other data sets need not wait

        bundled = load_digits()
        small = torch.from_numpy(bundled.images).unsqueeze(1)  # (1797, 1, 8, 8), 0 to 16
        large = F.interpolate(small, size=self.image_shape[1:], mode="bilinear", align_corners=False)
        images = (large / 16 * 255).round().to(torch.uint8)
        labels = torch.from_numpy(bundled.target).long()
        is_test = torch.arange(len(labels)) % 5 == 0
        return LabelledImages(images[~is_test], labels[~is_test]), LabelledImages(images[is_test], labels[is_test])


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
