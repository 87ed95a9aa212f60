"""Describes a data set: its files, its labels, and unusual properties of both."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from canopy_search.training.data.files.parallel import map_in_order, runs, usable_cores
from canopy_search.training.data.files.sources import (
    ImageFile,
    read_image,
    reported,
    threads_for,
    waiting_ender,
)
from canopy_search.training.data.images.stored import opened
from canopy_search.training.data.labels.targets import has_label
from canopy_search.training.errors import DamagedImageError, ImageError

_FILES_PER_TASK = 64
_BEGINNING_BYTES = 2**16
_EXPECTED_TOGETHER = 5.0
_SEEN_OFTEN = 5


@dataclass(frozen=True)
class FileSurvey:
    """Facts from the headers of the image files.

    Attributes:
        formats: format, such as ``JPEG`` → number of files.
        modes: Pillow's colour modes, or bands and bits, → number of files.
        sizes: (width, height) in pixels → number of files.
        animated: files with several frames.
        rotated: files whose EXIF data gives a rotation.
    """

    formats: Counter[str]
    modes: Counter[str]
    sizes: Counter[tuple[int, int]]
    animated: int
    rotated: int

    @property
    def median_side_px(self) -> int:
        """Median of the shorter sides; 0 without a readable image."""
        sides = [min(size) for size in self.sizes.elements()]
        return int(median(sides)) if sides else 0


@dataclass(frozen=True)
class LabelPair:
    """Two labels that occur together more or less often than by chance.

    Attributes:
        one: the label of `count` images.
        other: the label that always, or never, occurs with `one`.
        count: images that have `one`.
        both_ways: whether the reverse also holds.
    """

    one: str
    other: str
    count: int
    both_ways: bool


def survey_files(
    paths: Sequence[ImageFile], on_progress: Callable[[int, int], None] | None = None
) -> FileSurvey:
    """Reads the headers of image files; decoding reports files without a valid header.

    Of a remote file only the first bytes are read, if they are enough.

    Args:
        paths: the files.
        on_progress: called with (files read, files).
    """
    survey = FileSurvey(Counter(), Counter(), Counter(), 0, 0)
    animated = rotated = done = 0
    for headers in map_in_order(
        lambda run: [_header_of(paths[at]) for at in run],
        runs(len(paths), _FILES_PER_TASK),
        threads=threads_for(paths),
        ahead=4 * usable_cores(),
        stop=waiting_ender(paths),
    ):
        done += len(headers)
        for header in headers:
            if header is None:
                continue
            survey.formats[header.format] += 1
            survey.modes[header.mode] += 1
            survey.sizes[header.size] += 1
            animated += header.is_animated
            rotated += header.is_rotated
        if on_progress is not None:
            on_progress(done, len(paths))
    return FileSurvey(survey.formats, survey.modes, survey.sizes, animated, rotated)


def always_together(targets: NDArray[np.uint8], labels: Sequence[str]) -> list[LabelPair]:
    """Returns the labels that never occur without another one, most frequent first.

    Labels with fewer than five images are too rare to tell. A label on nine of ten images occurs
    with all others.

    Args:
        targets: (images, labels), 0 or 1.
        labels: names of the columns.
    """
    counts, both = _counts(targets)
    pairs = []
    for one in np.flatnonzero(counts >= _SEEN_OFTEN).tolist():
        for other in np.flatnonzero(both[one] == counts[one]).tolist():
            equal = bool(counts[one] == counts[other])
            if one == other or counts[other] > 0.9 * len(targets) or (equal and other < one):
                continue
            pairs.append(LabelPair(labels[one], labels[other], int(counts[one]), equal))
    return sorted(pairs, key=lambda pair: (-pair.count, pair.one, pair.other))


def never_together(targets: NDArray[np.uint8], labels: Sequence[str]) -> list[LabelPair]:
    """Returns pairs of labels without a common image, if five or more are expected by chance.

    Args:
        targets: (images, labels), 0 or 1.
        labels: names of the columns.
    """
    counts, both = _counts(targets)
    expected = np.outer(counts, counts) / max(len(targets), 1)
    found = np.argwhere(np.triu((both == 0) & (expected >= _EXPECTED_TOGETHER), 1))
    order = sorted(found.tolist(), key=lambda pair: (-expected[pair[0], pair[1]], pair))
    return [LabelPair(labels[i], labels[j], int(counts[i]), both_ways=True) for i, j in order]


def copies(digests: Sequence[str]) -> list[list[int]]:
    """Returns the positions of images with identical bytes, one list per duplicate image."""
    positions: dict[str, list[int]] = {}
    for at, digest in enumerate(digests):
        positions.setdefault(digest, []).append(at)
    return [same for same in positions.values() if len(same) > 1]


def _counts(targets: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the number of images of each label, and of each pair of labels."""
    # In float, because NumPy's integer matrix product is slow; exact up to 2^24 images.
    has = has_label(targets).astype(np.float32)
    both = np.rint(has.T @ has).astype(np.int64)
    return np.diag(both).copy(), both


@dataclass(frozen=True)
class _Header:
    """The header of one file."""

    format: str
    mode: str
    size: tuple[int, int]
    is_animated: bool
    is_rotated: bool


def _header_of(path: ImageFile) -> _Header | None:
    try:
        if isinstance(path, Path):
            return _header(read_image(path))
        with reported(ImageError):
            header = _header(path.read_beginning(_BEGINNING_BYTES))
            if header is None and path.entry.size > _BEGINNING_BYTES:
                header = _header(read_image(path))
            return header
    except OSError:
        return None


def _header(content: bytes) -> _Header | None:
    try:
        with opened(content) as image:
            return _Header(
                format=image.format,
                mode=image.mode,
                size=image.size,
                is_animated=image.is_animated,
                is_rotated=image.orientation not in {0, 1},
            )
    except DamagedImageError:  # decoding reports it in more detail
        return None
