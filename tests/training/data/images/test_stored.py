"""Files of more bits, bands and pages than Pillow keeps."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from canopy_search.training.data.images import stored
from canopy_search.training.data.images.stored import opened
from canopy_search.training.errors import DamagedImageError

# As the command line does: Pillow warns before it raises.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

BANDS = np.random.default_rng(0).integers(0, 4096, (6, 5, 4)).astype(np.uint16)


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    file = BytesIO()
    several = {"planarconfig": "contig"} if values.ndim == 3 else {}
    tifffile.imwrite(file, values, **{"photometric": "minisblack", **several, **options})
    return file.getvalue()


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def deep_png(values: NDArray[np.uint16]) -> bytes:
    """Returns a PNG of 16-bit colours, which Pillow does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    height, width, bands = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[bands], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def values_of(content: bytes, bands: tuple[int, ...] | None = None) -> NDArray[Any]:
    with opened(content) as image:
        return image.stored_values(bands).values


def damage(content: bytes) -> DamagedImageError:
    with pytest.raises(DamagedImageError) as caught, opened(content) as image:
        image.stored_values(None)
    return caught.value


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"photometric": "rgb"},
        {"photometric": "rgb", "extrasamples": ["unassalpha"]},
        {"compression": "zlib", "predictor": True},
        {"tile": (16, 16), "compression": "zlib"},
        {"bigtiff": True},
        {"byteorder": ">"},
    ],
)
def test_every_bit_of_every_band_is_read(options: dict[str, Any]) -> None:
    assert np.array_equal(values_of(tiff(BANDS, **options)), BANDS)


def test_bands_after_each_other_are_read_alike() -> None:
    planes = np.moveaxis(BANDS, 2, 0).copy()
    assert np.array_equal(values_of(tiff(planes, planarconfig="separate")), BANDS)


@pytest.mark.parametrize("kind", ["u1", "i2", "u4", "i4", "f4", "f8"])
def test_every_type_of_number_is_read(kind: str) -> None:
    values = BANDS.astype(kind)
    assert np.array_equal(values_of(tiff(values)), values)
    assert np.array_equal(values_of(tiff(values[..., 0].copy())), values[..., :1])


@pytest.mark.parametrize("bands", [3, 4])
def test_all_sixteen_bits_of_a_colour_png_are_read(bands: int) -> None:
    assert np.array_equal(values_of(deep_png(BANDS[..., :bands])), BANDS[..., :bands])


def paged(*pages: NDArray[Any]) -> bytes:
    file = BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page in pages:
            writer.write(page, photometric="minisblack", metadata=None)
    return file.getvalue()


def test_pages_of_one_band_count_as_bands() -> None:
    thumbnail = BANDS[::2, ::2, 0].copy()
    content = paged(*(BANDS[..., band] for band in range(3)), thumbnail)

    assert np.array_equal(values_of(content), BANDS[..., :1])
    assert np.array_equal(values_of(content, (3, 2, 1)), BANDS[..., :3])
    assert values_of(content, (4,)).shape[2] == 3
    with opened(content) as image:
        assert image.is_animated


@pytest.mark.parametrize(
    ("content", "colours"),
    [
        (tiff(BANDS), None),
        (tiff(BANDS[..., :2].copy()), None),
        (tiff(BANDS[..., :3].copy()), (1, 2, 3)),
        (tiff(BANDS, photometric="rgb", extrasamples=["unspecified"]), (1, 2, 3)),
        (tiff(BANDS[..., :2].copy(), extrasamples=["unassalpha"]), (1,)),
        (tiff(BANDS[..., 0].copy()), (1,)),
        (saved(Image.new("LA", (2, 2))), (1, 2, 3)),
    ],
)
def test_which_bands_are_colours_is_known_or_not(
    content: bytes, colours: tuple[int, ...] | None
) -> None:
    with opened(content) as image:
        assert image.stored_values(None).colours == colours


