import contextlib
import dataclasses
import gc
import gzip
import hashlib
import http.server
import os
import re
import shutil
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from conftest import PROCESSES, ROOT
from PIL import Image
from torchvision import transforms

from sweep.digits import batches, data, datasets
from sweep.digits.batches import ImageBatches, ImageTransform
from sweep.digits.datasets import DataConfig, DigitsConfig, FashionMNISTConfig, LabelledImages, MNISTConfig
from sweep.errors import SweepError

SHAPE = (1, 28, 28)


def digits(**changes: object) -> DigitsConfig:
    settings = {"name": "digits", "root": "unused", "batch_size": 64, "validation": 0, "shift": 0}
    return DigitsConfig(**(settings | changes))  # type: ignore[arg-type]


def mnist(root: str | Path, **changes: object) -> MNISTConfig:
    settings = {"name": "mnist", "root": str(root), "batch_size": 64, "validation": 0, "shift": 0}
    return MNISTConfig(**(settings | changes))  # type: ignore[arg-type]


def fashion_mnist(root: Path) -> FashionMNISTConfig:
    return FashionMNISTConfig(name="fashion_mnist", root=str(root), batch_size=1, validation=0, shift=0)


def test_digits_are_bundled_and_split_the_same_way_every_time() -> None:
    train, val, test = data.load(digits()).splits
    assert train.images.shape == (1437, 1, 28, 28)
    assert test.images.shape == (360, 1, 28, 28)
    assert len(val.labels) == 0
    assert train.images.dtype == torch.uint8
    assert train.images.max() == 255
    assert sorted(test.labels.unique().tolist()) == list(range(10))


@pytest.mark.parametrize("flatten", [True, False])
def test_batches_equal_torchvision_s_own_transforms_value_by_value(flatten: bool) -> None:
    dataset = data.load(digits())
    test = dataset.splits.test
    steps = [transforms.ToTensor(), transforms.Normalize([dataset.mean], [dataset.std])]
    reference = transforms.Compose([*steps, torch.flatten] if flatten else steps)
    expected = torch.stack([reference(Image.fromarray(image[0].numpy())) for image in test.images])
    transform = ImageTransform(dataset.mean, dataset.std, SHAPE, flatten)
    x, y = ImageBatches(test, transform)[torch.arange(360)]
    torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(y, test.labels)


def test_mnist_equals_torchvision_s_own_data_set_value_by_value(mnist_root: str) -> None:
    dataset = data.load(mnist(mnist_root))
    reference = torchvision.datasets.MNIST(
        mnist_root,
        train=False,
        transform=transforms.Compose([transforms.ToTensor(), transforms.Normalize([dataset.mean], [dataset.std])]),
    )
    transform = ImageTransform(dataset.mean, dataset.std, SHAPE, flatten=False)
    x, y = ImageBatches(dataset.splits.test, transform)[torch.arange(500)]
    expected = [reference[i] for i in range(500)]
    torch.testing.assert_close(x, torch.stack([image for image, _ in expected]), rtol=1e-5, atol=1e-6)
    assert y.tolist() == [label for _, label in expected]


def test_mnist_has_its_known_size_mean_and_standard_deviation(mnist_root: str) -> None:
    dataset = data.load(mnist(mnist_root))
    assert dataset.splits.train.images.shape == (60_000, 1, 28, 28)
    assert dataset.splits.test.images.shape == (10_000, 1, 28, 28)
    assert round(dataset.mean, 4) == 0.1307
    assert round(dataset.std, 4) == 0.3081


def test_the_training_set_comes_out_with_mean_0_and_standard_deviation_1() -> None:
    dataset = data.load(digits())
    transform = ImageTransform(dataset.mean, dataset.std, SHAPE, flatten=True)
    x, _ = ImageBatches(dataset.splits.train, transform)[torch.arange(1437)]
    assert x.shape == (1437, 784)
    assert x.mean().item() == pytest.approx(0, abs=1e-4)
    assert x.std().item() == pytest.approx(1, abs=1e-4)


