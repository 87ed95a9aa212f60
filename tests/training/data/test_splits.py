import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from syrupy.assertion import SnapshotAssertion

from canopy_search.training.data.labels.label_file import LabelTable
from canopy_search.training.data.labels.targets import UNKNOWN
from canopy_search.training.data.splits import Split, split_images, split_table
from canopy_search.training.errors import SplitError
from canopy_search.training.settings import SplitSettings

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
def test_too_few_images_are_counted(images: int, words: SnapshotAssertion) -> None:
    targets = np.ones((images, 2), np.uint8)

    with pytest.raises(SplitError, match=f"^{images} ") as caught:
        split_images(targets, SplitSettings())
    assert str(caught.value) == words


@given(
    sizes=st.lists(st.integers(1, 6), min_size=12, max_size=40),
    labels=st.integers(0, 4),
    seed=st.integers(0, 1000),
)
def test_groups_are_never_torn_apart(sizes: list[int], labels: int, seed: int) -> None:
    groups = [f"g{at}" for at, size in enumerate(sizes) for _ in range(size)]
    targets = np.random.default_rng(seed).integers(0, 2, (len(groups), labels), dtype=np.uint8)
    settings = SplitSettings(validation=0.25, test=0.25, seed=seed)

    split = split_images(targets, settings, groups)

    assert np.array_equal(np.sort(np.concatenate(parts(split))), np.arange(len(targets)))
    of_group = [{groups[at] for at in part} for part in parts(split)]
    assert not of_group[0] & of_group[1] | of_group[0] & of_group[2] | of_group[1] & of_group[2]
    assert all(map(np.array_equal, parts(split), parts(split_images(targets, settings, groups))))


def test_groups_of_uneven_size_still_spread_every_label() -> None:
    targets = planet_targets(3000)
    random = np.random.default_rng(5)
    groups = [f"g{int(at)}" for at in random.pareto(1.5, 3000) * 100]
    largest = max(groups.count(group) for group in set(groups))

    split = split_images(targets, SplitSettings(validation=0.15, test=0.15), groups)

    for part, fraction in zip(parts(split), (0.7, 0.15, 0.15), strict=True):
        assert abs(len(part) - fraction * len(targets)) <= max(largest, 0.01 * len(targets))
        wanted = fraction * targets.sum(axis=0)
        assert np.all(abs(targets[part].sum(axis=0) - wanted) <= np.maximum(4, 0.15 * wanted))


def test_images_without_a_group_are_groups_of_their_own() -> None:
    split = split_images(planet_targets(100), SplitSettings(validation=0.2, test=0.2), [""] * 100)

    assert [len(part) for part in parts(split)] == [60, 20, 20]


def test_too_few_groups_are_counted(words: SnapshotAssertion) -> None:
    with pytest.raises(SplitError, match=r"^40 images in 2 groups ") as caught:
        split_images(planet_targets(40), SplitSettings(), ["a"] * 20 + ["b"] * 20)
    assert str(caught.value) == words


def table(parts: str, groups: list[str] | None = None) -> LabelTable:
    """Images whose split column has the first letters of these parts."""
    words = {"t": "train", "v": "validation", "e": "test"}
    return LabelTable(
        path=Path("labels.csv"),
        layout="",
        image_names=tuple(str(at) for at in range(len(parts))),
        labels=("x",),
        targets=np.ones((len(parts), 1), np.uint8),
        row_numbers=tuple(range(2, len(parts) + 2)),
        parts=tuple(words[letter] for letter in parts),
        groups=groups and tuple(groups),
    )


def test_the_user_s_own_split_is_taken_as_it_is() -> None:
    split = split_table(table("tvvtet"), SplitSettings())

    assert [part.tolist() for part in parts(split)] == [[0, 3, 5], [1, 2], [4]]
    assert split_table(table("tv"), SplitSettings()).test.tolist() == []


def test_validation_is_drawn_from_train_by_whole_groups_if_only_test_is_given() -> None:
    groups = [f"g{at // 4}" for at in range(80)]
    given = table("t" * 60 + "e" * 20, groups)

    split = split_table(given, SplitSettings(validation=0.2))

    assert split.test.tolist() == list(range(60, 80))
    assert len(split.validation) == 12
    assert np.array_equal(np.sort(np.concatenate([split.train, split.validation])), np.arange(60))
    assert not {groups[at] for at in split.train} & {groups[at] for at in split.validation}


def test_unknown_labels_change_no_split() -> None:
    targets = planet_targets(400)
    unknown = targets.copy()
    unknown[targets == 0] = UNKNOWN
    for groups in (None, [f"g{at // 3}" for at in range(400)]):
        split = split_images(targets, SplitSettings(), groups)
        again = split_images(unknown, SplitSettings(), groups)
        assert all(map(np.array_equal, parts(split), parts(again)))


@pytest.mark.parametrize(("given_parts", "missing"), [("t", "validation"), ("vve", "train")])
def test_a_split_column_without_a_part_is_refused(given_parts: str, missing: str) -> None:
    with pytest.raises(SplitError, match=rf"assigns no image to {missing}.*data\.split\.column"):
        split_table(table(given_parts), SplitSettings())


def test_a_split_column_that_tears_a_group_apart_is_refused() -> None:
    split_table(table("tvt", ["a", "b", "a"]), SplitSettings())
    split_table(table("tvt", ["", "", ""]), SplitSettings())
    with pytest.raises(SplitError, match=r"rows 2 and 3: .*'a' .*train .*validation"):
        split_table(table("tvt", ["a", "a", "b"]), SplitSettings())
