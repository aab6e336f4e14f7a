"""Handwriting as people have it, made into an image like those a digit reader was trained on.

    image file  ->  grey  ->  ink  ->  the digit's own ink, cropped  ->  20x20  ->  28x28, centred by mass

The steps from the crop on are those of MNIST's makers: the digit is scaled to fit a box of 20x20 pixels with its
aspect ratio kept, which leaves grey levels, and its centre of mass is put at the centre of 28x28 (LeCun, Cortes and
Burges, http://yann.lecun.com/exdb/mnist/; LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to
Document Recognition, 1998, section III.A). Theirs were black and white scans; what comes before is for photographs,
screenshots and drawings.
"""

import contextlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage
from torch import Tensor

from sweep import SweepError, in_one_line

Grey = NDArray[np.float32]

FIELD, BOX = 28, 20
"""Sides of the image that comes out and of the box that the digit fits, in pixels."""

CENTRE = 14
"""The row and the column, counted from 0, that the centre of mass is rounded to, as it is in all of MNIST's images."""

FORMATS = ("PNG", "JPEG")
"""What is opened at all: Pillow's other readers hand a stranger's bytes to old libraries and to programs."""

MOST_PIXELS = 64_000_000
"""Of an image, so many as the largest that phones take by themselves; reading it takes half a gigabyte."""

LONGEST = 1000
"""Pixels on the longer side of an image, above which it is reduced; a digit needs 20 of them."""

INK = 0.25
"""The share of the strongest ink above which a pixel is ink: shadows and what JPEG leaves around a stroke are below."""

LEAST_CONTRAST = 0.05
"""Ink differs from paper by at least this share of the way from black to white, and by NOISE times the noise."""

NOISE = 6.0

NOISY = INK / 4
"""The noise, as a share of the strongest ink, above which an image is smoothed; a small one would lose by it."""

RIM = 0.06
"""The share of the strongest ink above which a pixel beside ink belongs to it, as the pale outline of a stroke."""

SPECK = 0.02
"""Pieces smaller than this share of the image's longer side are dust."""

PART = 0.1
"""Pieces with less than this share of the heaviest one's ink are not the digit's."""

WIDEST = 2.3
"""No digit is so many times as wide as it is high; the widest of MNIST's 10,000 test images is so 2.2 times."""

APART, BESIDE = 0.5, 0.7
"""What has at least this share of the tallest piece's height is a digit of its own: where more than a stroke's width
lies between them, and where less does. The bar of a 5 is lower, and so is the left half of an open 4."""

NARROWEST = 1.0
"""Pieces with less than a stroke's width between them are one digit if together they are at most so many times as wide
as high: a 0 that a scan has broken at its top and its foot."""

LIGHTEST, LIGHTEST_AT_EDGE = 0.2, 0.5
"""And so much of the heaviest one's ink: a 1 has less than a 0, and what is cut off from a neighbour less than that."""

OVERLAP = 0.25
"""The share of the narrower one's width by which slanted digits that stand side by side may overlap."""

THIN, USUAL = 0.08, 0.11
"""Widths of strokes as shares of the digit's size: 95 of 100 of MNIST's are above the first, half above the second."""


def prepare(image: Image.Image) -> Tensor:
    """A picture of one digit, as MNIST's makers would have prepared it.

    Args:
        image: Of any size and kind; dark ink on light ground or the other way round, or on a transparent one.

    Returns:
        (1, 28, 28) in [0, 1], 0 for the ground and 1 for the ink.

    Raises:
        SweepError: There is nothing in it.
    """
    ink = _crop(_digit(_ink(_grey(image))))
    box = _resize(ink, 4 * BOX)
    width = _stroke_width(box) / max(box.shape)
    if width < THIN:
        ink = _crop(_thickened(box, (USUAL - width) / 2 * max(box.shape)))
    ink = _resize(ink, BOX)
    return torch.from_numpy(_centred(ink / ink.max())).unsqueeze(0)


