from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from canopy_search.training.data.survey import always_together, copies, never_together, survey_files


def test_headers_are_counted_by_format_mode_size_and_peculiarity(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("L", (8, 6)).save(tmp_path / "b.png")
    Image.new("RGB", (30, 40)).save(
        tmp_path / "c.gif", save_all=True, append_images=[Image.new("RGB", (30, 40), "red")]
    )
    (tmp_path / "d.jpg").write_bytes(b"")
    seen: list[tuple[int, int]] = []

    survey = survey_files(
        [*sorted(tmp_path.iterdir()), tmp_path / "gone.png"], lambda *step: seen.append(step)
    )

    assert survey.formats == {"JPEG": 1, "PNG": 1, "GIF": 1}
    assert survey.modes == {"RGB": 1, "L": 1, "P": 1}
    assert survey.sizes == {(8, 6): 2, (30, 40): 1}
    assert (survey.animated, survey.rotated, survey.median_side_px) == (1, 1, 6)
    assert seen[-1] == (5, 5)


def test_no_image_has_no_median(tmp_path: Path) -> None:
    assert survey_files([]).median_side_px == 0


def test_labels_that_always_come_together() -> None:
    targets = np.zeros((100, 4), np.uint8)
    targets[:20, 0] = targets[:20, 1] = 1  # equal
    targets[:50, 2] = 1  # the first two never come without it
    targets[:95, 3] = 1  # comes with anything

    pairs = always_together(targets, ["a", "b", "c", "all"])

    assert [(pair.one, pair.other, pair.count, pair.both_ways) for pair in pairs] == [
        ("a", "b", 20, True),
        ("a", "c", 20, False),
        ("b", "c", 20, False),
    ]


def test_labels_that_never_come_together_although_chance_would_have_it() -> None:
    targets = np.zeros((100, 3), np.uint8)
    targets[:50, 0] = 1
    targets[50:, 1] = 1
    targets[0, 2] = 1  # too rare to say anything

    pairs = never_together(targets, ["a", "b", "rare"])

    assert [(pair.one, pair.other) for pair in pairs] == [("a", "b")]


@given(
    targets=arrays(
        np.uint8, st.tuples(st.integers(1, 40), st.integers(0, 5)), elements=st.integers(0, 1)
    )
)
def test_pairs_are_what_they_say(targets: NDArray[np.uint8]) -> None:
    labels = [f"l{at}" for at in range(targets.shape[1])]
    column = {label: targets[:, at].astype(bool) for at, label in enumerate(labels)}
    for pair in always_together(targets, labels):
        one, other = column[pair.one], column[pair.other]
        assert pair.count == one.sum() >= 5
        assert other[one].all()
        assert pair.both_ways == bool((one == other).all())
    for pair in never_together(targets, labels):
        assert not (column[pair.one] & column[pair.other]).any()


def test_copies_are_found_by_their_digests() -> None:
    assert copies(["a", "b", "a", "c", "b", "a"]) == [[0, 2, 5], [1, 4]]
