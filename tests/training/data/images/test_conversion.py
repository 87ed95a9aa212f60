"""Bands, range and background, from values to colours."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from canopy_search.training.data.images.conversion import (
    AS_STORED,
    WHITE,
    Conversion,
    UndecidedError,
    fitting_range,
    some_values,
)
from canopy_search.training.data.images.decoding import decode_image
from canopy_search.training.errors import DamagedImageError
from tests.training.data.images.test_stored import BANDS, deep_png, saved, tiff

AUTO = Conversion(range="auto", background="auto")
GREY = BANDS[..., 0]
SQUARE = np.arange(4, dtype=np.uint16).reshape(2, 2) * 1365  # 12 bits: 0, 1365, 2730, 4095


def pixels(content: bytes, conversion: Conversion, px: int = 2) -> NDArray[np.uint8]:
    return decode_image(content, px, conversion)


@pytest.mark.parametrize("kind", ["u2", "i2", "u4", "f4", "f8"])
def test_twelve_bits_use_all_eight(kind: str) -> None:
    found = pixels(tiff(SQUARE.astype(kind)), Conversion(range=(0, 4095)))
    assert found[..., 0].tolist() == [[0, 85], [170, 255]]
    assert found[..., 0].tolist() == found[..., 2].tolist()


def test_values_beyond_the_range_are_clipped() -> None:
    found = pixels(tiff(SQUARE), Conversion(range=(1365, 2730)))
    assert found[..., 0].tolist() == [[0, 0], [255, 255]]


def test_missing_values_are_black() -> None:
    values = SQUARE.astype(np.float32)
    values[0] = (np.nan, np.inf)
    assert pixels(tiff(values), Conversion(range=(0, 4095)))[..., 0].tolist() == [
        [0, 255],
        [170, 255],
    ]
    high = tiff(SQUARE, extratags=[(42113, 2, 0, "4095", True)])
    assert pixels(high, Conversion(range=(0, 4095)))[1, 1].tolist() == [0, 0, 0]


def test_bands_are_counted_from_one_and_may_repeat() -> None:
    bands = np.zeros((2, 2, 4), np.uint8) + np.array([10, 20, 30, 40], np.uint8)
    for content in (tiff(bands), saved(Image.fromarray(bands))):
        for chosen, colours in (
            ((3, 2, 1), [30, 20, 10]),
            ((4, 1, 4), [40, 10, 40]),
            ((4,), [40, 40, 40]),
        ):
            assert pixels(content, Conversion(chosen))[0, 0].tolist() == colours


def test_images_of_the_same_values_are_equal_in_every_format() -> None:
    conversion = Conversion((1, 2, 3), (0, 4095))
    expected = pixels(tiff(BANDS[..., :3].copy(), photometric="rgb"), conversion)
    assert np.array_equal(pixels(deep_png(BANDS[..., :3]), conversion), expected)
    assert np.array_equal(pixels(tiff(BANDS), conversion), expected)


def test_the_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(np.rot90(SQUARE).copy())
    upright = [[0, 85], [170, 255]]
    for content in (
        saved(turned, exif=exif),
        saved(turned, "TIFF", exif=exif),
        tiff(np.rot90(np.dstack([SQUARE] * 4)).copy(), extratags=[(274, 3, 1, 6, True)]),
    ):
        assert pixels(content, Conversion((1,), (0, 4095)))[..., 0].tolist() == upright


TRANSPARENT = np.array([[[200, 100, 0, 255], [200, 100, 0, 0]]] * 2, np.uint8)


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGBA"), ("WEBP", "RGBA"), ("PNG", "P")])
def test_transparent_pixels_get_the_background(kind: str, mode: str) -> None:
    image = Image.fromarray(TRANSPARENT)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    content = saved(image if mode == "RGBA" else image.quantize(), kind, **options)
    found = pixels(content, Conversion(background=(0, 0, 255)))
    assert found[0].tolist() == [[200, 100, 0], [0, 0, 255]]
    with pytest.raises(UndecidedError, match="background"):
        pixels(content, AUTO)


def test_half_transparent_grey_is_mixed() -> None:
    content = saved(Image.new("LA", (2, 2), (100, 51)))
    assert pixels(content, Conversion(background=WHITE))[0, 0].tolist() == [224, 224, 224]
    assert pixels(content, AS_STORED)[0, 0].tolist() == [100, 100, 100]


def test_a_colour_that_is_transparent_is_recognised() -> None:
    content = saved(Image.new("RGB", (2, 2), (1, 2, 3)), transparency=(1, 2, 3))
    assert pixels(content, Conversion(background=WHITE)).min() == 255


def test_opaque_images_are_as_before() -> None:
    opaque = TRANSPARENT.copy()
    opaque[..., 3] = 255
    for content in (
        saved(Image.fromarray(opaque)),
        saved(Image.fromarray(opaque[..., :3]), "JPEG"),
    ):
        for conversion in (AUTO, Conversion(background=WHITE)):
            assert np.array_equal(pixels(content, conversion), pixels(content, AS_STORED))


def test_a_fourth_band_of_tiff_is_opacity_only_on_request() -> None:
    content = saved(Image.fromarray(TRANSPARENT), "TIFF")
    assert np.array_equal(pixels(content, AUTO), pixels(content, AS_STORED))
    assert pixels(content, Conversion(background=WHITE))[0, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    "content",
    [
        tiff(GREY.copy()),
        saved(Image.fromarray(GREY)),
        tiff(BANDS.astype("f4"), photometric="rgb"),
        deep_png(BANDS),
    ],
)
def test_more_than_eight_bits_need_a_range(content: bytes) -> None:
    with pytest.raises(UndecidedError, match="range"):
        pixels(content, AUTO)


@pytest.mark.parametrize(
    ("content", "conversion", "kind", "words"),
    [
        (tiff(BANDS), AUTO, "unclear bands", "4 bands; name those"),
        (tiff(BANDS), AS_STORED, "unclear bands", "4 bands; name those"),
        (tiff(BANDS), Conversion((5,), (0, 1)), "other bands", "names band 5"),
        (tiff(GREY.copy()), Conversion((3, 2, 1)), "other bands", "1 band, but"),
        (saved(Image.new("L", (2, 2))), Conversion(range=(0, 4095)), "other bit depth", "8 bits"),
        (saved(Image.new("L", (2, 2))), Conversion(range=(0, 1)), "other bit depth", "8 bits"),
        (tiff(np.full((2, 2), np.nan, "f4")), Conversion(range=(0, 1)), "damaged", "NaN"),
        (tiff(GREY.astype("f4")), AS_STORED, "damaged", "set data.range"),
    ],
)
def test_an_image_that_does_not_fit_the_settings_names_them(
    content: bytes, conversion: Conversion, kind: str, words: str
) -> None:
    with pytest.raises(DamagedImageError) as caught:
        pixels(content, conversion)
    assert caught.value.kind == kind
    assert words in caught.value.detail


def values(low: float, high: float, kind: str) -> NDArray[np.generic]:
    return np.linspace(low, high, 20_000).astype(kind)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([values(0, 255, "u1")] * 4, None),
        ([values(0, 4095, "u2")] * 4, (3, 4091)),
        ([values(0, 65535, "u2")] * 4, None),
        ([values(30_000, 34_000, "u2")] * 4, (30_003, 33_996)),
        ([values(-1000, 3000, "i2")] * 4, (-996, 2996)),
        ([values(0, 1, "f4")] * 4, (0.001, 0.999)),
        ([values(0, 4095, "u2")] + [values(0, 255, "u1")] * 3, None),
        ([values(7, 7, "u2")] * 4, None),
        ([], None),
    ],
)
def test_the_range_fits_most_images(
    samples: list[NDArray[np.generic]], expected: tuple[float, float] | None
) -> None:
    found = fitting_range(samples)
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-3))


def test_a_sample_has_every_band_and_no_missing_value() -> None:
    large = np.zeros((600, 600, 3), np.float32) + np.array([1, 2, 3], np.float32)
    large[0, :300] = np.nan
    assert set(some_values(large, 2.0).tolist()) == {1.0, 3.0}
    assert len(some_values(large, None)) <= 2**16


def test_only_what_differs_is_part_of_keys_and_json_keeps_it() -> None:
    assert AUTO.differences == AS_STORED.differences == []
    conversion = Conversion((3, 2, 1), (0.5, 2.0), WHITE)
    assert conversion.differences == [
        {"bands": (3, 2, 1), "range": (0.5, 2.0), "background": WHITE}
    ]
    assert Conversion.from_json(json.loads(json.dumps(asdict(conversion)))) == conversion
