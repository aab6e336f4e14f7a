"""Separation of ink from its ground, in grey images of handwriting: photographs, screenshots and drawings."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sweep import SweepError

Grey = NDArray[np.float32]

INK = 0.25
"""Share of the strongest ink above which a pixel is ink: shadows and JPEG artefacts around a stroke are below."""

LEAST_CONTRAST = 0.05
"""Ink differs from paper by at least this share of the way from black to white, and by NOISE times the noise."""

NOISE = 6.0

NOISY = INK / 4
"""Noise, as a share of the strongest ink, above which an image is smoothed; a small image would lose by it."""

RIM = 0.06
"""Share of the strongest ink above which a pixel beside ink belongs to it, as the pale outline of a stroke."""


def find_ink(grey: Grey) -> Grey:
    """Return how much darker or lighter than the ground each pixel of `grey` (H, W) is; 0 where there is no ink.

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
    """Return each pixel's difference from the ground of `grey` (H, W), towards the ink, and the noise."""
    ground, noise = _ground(grey)
    difference = grey - ground
    # Ink is what differs most; noise differs both ways.
    side = np.sign((difference.astype(np.float64) ** 3).sum())
    return np.maximum(difference * np.float32(side), 0), noise


def _ground(grey: Grey) -> tuple[Grey, float]:
    """Return the brightness of the ground of `grey` (H, W) at each pixel, and the standard deviation of its noise.

    A surface of second degree, for light from one side, is fitted to the margin and then to whatever else is like it.
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