def test_opacity_missing_values_and_orientation_are_read() -> None:
    content = tiff(
        BANDS,
        photometric="rgb",
        extrasamples=["unassalpha"],
        extratags=[(42113, 2, 0, "7", True), (274, 3, 1, 6, True)],
    )
    with opened(content) as image:
        found = image.stored_values(None)
    assert (found.alpha_band, found.missing, found.orientation) == (4, 7.0, 6)
    assert found.alpha is not None
    assert np.abs(found.alpha / 255 - BANDS[..., 3] / 65535).max() < 1 / 255


@pytest.mark.parametrize(
    ("content", "mode"),
    [
        (tiff(BANDS), "of 4 bands of 16 bits"),
        (tiff(np.zeros((4, 4, 12), np.uint8)), "of 12 bands of 8 bits"),
        (deep_png(BANDS[..., :3]), "of 3 bands of 16 bits"),
        (saved(Image.fromarray(BANDS[..., 0])), "of 1 band of 16 bits"),
        (saved(Image.new("RGB", (5, 6)), "TIFF"), "RGB"),
    ],
)
def test_the_header_says_how_many_bands_and_bits(content: bytes, mode: str) -> None:
    with opened(content) as image:
        assert image.mode == mode


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (bytes(128) + b"DICM" + bytes(50), "unsupported", "DICOM files are not read"),
        (b"\0\0\0\x1cftypavif" + bytes(50), "unsupported", "AVIF"),
        (b"\0\0\0\x1cftypheic" + bytes(50), "unsupported", "HEIC"),
        (saved(Image.new("L", (8, 8)), "JPEG2000"), "unsupported", "JPEG 2000"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "damaged", "12 bits"),
        (b"<html>", "no image", "none of JPEG"),
        (tiff(BANDS.astype("c8")), "unsupported", "complex64"),
        (tiff(BANDS)[:150], "damaged", ""),
        (tiff(np.zeros((6, 5, 4), np.uint16), compression="lzma"), "unsupported", "LZMA"),
    ],
)
def test_what_cannot_be_read_is_named(content: bytes, kind: str, words: str) -> None:
    error = damage(content)
    assert error.kind == kind
    assert words in error.detail


def test_lzw_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", missing)
    assert "canopy-search[tiff]" in damage(tiff(BANDS)).detail


def with_tag(content: bytes, tag: int, value: int) -> bytes:
    """Returns a TIFF file with another value of a tag with one short or long."""
    with tifffile.TiffFile(BytesIO(content)) as file:
        found = file.pages[0].tags[tag]
        at, kind = found.valueoffset, {3: "<H", 4: "<I"}[found.dtype]
    return content[:at] + struct.pack(kind, value) + content[at + struct.calcsize(kind) :]


def test_a_size_that_is_only_claimed_is_not_allocated() -> None:
    content = with_tag(with_tag(tiff(BANDS), 256, 60_000), 257, 60_000)
    assert damage(content).kind == "too large"
    assert damage(with_tag(tiff(BANDS), 277, 65_535)).kind in {"too large", "damaged"}


def test_a_part_that_unpacks_to_more_than_its_size_is_not_unpacked() -> None:
    content = tiff(np.zeros((512, 512, 4), np.uint16), compression="zlib", rowsperstrip=512)
    assert damage(with_tag(with_tag(content, 256, 8), 257, 8)).kind == "too large"


def test_every_altered_byte_of_a_tiff_is_an_error_or_an_image() -> None:
    """Whatever breaks inside tifffile, nothing but a DamagedImageError comes out."""
    for content in (tiff(BANDS), tiff(BANDS, compression="zlib", tile=(16, 16))):
        failures = 0
        for at in range(0, len(content), 1 if len(content) < 1000 else 3):
            damaged = content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]
            try:
                assert values_of(damaged).ndim == 3
            except DamagedImageError:
                failures += 1
        assert failures > 20


def test_limits_are_for_all_pages_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "MOST_BYTES", 3 * 6 * 5 * 2 - 1)
    pages = paged(*np.moveaxis(BANDS, 2, 0))
    assert values_of(pages, (2,)).shape[2] == 2
    with pytest.raises(DamagedImageError, match="too large"):
        values_of(pages, (3,))
