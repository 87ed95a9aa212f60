"""The eight symmetries of a square, as numbers and as views of images.

Symmetry ``turns + 4 * mirrored`` first turns an image by ``turns`` quarter turns to the left, then
mirrors it left to right if ``mirrored`` is 1.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_MIRRORED = 4
_HALF_TURN = 2

Scalar = TypeVar("Scalar", bound=np.generic)


def allowed_symmetries(augment: Sequence[str]) -> tuple[int, ...]:
    """The symmetries that some augmentations generate together, sorted; 0 leaves an image alone.

    Args:
        augment: of ``hflip`` (left to right), ``vflip`` (top to bottom), ``rot90`` (any number of
            quarter turns).
    """
    turns = {0}
    if "rot90" in augment:
        turns |= {1, 2, 3}
    if {"hflip", "vflip"} <= set(augment):
        turns.add(_HALF_TURN)
    allowed = set(turns)
    if "hflip" in augment:
        allowed |= {_MIRRORED + turn for turn in turns}
    if "vflip" in augment:
        # Top to bottom is left to right after half a turn.
        allowed |= {_MIRRORED + (turn + _HALF_TURN) % 4 for turn in turns}
    return tuple(sorted(allowed))


def whole_pixels(images: NDArray[np.uint8]) -> NDArray[np.void]:
    """A view of images by pixels of three bytes, which numpy moves faster than single bytes.

    Args:
        images: (images, px, px, 3), uint8, contiguous.

    Returns:
        (images, px, px).
    """
    return images.view("V3")[..., 0]


def symmetric_views(whole: NDArray[Scalar]) -> list[NDArray[Scalar]]:
    """Views of all images under each of the eight symmetries; nothing is copied.

    Args:
        whole: (images, px, px), as from `whole_pixels`, or anything else that a pixel has one of.
    """
    turned = [np.rot90(whole, turns, axes=(1, 2)) for turns in range(4)]
    return turned + [view[:, :, ::-1] for view in turned]