def test_inverse_gives_back_the_untouched_images() -> None:
    dataset = data.load(digits())
    transform = ImageTransform(dataset.mean, dataset.std, SHAPE, flatten=True)
    indices = torch.arange(50)
    transformed, _ = ImageBatches(dataset.splits.train, transform)[indices]
    untouched, _ = ImageBatches(dataset.splits.train)[indices]
    assert untouched.shape == (50, 1, 28, 28)
    assert (float(untouched.min()), float(untouched.max())) == (0, 1)
    torch.testing.assert_close(transform.inverse(transformed), untouched, rtol=0, atol=1e-6)


def test_an_epoch_shows_every_image_of_its_full_batches_once_and_the_next_in_another_order() -> None:
    numbered = LabelledImages(torch.zeros(103, 1, 2, 2, dtype=torch.uint8), torch.arange(103))
    loader = batches.training_loader(ImageBatches(numbered), batch_size=10, seed=0)
    first, second = ([y for _, y in loader] for _ in range(2))
    assert len(loader) == 10
    assert all(len(y) == 10 for y in first)
    assert len(set(torch.cat(first).tolist())) == 100
    assert torch.cat(first).tolist() != torch.cat(second).tolist()


def test_the_order_follows_the_seed() -> None:
    numbered = LabelledImages(torch.zeros(50, 1, 2, 2, dtype=torch.uint8), torch.arange(50))

    def order(seed: int) -> list[int]:
        return torch.cat([y for _, y in batches.training_loader(ImageBatches(numbered), 10, seed)]).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_evaluation_sees_every_image_once_in_order() -> None:
    numbered = LabelledImages(torch.zeros(2345, 1, 2, 2, dtype=torch.uint8), torch.arange(2345))
    assert torch.cat([y for _, y in batches.evaluation_loader(ImageBatches(numbered))]).tolist() == list(range(2345))


def test_held_out_images_are_the_same_whatever_the_seed_and_no_longer_trained_on() -> None:
    whole = data.load(digits()).splits
    torch.manual_seed(1)
    split = data.load(digits(validation=200)).splits
    data._load.cache_clear()
    torch.manual_seed(2)
    again = data.load(digits(validation=200)).splits
    assert len(split.val.labels) == 200
    assert len(split.train.labels) == 1237
    assert torch.equal(split.val.images, again.val.images)
    assert torch.equal(split.test.images, whole.test.images)
    together = torch.cat([split.train.images, split.val.images]).flatten(1).sum(1).sort().values
    assert torch.equal(together, whole.train.images.flatten(1).sum(1).sort().values)


def test_a_shift_moves_each_image_by_its_own_whole_pixels_and_brings_in_black() -> None:
    torch.manual_seed(0)
    images = torch.randint(1, 256, (200, 1, 6, 6), dtype=torch.uint8)
    shifted = batches.shift_randomly(images, 2)
    seen = set()
    for before, after in zip(images, shifted, strict=True):
        padded = torch.nn.functional.pad(before, (2, 2, 2, 2))
        places = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if torch.equal(padded[:, down : down + 6, right : right + 6], after)
        ]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 25


def test_trials_in_one_process_share_the_images_in_memory() -> None:
    assert data.load(digits(batch_size=16)).splits.train.images is data.load(digits(shift=1)).splits.train.images


def test_a_root_is_made_absolute_once_and_a_tilde_is_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert digits(root="here").root == str(tmp_path / "here")
    assert digits(root="~/mine").root == str(tmp_path / "home" / "mine")
    assert digits(root="s3://bucket/mine").root == "s3://bucket/mine"
    with pytest.raises(SweepError, match=r"^~nobody-of-this-name/x: ~nobody-of-this-name is nobody's home folder"):
        digits(root="~nobody-of-this-name/x")


def test_the_digest_names_the_data() -> None:
    assert data.load(digits()).digest == data.load(digits(validation=10)).digest
    assert len(data.load(digits()).digest) == 16