def open_image(file: Path | IO[bytes], name: str, most_pixels: int = MOST_PIXELS) -> Image.Image:
    """The image in `file`, upright, with all of its pixels read; of several in one file the first.

    Args:
        file: Where it is; what is in it decides, not what it is called.
        name: What to call it in an error.
        most_pixels: How many it may have; they are counted before any is read.

    Raises:
        SweepError: It is not there, is of another kind than FORMATS or too large, or is not a whole image.
    """
    try:
        with warnings.catch_warnings():
            # Of damage that does not keep an image from being read, and of sizes; those are limited here.
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                if image.width * image.height > most_pixels:
                    raise Image.DecompressionBombError
                image.load()
                with contextlib.suppress(Exception):  # what a camera noted beside the picture may be damaged
                    ImageOps.exif_transpose(image, in_place=True)
                return image
    except FileNotFoundError as error:
        raise SweepError(f"{name}: there is no such file") from error
    except IsADirectoryError as error:
        raise SweepError(f"{name}: it is a folder; name the image files in it, as in {name}/*.png") from error
    except UnidentifiedImageError as error:
        raise SweepError(f"{name}: it is no PNG or JPEG image; save it as one") from error
    except Image.DecompressionBombError as error:
        most = most_pixels // 10**6
        raise SweepError(f"{name}: it has more than {most} million pixels; scale it down first") from error
    except Exception as error:  # damaged files come out of Pillow's many readers as all sorts
        raise SweepError(f"{name}: it cannot be read as an image ({in_one_line(error, 100)})") from error


