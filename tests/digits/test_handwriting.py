"""Pictures as people have them become images like MNIST's."""

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from sweep.digits import handwriting
from sweep.digits.datasets import MNISTConfig
from sweep.digits.handwriting import open_image, prepare
from sweep.errors import SweepError


def seven(size: int = 300, pen: int = 20, ink: Any = 0, ground: Any = 255, mode: str = "L") -> Image.Image:
    """A 7 in the upper left of a sheet."""
    image = Image.new(mode, (size, size), ground)
    line = [(0.2 * size, 0.15 * size), (0.5 * size, 0.15 * size), (0.3 * size, 0.6 * size)]
    ImageDraw.Draw(image).line(line, fill=ink, width=pen, joint="curve")
    return image


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """The difference of two images as a share of the first one's ink; the centre may be rounded to the next pixel."""
    moved = [b.roll((y, x), (1, 2)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return min(((a - b).abs().sum() / a.sum()).item() for b in moved)


def test_a_digit_fits_20x20_and_its_centre_of_mass_is_the_centre_of_28x28() -> None:
    x = prepare(seven())
    assert (tuple(x.shape), x.dtype, float(x.min()), float(x.max())) == ((1, 28, 28), torch.float32, 0, 1)
    rows, columns = (x[0].sum(dim).nonzero().flatten() for dim in (1, 0))
    assert rows[-1] - rows[0] + 1 == 20
    assert columns[-1] - columns[0] + 1 < 20  # its aspect ratio is kept
    middle = (x[0].sum(0) @ torch.arange(28.0)) / x.sum()
    assert abs(middle - handwriting.CENTRE) <= 0.5


def test_no_ink_is_cut_off_where_the_centre_of_mass_is_far_from_the_middle() -> None:
    image = Image.new("L", (200, 200), 255)
    draw = ImageDraw.Draw(image)
    draw.line([(60, 30), (140, 30)], fill=0, width=40)
    draw.line([(100, 30), (100, 180)], fill=0, width=12)
    rows = prepare(image)[0].sum(1).nonzero().flatten()
    assert rows[-1] - rows[0] + 1 == 20


def test_the_same_drawing_comes_out_the_same_however_it_is_stored() -> None:
    drawn = seven()
    expected = prepare(drawn)
    clear = seven(mode="RGBA", ink=(0, 0, 0, 255), ground=(0, 0, 0, 0))
    exif = Image.Exif()
    exif[0x112] = 6  # turn by 90 degrees clockwise to see it upright
    turned = BytesIO()
    drawn.transpose(Image.Transpose.ROTATE_90).save(turned, "PNG", exif=exif)
    turned.seek(0)
    cut = Image.new("L", drawn.size, 0)
    ImageDraw.Draw(cut).ellipse((-20, -20, 320, 320), fill=255)
    corners = drawn.convert("RGBA")
    corners.putalpha(cut)
    for name, image in {
        "inverted": seven(ink=255, ground=0),
        "grey on grey": seven(ink=90, ground=150),
        "coloured": seven(mode="RGB", ink="navy", ground="wheat"),
        "bits": drawn.convert("1"),
        "palette": drawn.convert("RGB").quantize(8),
        "16 bits": Image.fromarray(np.asarray(drawn).astype(np.uint16) * 257),
        "floats": Image.fromarray(np.asarray(drawn).astype(np.float32)),
        "dark on transparent": clear,
        "light on transparent": seven(mode="RGBA", ink=(255, 255, 255, 255), ground=(255, 255, 255, 0)),
        "transparent palette": clear.quantize(8),
        "cut corners": corners,
        "CMYK": drawn.convert("CMYK"),
        "turned in EXIF": open_image(turned, "turned"),
    }.items():
        assert distance(expected, prepare(image)) < 0.02, name


def test_where_and_how_large_the_digit_is_makes_no_difference() -> None:
    expected = prepare(seven())
    elsewhere = Image.new("L", (1300, 900), 255)
    elsewhere.paste(seven(), (900, 500))
    assert distance(expected, prepare(elsewhere)) < 0.02
    assert distance(expected, prepare(seven(1500, 100))) < 0.15
    assert distance(expected, prepare(seven(6000, 400))) < 0.15
    assert distance(expected, prepare(seven().crop((50, 35, 160, 190)))) < 0.15


def test_hairlines_become_as_thick_as_a_pen_s() -> None:
    thick, thin = prepare(seven(600, 34)), prepare(seven(600, 2))
    assert 0.7 < thin.sum() / thick.sum() < 1.3
    assert thin.max() == 1


def test_dust_noise_and_light_from_one_side_do_not_change_what_is_read() -> None:
    expected = prepare(seven(600, 40))
    random = np.random.default_rng(0)
    light = 1 - 0.5 * np.linspace(0, 1, 600)[:, None] * np.linspace(0.2, 1, 600)
    photo = (0.4 + 0.5 * np.asarray(seven(600, 40)) / 255) * light + random.normal(0, 0.03, (600, 600))
    for y, x in random.integers(0, 595, (30, 2)):
        photo[y : y + 4, x : x + 4] *= 0.5
    stored = BytesIO()
    Image.fromarray((photo.clip(0, 1) * 255).astype(np.uint8)).save(stored, "JPEG")
    assert distance(expected, prepare(open_image(stored, "photo"))) < 0.25


def test_a_stroke_that_stands_apart_stays_and_what_comes_in_over_the_edge_does_not() -> None:
    five = Image.new("L", (300, 400), 255)
    draw = ImageDraw.Draw(five)
    draw.arc((80, 150, 220, 320), 250, 140, fill=0, width=18)
    alone = prepare(five)
    draw.line([(110, 90), (220, 80)], fill=0, width=18)
    with_bar = prepare(five)
    assert distance(alone, with_bar) > 0.5
    draw.rectangle((0, 0, 12, 400), fill=60)
    assert distance(with_bar, prepare(five)) < 0.1


@pytest.mark.parametrize("kind", ["white", "black", "transparent", "one pixel", "noise", "specks"])
def test_an_image_with_nothing_in_it_is_refused(kind: str) -> None:
    random = np.random.default_rng(0)
    image = {
        "white": Image.new("L", (50, 50), 255),
        "black": Image.new("RGB", (50, 50)),
        "transparent": Image.new("RGBA", (50, 50), (0, 0, 0, 0)),
        "one pixel": Image.new("L", (1, 1)),
        "noise": Image.fromarray(random.normal(200, 8, (400, 400)).clip(0, 255).astype(np.uint8)),
        "specks": Image.fromarray(np.where(random.random((400, 400)) < 0.0005, 0, 255).astype(np.uint8)),
    }[kind]
    with pytest.raises(SweepError, match="there is nothing in it"):
        prepare(image)


def test_a_file_that_is_no_whole_image_is_told_in_one_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8)).save(whole)
    header = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, b"IDAT")]
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    for name, content, message in [
        ("text.png", b"hello", "it is no PNG or JPEG image; save it as one"),
        ("empty.jpg", b"", "it is no PNG or JPEG image; save it as one"),
        ("cut.png", whole.read_bytes()[:1000], "it cannot be read as an image (image file is truncated"),
        ("bomb.png", bomb, "it has more than 64 million pixels; scale it down first"),
        ("folder", None, "it is a folder; name the image files in it, as in folder/*.png"),
        ("nowhere.png", None, "there is no such file"),
    ]:
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        elif name == "folder":
            os.mkdir(path)
        with pytest.raises(SweepError) as caught:
            open_image(path, name)
        assert str(caught.value).startswith(f"{name}: {message}")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "BMP", "EPS", "PPM", "TGA", "ICO", "PDF"])