def test_data_that_can_be_neither_found_nor_downloaded_are_reported_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nobody listens there
    with pytest.raises(SweepError) as caught:
        data.load(mnist(tmp_path))
    message = str(caught.value)
    assert "\n" not in message
    assert str(tmp_path / "MNIST" / "raw") in message
    assert "http://127.0.0.1:9/" in message
    assert "data=digits" in message
    assert not (tmp_path / "MNIST").exists()


def copy_of_mnist(mnist_root: str, root: Path) -> Path:
    folder = root / "MNIST" / "raw"
    shutil.copytree(
        mnist(mnist_root).folder, folder, copy_function=os.link if _same_disk(mnist_root, root) else shutil.copy
    )
    return folder


def _same_disk(one: str, other: Path) -> bool:
    return os.stat(one).st_dev == os.stat(other).st_dev


@pytest.mark.parametrize("file", list(MNISTConfig.checksums))
def test_a_truncated_file_is_named(mnist_root: str, tmp_path: Path, file: str) -> None:
    folder = copy_of_mnist(mnist_root, tmp_path)
    content = (folder / file).read_bytes()[:-100]
    (folder / file).unlink()
    (folder / file).write_bytes(content)
    with pytest.raises(SweepError, match=rf"{file} is damaged \({len(content)} of {len(content) + 100} bytes"):
        data.load(mnist(tmp_path))


def test_a_file_with_one_wrong_byte_is_named(mnist_root: str, tmp_path: Path) -> None:
    path = copy_of_mnist(mnist_root, tmp_path) / "train-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[1_000_000] ^= 1
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(SweepError, match="train-images-idx3-ubyte is damaged"):
        data.load(mnist(tmp_path))