def _grey(image: Image.Image) -> Grey:
    """(H, W) from 0 to 1, at most LONGEST on either side; what is transparent is as the ground around the ink."""
    # Reduced as early as can be, for what follows takes several times the memory.
    if image.mode.startswith("I;"):
        image = image.convert("I")
    elif image.has_transparency_data:
        image = image if image.mode in ("LA", "RGBA") else image.convert("RGBA")
    elif image.mode not in ("I", "F", "L"):
        try:
            image = image.convert("L")
        except ValueError as error:
            raise SweepError(f"colours of kind {image.mode} cannot be read; save it as a PNG") from error
    image = image.reduce(max(1, -(-max(image.size) // LONGEST)))
    if image.mode in ("LA", "RGBA"):
        pixels = np.array(image.convert("LA"), dtype=np.float32) / np.float32(255)
        return _on_ground(pixels[..., 0], pixels[..., 1])
    pixels = np.nan_to_num(np.array(image, dtype=np.float32))
    # 16 bits come as 32-bit integers; divided by what 16 bits can hold, so that faint noise stays faint.
    white = {"I": 65535.0, "F": 1.0}.get(image.mode, 255.0)
    return pixels / np.float32(max(white, float(pixels.max())))


def _on_ground(grey: Grey, alpha: Grey) -> Grey:
    """What is seen of `grey` through `alpha`, on a ground that sets it off."""
    seen = grey[alpha > 0.5]
    if not seen.size:
        return np.zeros_like(grey)
    low, middle, high = np.quantile(seen, [0.02, 0.5, 0.98])
    # All of one shade, it is ink and nothing else; otherwise a picture with its corners cut.
    ground = float(middle < 0.5) if high - low < 0.25 else float(middle)
    return (grey * alpha + ground * (1 - alpha)).astype(np.float32)


def _ink(grey: Grey) -> Grey:
    """How much each pixel of `grey` (H, W) differs from the ground, the way that ink does; 0 where there is none.

    Raises:
        SweepError: There is nothing but the ground.
    """
    ink, noise = _above_ground(grey)
    if NOISY * ink.max() < noise:
        ink, noise = _above_ground(ndimage.gaussian_filter(grey, 1))
    strongest = float(ink.max())
    if strongest < max(LEAST_CONTRAST, NOISE * noise):
        raise SweepError("there is nothing in it; draw one digit, darker or lighter than its ground")
    is_ink = ink > INK * strongest
    # With the pale rim of the strokes.
    is_ink = ndimage.binary_dilation(is_ink, np.ones((3, 3))) & (ink > RIM * strongest)
    return np.where(is_ink, ink, 0)


def _above_ground(grey: Grey) -> tuple[Grey, float]:
    """How much each pixel of `grey` (H, W) differs from the ground to the side on which ink is, and the noise."""
    ground, noise = _ground(grey)
    difference = grey - ground
    # Ink is what differs most; noise differs both ways.
    side = np.sign((difference.astype(np.float64) ** 3).sum())
    return np.maximum(difference * np.float32(side), 0), noise


def _ground(grey: Grey) -> tuple[Grey, float]:
    """How bright the ground of `grey` (H, W) is at each pixel, and the standard deviation of its noise.

    A surface of second degree, for light that comes from one side, fitted to the margin and then to whatever
    else is like it.
    """
    height, width = grey.shape
    y, x = np.linspace(-1, 1, height), np.linspace(-1, 1, width)
    step = 1 + max(height, width) // 100  # enough to fit six numbers
    some_y, some_x = (side.ravel() for side in np.meshgrid(y[::step], x[::step], indexing="ij"))
    some_grey = grey[::step, ::step].ravel()
    margin = np.maximum(abs(some_y), abs(some_x)) >= min(0.92, 1 - 2 / max(height, width))
    surface = np.zeros(6)
    surface[0] = np.median(some_grey[margin])
    for among in [margin] * 5 + [np.full_like(margin, True)] * 3:
        terms, values = _terms(some_y[among], some_x[among]), some_grey[among]
        distance = abs(values - terms @ surface)
        if among is margin:
            spread = 1.4826 * float(np.median(distance))  # the standard deviation, of what is normally distributed
        is_ground = distance <= max(3 * spread, 2 / 255)
        surface = np.linalg.lstsq(terms[is_ground], values[is_ground], rcond=None)[0]
    noise = float(np.std((values - terms @ surface)[is_ground]))
    constant, by_y, by_x, by_yy, by_yx, by_xx = surface
    fitted = (constant + by_y * y + by_yy * y * y)[:, None] + (by_x * x + by_xx * x * x) + by_yx * np.outer(y, x)
    return fitted.astype(np.float32), noise


def _terms(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.ones_like(y), y, x, y * y, y * x, x * x], axis=-1)


def _digit(ink: Grey) -> Grey:
    """`ink` (H, W) without what is not the digit's: dust, and what comes in over the edges.

    Raises:
        SweepError: There is only dust.
    """
    pieces, sizes, masses = _pieces(ink, reach=0)
    ink = np.where((sizes >= SPECK * max(ink.shape))[pieces], ink, 0)
    if not ink.any():
        raise SweepError("there is nothing in it but specks; draw one digit, as large as you like")
    heaviest = ndimage.find_objects((pieces == masses.argmax()).astype(np.int8))[0]
    half_stroke = ndimage.distance_transform_edt(np.pad(ink[heaviest] > 0, 1)).max()
    groups, _, masses = _pieces(ink, reach=int(half_stroke))
    edge = np.concatenate([groups[0], groups[-1], groups[:, 0], groups[:, -1]])
    inner = masses.copy()
    inner[edge] = 0
    kept = masses >= PART * masses.max()
    if inner.max() >= PART * masses.max():  # else it is the digit that touches the edge
        kept = inner >= PART * inner.max()
    _require_one(ink, groups, kept, 2 * half_stroke)
    return np.where(kept[groups], ink, 0)


class _Box(NamedTuple):
    """Where a piece of ink lies, and how much it is."""

    rows: slice
    columns: slice
    mass: float

    @property
    def height(self) -> int:
        return self.rows.stop - self.rows.start

    @property
    def width(self) -> int:
        return self.columns.stop - self.columns.start


def _require_one(ink: Grey, groups: NDArray[np.int32], kept: NDArray[np.bool_], stroke: float) -> None:
    """Raise a SweepError if there is more than one digit in `ink` (H, W).

    Args:
        ink: All that is there.
        groups: Each pixel's piece, where gaps of a stroke's width do not separate.
        kept: For each of these, whether it would be read.
        stroke: How wide a stroke is at most, in pixels.
    """
    strokes = np.where(kept[groups], ink, 0)
    pieces, _, _ = _pieces(strokes, reach=0)
    parts = _boxes(strokes, pieces)
    tallest, heaviest = max(part.height for part in parts), max(part.mass for part in parts)
    high = [part.height >= max(APART * tallest, 2 * stroke) and part.mass >= LIGHTEST * heaviest for part in parts]
    group_of = ndimage.maximum(groups, pieces, np.arange(1, len(parts) + 1)).astype(int)
    boxes = _boxes(ink, groups)
    heaviest_read = max(box.mass for box, is_kept in zip(boxes, kept[1:], strict=True) if is_kept)
    at_edge = [
        box
        for box, is_kept in zip(boxes, kept[1:], strict=True)
        if not is_kept
        and max(APART * tallest, 2 * stroke) <= box.height <= tallest / APART
        and box.mass >= LIGHTEST_AT_EDGE * heaviest_read
        # From edge to edge it is a shadow, or the border of the paper.
        and not any(side.start == 0 and side.stop == end for side, end in zip(box[:2], ink.shape, strict=True))
    ]
    apart = at_edge + [boxes[group - 1] for group in np.unique(group_of[high])]
    is_several = _are_apart([box.columns for box in apart], OVERLAP) or _are_apart([box.rows for box in apart], 0)
    for group in np.unique(group_of[high]):
        box = boxes[group - 1]
        beside = [
            part.columns
            for part, of, is_high in zip(parts, group_of, high, strict=True)
            if of == group and is_high and part.height >= BESIDE * box.height
        ]
        is_several |= box.width > NARROWEST * box.height and _are_apart(beside, OVERLAP)
    if is_several:
        raise SweepError("there is more than one digit in it; crop it to one")
    height, width = (np.ptp(np.flatnonzero(strokes.any(axis))) + 1 for axis in (1, 0))
    if width > WIDEST * height:
        raise SweepError("it is too wide to be one digit; crop it to one, upright")


def _boxes(ink: Grey, pieces: NDArray[np.int32]) -> list[_Box]:
    """Of each piece of `ink`, by its number, from 1."""
    places = ndimage.find_objects(pieces)
    masses = ndimage.sum_labels(ink, pieces, np.arange(1, len(places) + 1))
    return [_Box(rows, columns, mass) for (rows, columns), mass in zip(places, masses.tolist(), strict=True)]


def _are_apart(sides: Sequence[slice], overlap: float) -> bool:
    """Whether two of `sides` share at most this part of the shorter one."""
    if not sides:
        return False
    first, last = min(sides, key=lambda side: side.stop), max(sides, key=lambda side: side.start)
    shorter = min(first.stop - first.start, last.stop - last.start)
    return first != last and first.stop - last.start <= overlap * shorter


def _pieces(ink: Grey, reach: int) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]:
    """The connected pieces of `ink` (H, W), where gaps of twice `reach` do not separate.

    Returns:
        Each pixel's piece, (H, W), 0 for none; each piece's longer side and how much ink it has, both 0 for piece 0.
    """
    near = ndimage.maximum_filter(ink > 0, 2 * reach + 1)
    pieces, count = ndimage.label(near, np.ones((3, 3)))
    pieces[ink == 0] = 0
    places = ndimage.find_objects(pieces)
    sizes = [0] + [max(side.stop - side.start for side in place) for place in places]
    masses = ndimage.sum_labels(ink, pieces, np.arange(count + 1))
    masses[0] = 0
    return pieces, np.array(sizes, dtype=np.float64), masses


def _crop(ink: Grey) -> Grey:
    """`ink` without the empty rows and columns around it, the strongest at 1."""
    rows, columns = (np.flatnonzero(ink.any(axis)) for axis in (1, 0))
    cropped = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # A few pixels are darker than the pen is.
    return np.minimum(cropped / np.quantile(cropped[cropped > 0], 0.99), 1)


def _resize(ink: Grey, longest: int) -> Grey:
    """`ink` (H, W) with its longer side scaled to `longest` pixels, without aliasing."""
    scale = longest / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    return np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.BILINEAR))


def _stroke_width(ink: Grey) -> float:
    """How wide the strokes of `ink` (H, W) are on average, in pixels: twice their area by their outline's length."""
    dy, dx = np.gradient(np.pad(ink, 1))
    return float(2 * ink.sum() / np.hypot(dy, dx).sum())


def _thickened(ink: Grey, radius: float) -> Grey:
    """`ink` (H, W) as a pen would leave it whose point is larger by `radius`, in pixels."""
    reach = round(radius)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    thick = ndimage.maximum_filter(np.pad(ink, reach), footprint=y * y + x * x <= radius * radius)
    return np.minimum(thick / np.median(thick[thick > 0]), 1)  # hairlines have become pale in scaling


def _centred(ink: Grey) -> Grey:
    """`ink` (H, W), up to 20x20, in 28x28 with its centre of mass in the middle, all of it inside."""
    field = np.zeros((FIELD, FIELD), dtype=np.float32)
    place = tuple(
        slice(start := int(np.clip(round(CENTRE - mass), 0, FIELD - side)), start + side)
        for mass, side in zip(ndimage.center_of_mass(ink), ink.shape, strict=True)
    )
    field[place] = ink
    return field
