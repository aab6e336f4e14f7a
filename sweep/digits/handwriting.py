"""Preparation of handwriting: from a photo, scan or drawing to an image like MNIST's, for a digit reader.

    image file  ->  grey  ->  ink  ->  the digit's own ink, cropped  ->  20x20  ->  28x28, centred by mass

The steps from the crop on are those of MNIST's makers: the digit is scaled to fit a box of 20x20 pixels with its
aspect ratio kept, which leaves grey levels, and its centre of mass is put at the centre of 28x28 (LeCun, Cortes and
Burges, http://yann.lecun.com/exdb/mnist/; LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to
Document Recognition, 1998, section III.A). Theirs were black and white scans; what comes before is for photographs,
screenshots and drawings.
"""

import contextlib
import warnings
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage
from torch import Tensor

from sweep import SweepError, in_one_line
from sweep.digits.ink import Grey, find_ink
from sweep.digits.segmentation import find_digit

FIELD, BOX = 28, 20
"""Sides, in pixels, of the resulting image and of the box that the digit fits."""

CENTRE = 14
"""Row and column, from 0, that the centre of mass is rounded to, as in all of MNIST's images."""

FORMATS = ("PNG", "JPEG")
"""File formats that are opened; Pillow's other readers hand a stranger's bytes to old libraries and programs."""

MOST_PIXELS = 64_000_000
"""Most pixels of an image, as many as phones take by default; reading it takes half a gigabyte."""

LONGEST = 1000
"""Longer side of an image, in pixels, above which it is reduced; a digit needs 20 of them."""

THIN, USUAL = 0.08, 0.11
"""Widths of strokes as shares of the digit's size: 95 of 100 of MNIST's are above the first, half above the second."""


def prepare(image: Image.Image) -> Tensor:
    """Return a picture of one digit prepared as MNIST's makers would have done.

    Args:
        image: An image of any size and kind; dark ink on light ground or the other way round, or on a transparent one.

    Returns:
        (1, 28, 28) in [0, 1], 0 for the ground and 1 for the ink.

    Raises:
        SweepError: There is nothing in it.
    """
    ink = _crop(find_digit(find_ink(_grey(image))))
    box = _resize(ink, 4 * BOX)
    width = _stroke_width(box) / max(box.shape)
    if width < THIN:
        ink = _crop(_thickened(box, (USUAL - width) / 2 * max(box.shape)))
    ink = _resize(ink, BOX)
    return torch.from_numpy(_centred(ink / ink.max())).unsqueeze(0)


def open_image(file: Path | IO[bytes], name: str, most_pixels: int = MOST_PIXELS) -> Image.Image:
    """Return the image in `file`, upright, with all of its pixels read; of several in one file the first.

    Args:
        file: The file; its content decides the format, not its name.
        name: Name of the image in errors.
        most_pixels: How many it may have; they are counted before any is read.

    Raises:
        SweepError: The file is not there, is in none of the FORMATS, too large, or not a whole image.
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
    """Return grey levels (H, W), 0 to 1, at most LONGEST on either side; what is transparent shows the ground."""
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
    """Return `grey` as seen through `alpha`, on a ground that sets it off."""
    seen = grey[alpha > 0.5]
    if not seen.size:
        return np.zeros_like(grey)
    low, middle, high = np.quantile(seen, [0.02, 0.5, 0.98])
    # All of one shade, it is ink and nothing else; otherwise a picture with its corners cut.
    ground = float(middle < 0.5) if high - low < 0.25 else float(middle)
    return (grey * alpha + ground * (1 - alpha)).astype(np.float32)


def _crop(ink: Grey) -> Grey:
    """Return `ink` without the empty rows and columns around it, scaled to a maximum of 1."""
    rows, columns = (np.flatnonzero(ink.any(axis)) for axis in (1, 0))
    cropped = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # A few pixels are darker than the pen is.
    return np.minimum(cropped / np.quantile(cropped[cropped > 0], 0.99), 1)


def _resize(ink: Grey, longest: int) -> Grey:
    """Return `ink` (H, W) with its longer side scaled to `longest` pixels, without aliasing."""
    scale = longest / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    return np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.BILINEAR))


def _stroke_width(ink: Grey) -> float:
    """Return the mean width of the strokes of `ink` (H, W), in pixels: twice the area by the outline's length."""
    dy, dx = np.gradient(np.pad(ink, 1))
    return float(2 * ink.sum() / np.hypot(dy, dx).sum())


def _thickened(ink: Grey, radius: float) -> Grey:
    """Return `ink` (H, W) as written by a pen with a point larger by `radius` pixels."""
    reach = round(radius)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    thick = ndimage.maximum_filter(np.pad(ink, reach), footprint=y * y + x * x <= radius * radius)
    return np.minimum(thick / np.median(thick[thick > 0]), 1)  # hairlines have become pale in scaling


def _centred(ink: Grey) -> Grey:
    """Return `ink` (H, W), up to 20x20, in 28x28 with its centre of mass in the middle, all of it inside."""
    field = np.zeros((FIELD, FIELD), dtype=np.float32)
    place = tuple(
        slice(start := int(np.clip(round(CENTRE - mass), 0, FIELD - side)), start + side)
        for mass, side in zip(ndimage.center_of_mass(ink), ink.shape, strict=True)
    )
    field[place] = ink
    return field