@pytest.mark.parametrize("place", ["", "MNIST", "raw", "MNIST/raw"])
@pytest.mark.parametrize("packing", ["plain", "packed", "mixed"])
def test_mnist_fetched_by_hand_is_found_packed_or_not_wherever_people_put_it(
    mnist_root: str, tmp_path: Path, place: str, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nobody listens there
    folder = tmp_path / place
    folder.mkdir(parents=True, exist_ok=True)
    originals = mnist(mnist_root).folder
    for file in MNISTConfig.checksums:
        # Packed by another program than the original files were, so that what is in it is what makes it known.
        if packing == "packed" or (packing == "mixed" and "labels" in file):
            (folder / f"{file}.gz").write_bytes(gzip.compress((originals / file).read_bytes(), compresslevel=0))
        else:
            os.symlink(originals.resolve() / file, folder / file)
    config = mnist(tmp_path)
    config.prepare()
    assert config.is_there()
    train, test = config.read()
    assert (train.labels[:3].tolist(), test.labels[:3].tolist()) == ([5, 0, 4], [7, 2, 1])
    assert not list(tmp_path.glob(".download-*"))


def test_files_of_the_right_names_that_are_not_the_data_set_s_are_named_and_so_are_the_four_that_are_wanted(
    mnist_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MNIST", "FashionMNIST"):
        monkeypatch.setattr(getattr(torchvision.datasets, name), "mirrors", ["http://127.0.0.1:9/"])
    for file in MNISTConfig.checksums:
        (tmp_path / file).write_bytes((mnist(mnist_root).folder / file).read_bytes())
        (tmp_path / f"{file}.gz").write_bytes(b"not even packed")
    with pytest.raises(SweepError) as caught:
        data.load(fashion_mnist(tmp_path))  # MNIST's files have the same names and sizes
    message = str(caught.value)
    for file in MNISTConfig.checksums:
        assert f"{tmp_path / file}, {tmp_path / file}.gz" in message.partition(", and no download")[0]
        assert file in message.partition("put its four files there")[2]
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"damaged")
    with pytest.raises(SweepError, match=r"no mnist in .*by size and checksum: \S*/t10k-labels-idx1-ubyte, \S*\.gz\)"):
        data.load(mnist(tmp_path))
    assert not (tmp_path / "MNIST").exists()


class _FashionFiles(http.server.BaseHTTPRequestHandler):
    """Serves random files in MNIST's format under FashionMNIST's names, and counts who asks."""

    files: dict[str, bytes]
    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        content = self.files[self.path.strip("/")]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # who only follows redirects hangs up here
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def fashion_mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A mirror on this machine; the checksums that torchvision expects are those of its files."""
    generator = torch.Generator().manual_seed(0)
    files = {}
    for name, header, num_bytes in [
        ("train-images-idx3-ubyte", (2051, 60_000, 28, 28), 60_000 * 784),
        ("train-labels-idx1-ubyte", (2049, 60_000), 60_000),
        ("t10k-images-idx3-ubyte", (2051, 10_000, 28, 28), 10_000 * 784),
        ("t10k-labels-idx1-ubyte", (2049, 10_000), 10_000),
    ]:
        body = torch.randint(10, (num_bytes,), dtype=torch.uint8, generator=generator).numpy().tobytes()
        head = b"".join(number.to_bytes(4, "big") for number in header)
        files[f"{name}.gz"] = gzip.compress(head + body, compresslevel=1)
    asked: list[str] = []
    handler = type("Handler", (_FashionFiles,), {"files": files, "requests": asked})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fashion = torchvision.datasets.FashionMNIST
    monkeypatch.setattr(fashion, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(fashion, "resources", [(n, hashlib.md5(c).hexdigest()) for n, c in files.items()])
    yield asked
    server.shutdown()
    server.server_close()


def _prepare_from(mirrors: list[str], resources: list[tuple[str, str]], config: FashionMNISTConfig) -> None:
    torchvision.datasets.FashionMNIST.mirrors = mirrors
    torchvision.datasets.FashionMNIST.resources = resources
    config.prepare()


def test_two_processes_download_a_data_set_once_and_leave_only_whole_files(
    fashion_mirror: list[str], tmp_path: Path
) -> None:
    config = fashion_mnist(tmp_path)
    fashion = torchvision.datasets.FashionMNIST
    processes = [
        PROCESSES.Process(target=_prepare_from, args=(fashion.mirrors, fashion.resources, config)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]
    # torchvision asks for each file twice: to follow redirects, then for the content.
    asked = Counter(fashion_mirror)
    assert asked == dict.fromkeys((f"/{name}.gz" for name in config.checksums), 2)
    assert sorted(path.name for path in config.folder.iterdir()) == sorted(config.checksums)
    assert not list(tmp_path.glob(".download-*"))
    train, test = config.read()
    assert (len(train.labels), len(test.labels)) == (60_000, 10_000)


def test_packed_files_known_by_torchvision_s_checksums_are_unpacked_and_only_then_is_nothing_downloaded(
    fashion_mirror: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fashion = torchvision.datasets.FashionMNIST
    for name, _ in fashion.resources:
        urllib.request.urlretrieve(f"{fashion.mirrors[0]}{name}", tmp_path / name)
    asked = len(fashion_mirror)
    config = fashion_mnist(tmp_path)
    config.prepare()
    assert len(fashion_mirror) == asked
    assert sorted(path.name for path in config.folder.iterdir()) == sorted(config.checksums)
    shutil.rmtree(config.folder)
    (tmp_path / fashion.resources[0][0]).write_bytes(b"another file")
    config.prepare()
    assert len(fashion_mirror) > asked
    assert config.is_there()


def test_a_damaged_download_leaves_nothing_behind(
    fashion_mirror: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = [(name, "0" * 32) for name, _ in torchvision.datasets.FashionMNIST.resources]
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", wrong)
    config = fashion_mnist(tmp_path)
    with pytest.raises(SweepError, match="no fashion_mnist in"):
        config.prepare()
    assert fashion_mirror
    assert not config.folder.exists()


def test_every_setting_out_of_bounds_is_refused() -> None:
    for key, value, allowed in [
        ("validation", 1437, "must be 0 or more and below 1437, the training images of digits"),
        ("validation", -1, "must be 0 or more"),
        ("batch_size", 0, "must be 1 or more"),
        ("batch_size", 1438, "must be 1 or more and at most 1437, the images to train on"),
        ("shift", 28, "must be 0 or more and at most 27 pixels"),
    ]:
        with pytest.raises(SweepError, match=rf"^data.{key}={value}: {allowed}$"):
            changes: dict[str, Any] = {key: value}
            data.load(dataclasses.replace(digits(), **changes))
    with pytest.raises(SweepError, match=r"^data.batch_size=38: must be 1 or more and at most 37"):
        data.load(digits(validation=1400, batch_size=38))


@pytest.fixture
def arrays_class() -> Iterator[type[DataConfig]]:
    """The example of a data set of one's own in docs/digits.md."""
    page = (ROOT / "docs" / "digits.md").read_text()
    example = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "ArraysConfig" in block)
    namespace = dict(vars(datasets))
    exec(example, namespace)
    yield namespace.pop("ArraysConfig")
    gc.collect()  # else it stays among the data sets that there are


