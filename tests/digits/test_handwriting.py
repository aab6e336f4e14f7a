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
from PIL import Image, ImageDraw

from sweep.digits import handwriting
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
    assert (x.shape, x.dtype, x.min(), x.max()) == ((1, 28, 28), torch.float32, 0, 1)
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
        ("text.png", b"hello", "it is no image; give a PNG or JPEG file"),
        ("empty.jpg", b"", "it is no image; give a PNG or JPEG file"),
        ("cut.png", whole.read_bytes()[:1000], "it cannot be read as an image (image file is truncated"),
        ("bomb.png", bomb, "it has more than 178 million pixels; scale it down first"),
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
