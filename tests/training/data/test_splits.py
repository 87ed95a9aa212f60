import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from training.data.splits import Split, split_images
from training.errors import SplitError
from training.settings import SplitSettings

PLANET_SHARES = (0.93, 0.7, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)


def planet_targets(images: int = 2000) -> NDArray[np.uint8]:
    draws = np.random.default_rng(11).random((images, len(PLANET_SHARES)))
    return (draws < PLANET_SHARES).astype(np.uint8)


def parts(split: Split) -> list[NDArray[np.int64]]:
    return [split.train, split.validation, split.test]


@given(
    targets=arrays(
        np.uint8,
        st.tuples(st.integers(20, 60), st.integers(0, 5)),
        elements=st.integers(0, 1),
    ),
    test=st.sampled_from([0.0, 0.25]),
    seed=st.integers(-(2**40), 2**40),
)
def test_a_split_is_a_partition(targets: NDArray[np.uint8], test: float, seed: int) -> None:
    settings = SplitSettings(validation=0.25, test=test, seed=seed)

    split = split_images(targets, settings)

    assert np.array_equal(np.sort(np.concatenate(parts(split))), np.arange(len(targets)))
    for part in parts(split):
        assert part.dtype == np.int64
        assert np.array_equal(part, np.unique(part))
    again = split_images(targets, settings)
    assert all(map(np.array_equal, parts(split), parts(again)))


def test_every_label_is_spread_as_the_fractions_say() -> None:
    targets = planet_targets()

    split = split_images(targets, SplitSettings(validation=0.15, test=0.15))

    for part, fraction in zip(parts(split), (0.7, 0.15, 0.15), strict=True):
        assert abs(len(part) - fraction * len(targets)) <= 0.01 * len(targets)
        wanted = fraction * targets.sum(axis=0)
        assert np.all(abs(targets[part].sum(axis=0) - wanted) <= np.maximum(1.5, 0.02 * wanted))


def test_images_without_labels_and_labels_without_images_are_no_obstacle() -> None:
    targets = planet_targets(400)
    targets[:100] = 0
    targets[:, 2] = 0

    split = split_images(targets, SplitSettings(validation=0.2, test=0.2))

    without_labels = np.array([(part < 100).sum() for part in parts(split)])
    assert np.all(abs(without_labels - (60, 20, 20)) <= 4)


def test_without_a_test_part_nothing_is_lost() -> None:
    split = split_images(planet_targets(300), SplitSettings(validation=0.2, test=0.0))

    assert len(split.test) == 0
    assert split.test.dtype == np.int64
    assert len(split.train) + len(split.validation) == 300
    assert abs(len(split.validation) - 60) <= 3


def test_the_seed_decides() -> None:
    splits = [split_images(planet_targets(300), SplitSettings(seed=seed)) for seed in (0, 1)]

    assert not np.array_equal(splits[0].validation, splits[1].validation)


def test_the_split_is_the_same_on_every_machine() -> None:
    split = split_images(planet_targets(), SplitSettings(validation=0.15, test=0.15, seed=5))

    sha = hashlib.sha256()
    for part in parts(split):
        sha.update(part.astype("<i8").tobytes() + b"|")
    assert sha.hexdigest() == "3f3773544f9169d469db3b82f83597011abd8143f523d867602a2d74a4a6c48a"


@pytest.mark.parametrize("images", [1, 2])
def test_too_few_images_are_counted(images: int) -> None:
    targets = np.ones((images, 2), np.uint8)

    with pytest.raises(
        SplitError, match=f"^{images} images are too few.* for training, .* add images"
    ):
        split_images(targets, SplitSettings())