@pytest.fixture
def arrays(arrays_class: type[DataConfig], tmp_path: Path) -> Callable[..., DataConfig]:
    """A config of that class for files of these arrays, by default twenty images of noise for either set."""

    def make(**changes: Any) -> DataConfig:
        random = np.random.default_rng(0)
        arrays: dict[str, Any] = {
            "images": random.integers(0, 256, (20, 28, 28), np.uint8),
            "labels": np.arange(20) % 10,
        }
        np.savez(tmp_path / "test.npz", **arrays)
        np.savez(
            tmp_path / "train.npz", **{key: value for key, value in (arrays | changes).items() if value is not None}
        )
        return arrays_class(name="arrays", root=str(tmp_path), batch_size=5, validation=0, shift=0)

    return make


def test_data_of_one_s_own_need_not_say_how_many_images_there_are(arrays: Callable[..., DataConfig]) -> None:
    config = arrays()
    assert [len(split.labels) for split in data.load(dataclasses.replace(config, validation=5)).splits] == [15, 5, 20]
    assert data.load(config).splits.train.labels.dtype == torch.int64
    for key, value, allowed in [("batch_size", 21, "at most 20"), ("validation", 20, "below 20")]:
        with pytest.raises(SweepError, match=rf"^data.{key}={value}: .*{allowed}"):
            changes: dict[str, Any] = {key: value}
            data.load(dataclasses.replace(config, **changes))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"labels": np.arange(15) % 10}, "has 20 images and 15 labels; wanted is as many of the one"),
        ({"labels": np.arange(20) % 10 + 1}, "has labels of type int64 from 1 to 10; wanted is 0 to 9, the places"),
        ({"labels": np.arange(20) % 10 - 1}, "has labels of type int64 from -1 to 8; wanted is 0 to 9"),
        ({"labels": np.full(20, 255, np.uint8)}, "has labels of type uint8 from 255 to 255; wanted is 0 to 9"),
        ({"labels": np.arange(20) / 2}, "has labels of type float64 from 0.0 to 9.5; wanted is whole numbers"),
        ({"labels": np.full(20, np.nan)}, "has labels of type float64 with NaN among them; wanted is whole"),
        ({"labels": np.eye(10)[np.arange(20) % 10]}, "has labels of shape (20, 10); wanted is (N,)"),
        ({"labels": np.array(["seven"] * 20)}, "arrays cannot be read (TypeError: can't convert np.ndarray of type"),
        ({"labels": np.array([7, None] * 10)}, "arrays cannot be read (ValueError: Object arrays cannot be loaded"),
        ({"labels": None}, "arrays cannot be read (KeyError: 'labels is not a file in the archive'"),
        ({"images": np.linspace(0, 1, 20 * 784).reshape(20, 28, 28)}, "has images of type float64 from 0.0 to 1.0"),
        ({"images": np.full((20, 28, 28), np.nan, np.float32)}, "has images of type float32 with NaN among them"),
        ({"images": np.full((20, 28, 28), 300)}, "has images of type int64 from 300 to 300; wanted is uint8"),
        ({"images": np.zeros((20, 32, 32), np.uint8)}, "has images of shape (20, 1, 32, 32); wanted is (N, 1, 28, 28)"),
        ({"images": np.zeros((20, 28, 28, 3), np.uint8)}, "has images of shape (20, 1, 28, 28, 3); wanted is (N, 1,"),
        ({"images": np.zeros((20, 784), np.uint8)}, "has images of shape (20, 1, 784); wanted is (N, 1, 28, 28)"),
        ({"images": np.zeros((0, 28, 28), np.uint8), "labels": np.arange(0)}, "has no images; wanted is one or more"),
        ({"images": np.full((20, 28, 28), 7, np.uint8)}, "all pixels of train.npz are 7"),
    ],
)
def test_data_of_one_s_own_that_are_not_as_they_should_be_are_told_in_one_line(
    arrays: Callable[..., DataConfig], changes: dict[str, Any], told: str
) -> None:
    config = arrays(**changes)
    with pytest.raises(SweepError) as caught:
        data.load(config)
    message = str(caught.value)
    assert message.startswith(f"data.root={config.root}: ")
    assert told in message
    assert "\n" not in message
    assert "train.npz" in message or "cannot be read" in message


@pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO")  # numpy leaves a damaged archive open
def test_files_of_one_s_own_that_are_missing_damaged_or_no_arrays_are_told_in_one_line(
    arrays: Callable[..., DataConfig], tmp_path: Path
) -> None:
    config = arrays()
    elsewhere = dataclasses.replace(config, root=str(tmp_path / "nowhere"))
    with pytest.raises(
        SweepError, match=r"nowhere: there is no file train\.npz in it; arrays is read from train\.npz and"
    ):
        data.load(elsewhere)
    whole = (tmp_path / "train.npz").read_bytes()
    for content in (b"", b"hello", whole[:2000], whole[:200] + bytes(50) + whole[250:]):
        (tmp_path / "train.npz").write_bytes(content)
        with pytest.raises(SweepError, match=r"arrays cannot be read \(\w+: .*\)$"):
            data.load(config)
    (tmp_path / "test.npz").unlink()
    with pytest.raises(SweepError, match=r"there is no file test\.npz in it"):
        data.load(config)


def test_only_data_that_belong_there_are_looked_for_in_sweep_data_root(
    arrays: Callable[..., DataConfig], mnist_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = arrays()
    monkeypatch.setenv("SWEEP_DATA_ROOT", mnist_root)
    assert data.with_local_root(mine) == mine
    assert data.with_local_root(mnist(tmp_path / "gone")).root == mnist_root
    assert data.with_local_root(mnist("/")).root == mnist_root
    # Where it is not in SWEEP_DATA_ROOT either, what lies where it was recorded is as good as ever.
    monkeypatch.setenv("SWEEP_DATA_ROOT", str(tmp_path))
    assert data.with_local_root(mnist(mnist_root)).root == mnist_root
    monkeypatch.setattr(data, "CONF", tmp_path / "conf")
    (tmp_path / "conf" / "data").mkdir(parents=True)
    for root, expected in {"mine": mine.root, "${oc.env:SWEEP_DATA_ROOT,mine}": str(tmp_path / "other")}.items():
        (tmp_path / "conf" / "data" / "arrays.yaml").write_text(f"name: arrays\nroot: {root}\n")
        (tmp_path / "other").mkdir(exist_ok=True)
        for file in mine.files:
            shutil.copy(tmp_path / file, tmp_path / "other" / file)
        monkeypatch.setenv("SWEEP_DATA_ROOT", str(tmp_path / "other"))
        assert data.with_local_root(mine).root == expected
    monkeypatch.setenv("SWEEP_DATA_ROOT", "")
    assert data.with_local_root(mine) == mine


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_mnist_is_mapped_so_that_processes_share_its_one_copy_in_memory(mnist_root: str) -> None:
    config = mnist(root=mnist_root)
    train, _ = config.read()
    mapped = Path("/proc/self/maps").read_text()
    assert str(config.folder.resolve() / "train-images-idx3-ubyte") in mapped
    train.images[0] = 7  # changes this process's own copy of a page, and no file
    config.prepare()
