"""Separation of one digit from other ink in its picture: dust, marks at the edges, another digit."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sweep import SweepError
from sweep.digits.ink import Grey

SPECK = 0.02
"""Share of the image's longer side below which a piece of ink is dust."""

PART = 0.1
"""Share of the heaviest piece's ink below which a piece is not part of the digit."""

WIDEST = 2.3
"""Ratio of width to height that no digit has; the widest of MNIST's 10,000 test images has 2.2."""

APART, BESIDE = 0.5, 0.7
"""Shares of the tallest piece's height from which a piece is a digit of its own: where more than a stroke's width lies
between them, and where less does. The bar of a 5 is lower, and so is the left half of an open 4."""

NARROWEST = 1.0
"""Pieces with less than a stroke's width between them are one digit if together they are at most so many times as wide
as high: a 0 that a scan has broken at its top and its foot."""

LIGHTEST, LIGHTEST_AT_EDGE = 0.2, 0.5
"""Share of the heaviest piece's ink that another digit has: a 1 has less than a 0, one cut off at an edge less
still."""

OVERLAP = 0.25
"""Share of the narrower one's width by which slanted digits that stand side by side may overlap."""


def find_digit(ink: Grey) -> Grey:
    """Return `ink` (H, W) without dust and what comes in over the edges.

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
    """Place and amount of a piece of ink."""

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
    """Return the box of each piece of `ink`, by its number, from 1."""
    places = ndimage.find_objects(pieces)
    masses = ndimage.sum_labels(ink, pieces, np.arange(1, len(places) + 1))
    return [_Box(rows, columns, mass) for (rows, columns), mass in zip(places, masses.tolist(), strict=True)]


def _are_apart(sides: Sequence[slice], overlap: float) -> bool:
    """Return whether two of `sides` share at most this part of the shorter one."""
    if not sides:
        return False
    first, last = min(sides, key=lambda side: side.stop), max(sides, key=lambda side: side.start)
    shorter = min(first.stop - first.start, last.stop - last.start)
    return first != last and first.stop - last.start <= overlap * shorter


def _pieces(ink: Grey, reach: int) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]:
    """Return the connected pieces of `ink` (H, W), where gaps of twice `reach` do not separate.

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
