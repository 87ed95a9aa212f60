from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from canopy_search.training.data.images.augmentation import (
    allowed_symmetries,
    symmetric_views,
    whole_pixels,
)

OPERATIONS = {"hflip": np.fliplr, "vflip": np.flipud, "rot90": np.rot90}
SUBSETS = list(chain.from_iterable(combinations(OPERATIONS, count) for count in range(4)))


def views_of(pixels: NDArray[np.uint8]) -> list[bytes]:
    """The bytes of the first image under each of the eight symmetries."""
    return [view[0].tobytes() for view in symmetric_views(whole_pixels(pixels))]


def reachable(image: NDArray[np.uint8], operations: tuple[str, ...]) -> set[bytes]:
    """All images that repeated operations can make of one."""
    seen = {image.tobytes(): image}
    pending = [image]
    while pending:
        current = pending.pop()
        for operation in operations:
            changed = OPERATIONS[operation](current)
            if changed.tobytes() not in seen:
                seen[changed.tobytes()] = changed
                pending.append(changed)
    return set(seen)


@pytest.mark.parametrize("augment", SUBSETS)
def test_allowed_symmetries_are_what_the_operations_generate(
    numbered_pixels: NDArray[np.uint8], augment: tuple[str, ...]
) -> None:
    views = views_of(numbered_pixels)
    allowed = [views[symmetry] for symmetry in allowed_symmetries(augment)]

    assert len(set(allowed)) == len(allowed)
    assert set(allowed) == reachable(numbered_pixels[0], augment)


@given(turns=st.integers(0, 3), mirrored=st.booleans(), image=st.integers(0, 49))
def test_a_symmetry_turns_and_then_mirrors(turns: int, mirrored: bool, image: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 5, 5, 3), dtype=np.uint8)

    view = symmetric_views(whole_pixels(pixels))[turns + 4 * mirrored][image]

    wanted = np.rot90(pixels[image], turns)
    if mirrored:
        wanted = np.fliplr(wanted)
    assert view.tobytes() == wanted.tobytes()


def test_views_share_the_memory_of_the_images(numbered_pixels: NDArray[np.uint8]) -> None:
    for view in symmetric_views(whole_pixels(numbered_pixels)):
        assert np.shares_memory(view, numbered_pixels)