def test_only_png_and_jpeg_are_opened_whatever_the_file_is_called(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "seven.png"
    seven(mode="RGB", ground="white", ink="black").save(path, kind)
    with pytest.raises(SweepError, match=r"^seven\.png: it is no PNG or JPEG image; save it as one$"):
        open_image(path, "seven.png")
    seven().save(tmp_path / "seven.eps", "JPEG")
    assert open_image(tmp_path / "seven.eps", "seven.eps").size == (300, 300)


def test_of_a_photo_with_more_pictures_in_its_file_and_of_an_animation_the_first_is_read(tmp_path: Path) -> None:
    expected = prepare(seven())
    for name, kind in {"photo.jpg": "MPO", "animated.png": "PNG"}.items():
        seven().save(tmp_path / name, kind, save_all=True, append_images=[Image.new("L", (300, 300))] * 2)
        assert distance(expected, prepare(open_image(tmp_path / name, name))) < 0.25


def test_pixels_are_counted_before_any_is_read() -> None:
    file = BytesIO()
    Image.new("L", (2000, 1000), 255).save(file, "PNG")
    header = BytesIO(file.getvalue()[:60])  # without pixels, so that reading them is another error
    with pytest.raises(SweepError, match=r"^it: it has more than 1 million pixels; scale it down first$"):
        open_image(header, "it", 1_999_999)
    with pytest.raises(SweepError, match=r"^it: it cannot be read as an image"):
        open_image(header, "it", 2_000_000)
    assert open_image(file, "it", 2_000_000).size == (2000, 1000)


def test_notes_beside_the_picture_do_no_harm(tmp_path: Path) -> None:
    notes = PngInfo()
    notes.add_text("bomb", "0" * 2**23, zip=True)
    seven().save(tmp_path / "before.png", pnginfo=notes)
    seven().save(tmp_path / "after.png")
    after = (tmp_path / "after.png").read_bytes()
    text = (tmp_path / "before.png").read_bytes()
    start = text.index(b"zTXt") - 4
    chunk = text[start : start + 12 + int.from_bytes(text[start : start + 4], "big")]
    end = after.index(b"IEND") - 4
    (tmp_path / "after.png").write_bytes(after[:end] + chunk + after[end:])
    for name in ("before.png", "after.png"):
        with pytest.raises(SweepError, match="it cannot be read as an image"):
            open_image(tmp_path / name, name)
    seven().save(tmp_path / "exif.jpg", exif=b"Exif\0\0II*\0" + b"\xff" * 40)
    assert distance(prepare(seven()), prepare(open_image(tmp_path / "exif.jpg", "exif.jpg"))) < 0.25


@pytest.fixture
def mnist_digits(mnist_root: str) -> NDArray[np.uint8]:
    """(10000, 28, 28), MNIST's test images."""
    config = MNISTConfig(name="mnist", root=mnist_root, batch_size=1, validation=0, shift=0)
    return config.read()[1].images[:, 0].numpy()


def is_several(picture: NDArray[np.uint8]) -> bool:
    """Whether `picture` is told to have more than one digit in it."""
    try:
        prepare(Image.fromarray(picture))
    except SweepError as error:
        return "crop it to one" in str(error)
    return False


def test_no_digit_of_mnist_s_is_taken_for_several(mnist_digits: NDArray[np.uint8]) -> None:
    # Of all 10,000 it is one: number 5676, a 4 in two upright strokes. These were in pieces before they were prepared.
    in_pieces = [8, 694, 812, 856, 1911, 1940, 3146, 3448, 3552, 5331, 5642, 6558, 6572, 6823, 8020, 9698, 9940]
    assert not [i for i in (*range(0, 10_000, 100), *in_pieces) if is_several(mnist_digits[i])]


@pytest.mark.parametrize("gap", [1, 4, 12, 28])
@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_several_digits_in_a_row_are_told(mnist_digits: NDArray[np.uint8], gap: int, count: int) -> None:
    random = np.random.default_rng(count)
    told = 0
    for _ in range(20):
        digits = mnist_digits[random.integers(0, 10_000, count)]
        cropped = [digit[:, (digit > 60).any(0)] for digit in digits]
        row = np.concatenate([np.pad(digit, ((0, 0), (0, gap))) for digit in cropped], axis=1)
        told += is_several(np.pad(row, 4))
    assert told >= (17 if count == 2 and gap < 12 else 19)


def test_twenty_digits_in_two_rows_and_two_one_above_the_other_are_told(mnist_digits: NDArray[np.uint8]) -> None:
    rows = [np.concatenate(list(mnist_digits[start : start + 10]), axis=1) for start in (0, 10)]
    assert is_several(np.pad(np.concatenate(rows), 10))
    assert is_several(np.concatenate([np.pad(digit, 6) for digit in mnist_digits[:2]]))


def test_several_digits_cropped_to_their_very_edges_are_told() -> None:
    picture = Image.new("L", (400, 150), 255)
    draw = ImageDraw.Draw(picture)
    draw.line([(0, 20), (90, 20), (50, 149)], fill=0, width=16)
    draw.ellipse((150, 15, 230, 135), outline=0, width=16)  # alone away from the edges
    draw.line([(399, 5), (310, 80), (399, 80), (399, 149)], fill=0, width=16)
    assert is_several(np.asarray(picture))
    assert not is_several(np.asarray(picture)[:, 80:260])  # what is left of a neighbour does not count


def draw_on_sheet(*shapes: tuple[str, Any]) -> NDArray[np.uint8]:
    """(400, 300), dark on light, of ImageDraw's shapes: a line of points, or what an ellipse or an arc takes."""
    sheet = Image.new("L", (300, 400), 255)
    draw = ImageDraw.Draw(sheet)
    for kind, place in shapes:
        if kind == "line":
            draw.line(place, fill=0, width=18)
        elif kind == "dot":
            draw.ellipse([place[0] - 6, place[1] - 6, place[0] + 6, place[1] + 6], fill=0)
        else:
            box, (start, end) = place
            draw.arc(box, start, end, fill=0, width=18)
    return np.asarray(sheet)


DOTS = [("dot", (150 + 70 * np.cos(t), 200 + 120 * np.sin(t))) for t in np.linspace(0, 2 * np.pi, 24)]


@pytest.mark.parametrize(
    "shapes",
    [
        [("arc", ((80, 150, 220, 320), (250, 140))), ("line", [(110, 90), (220, 80)])],
        [("line", [(80, 80), (70, 200), (165, 200)]), ("line", [(189, 60), (189, 330)])],
        [("line", [(80, 80), (70, 200), (140, 200)]), ("line", [(189, 60), (189, 330)])],
        [("arc", ((80, 80, 220, 320), (-86, 86))), ("arc", ((80, 80, 220, 320), (94, 266)))],
        [("arc", ((100, 60, 200, 160), (0, 360))), ("arc", ((90, 165, 210, 310), (0, 360)))],
        [("line", [(150, 60), (150, 300)]), ("line", [(90, 330), (210, 330)])],
        DOTS,
    ],
    ids=[
        "5 with its bar apart",
        "open 4",
        "wide open 4",
        "broken 0",
        "8 of two rings",
        "1 with its foot apart",
        "dotted 0",
    ],
)
def test_one_digit_of_several_strokes_is_one(shapes: list[tuple[str, Any]]) -> None:
    assert not is_several(draw_on_sheet(*shapes))


def test_what_is_too_wide_for_a_digit_is_told() -> None:
    with pytest.raises(SweepError, match=r"^it is too wide to be one digit; crop it to one, upright$"):
        prepare(Image.fromarray(draw_on_sheet(("line", [(40, 200), (260, 200)]))))
