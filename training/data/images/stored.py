"""The values that an image file stores, before they become colours of 8 bits.

Pillow opens every format. TIFF files with bands or bits that Pillow would drop, or whose pixels it
does not know, are read by tifffile.
"""

import logging
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from tifffile import COMPRESSION, TiffFile, TiffFrame, TiffPage

from canopy_search.filestore.messages import first_line
from canopy_search.training.errors import DamagedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
"""Formats that Pillow may open. Without a limit it would pass EPS files to Ghostscript."""

ORIENTATION = 274
"""Tag of EXIF and TIFF."""

MOST_BYTES = 2**29
"""Largest size of an image's decoded values that tifffile may return."""

_TIFF_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BAND_COUNT, _BITS, _PHOTOMETRIC, _GDAL_NODATA = 277, 258, 262, 42113
_GREY, _RGB = 1, 2
_ALPHA = {1, 2}
_DEFLATE = {COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE}
_COMPRESSIONS = {COMPRESSION.NONE, COMPRESSION.LZW, *_DEFLATE}

# Where a file that is not read has which bytes, what it is, and the remedy.
_CONVERT = "convert it to PNG or TIFF"
_OURS = (
    (0, b"\xff\xd8\xff", "JPEG", "that is damaged, or has 12 bits or lossless compression"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG", "with a damaged header"),
    (0, b"GIF8", "GIF", "with a damaged header"),
    (8, b"WEBP", "WebP", "with a damaged header"),
)
_OTHERS = (
    (128, b"DICM", "DICOM", f"{_CONVERT} with all its bits"),
    (4, b"ftypavif", "AVIF", _CONVERT),
    (4, b"ftyphei", "HEIC", _CONVERT),
    (4, b"ftypmif1", "HEIF", _CONVERT),
    (4, b"jP  ", "JPEG 2000", _CONVERT),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000", _CONVERT),
    (4, b"JXL ", "JPEG XL", _CONVERT),
    (0, b"\xff\x0a", "JPEG XL", _CONVERT),
    (0, b"8BPS", "Photoshop", _CONVERT),
    (0, b"v/1\x01", "OpenEXR", _CONVERT),
    (0, b"\x93NUMPY", "NumPy", _CONVERT),
    (0, b"\x89HDF", "HDF5", _CONVERT),
    (0, b"%PDF", "PDF", _CONVERT),
    (0, b"%!PS", "PostScript", _CONVERT),
    (0, b"<svg", "SVG", _CONVERT),
    *((0, b"P%d" % number, "PNM", _CONVERT) for number in range(1, 7)),
)

# Pillow and tifffile raise any of these for a damaged file, depending on format and damage.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)

# They report damage also in logs, which would appear among our own messages.
for _name in ("tifffile", "PIL.TiffImagePlugin"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True, eq=False)
class StoredValues:
    """The values of one image.

    Attributes:
        values: (height, width, bands), of any integer or float type.
        colours: the bands of the picture, counted from 1: one or three. None if the file does not
            say which they are.
        alpha: (height, width), uint8, the opacity; None without.
        alpha_band: its band, counted from 1.
        missing: the value of pixels without data.
        orientation: of EXIF.
    """

    values: NDArray[Any]
    colours: tuple[int, ...] | None
    alpha: NDArray[np.uint8] | None = None
    alpha_band: int | None = None
    missing: float | None = None
    orientation: int = 1


@dataclass(frozen=True, eq=False)
class OpenImage:
    """An open image file.

    Attributes:
        content: of the file.
        image: from Pillow, or a TIFF file that Pillow does not know.
    """

    content: bytes
    image: Image.Image | TiffFile

    @property
    def pillow(self) -> Image.Image | None:
        """The image as Pillow reads it."""
        return None if isinstance(self.image, TiffFile) else self.image

    @property
    def format(self) -> str:
        """Its format, such as ``JPEG``."""
        return "TIFF" if isinstance(self.image, TiffFile) else self.image.format or "unknown"

    @property
    def bits(self) -> int:
        """Bits of a value."""
        image = self.image
        if isinstance(image, TiffFile):
            dtype = _first_page(image).dtype
            return 8 * dtype.itemsize if dtype is not None else 0
        if image.format == "PNG":
            return self.content[24]  # in its first chunk; Pillow does not keep it
        if image.format == "TIFF":
            return int(max(_tag(image, _BITS, (1,))))
        return 8

    @property
    def mode(self) -> str:
        """Pillow's colour mode, or the number of bands and bits where that says too little."""
        image = self.image
        if isinstance(image, TiffFile):
            bands = _first_page(image).samplesperpixel
        elif image.format == "TIFF":
            bands = int(_tag(image, _BAND_COUNT, 1))
        else:
            bands = len(image.getbands())
        if isinstance(image, TiffFile) or self.bits > 8 or bands > len(image.getbands()):
            return f"of {bands} {'band' if bands == 1 else 'bands'} of {self.bits} bits"
        return image.mode

    @property
    def is_of_grey_bands(self) -> bool:
        """Whether it is a TIFF file of deep bands that are no colours, which Pillow mistakes."""
        return (
            _tag(self.image, _PHOTOMETRIC, None) == _GREY
            and _tag(self.image, _BAND_COUNT, 1) > 1
            and self.bits > 8
        )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        if isinstance(self.image, TiffFile):
            page = _first_page(self.image)
            return page.imagewidth, page.imagelength
        return self.image.size

    @property
    def is_animated(self) -> bool:
        """Whether it has several frames or pages."""
        if isinstance(self.image, TiffFile):
            return len(_equal_pages(self.image)) > 1
        return bool(getattr(self.image, "is_animated", False))

    @property
    def orientation(self) -> int:
        """Orientation of EXIF."""
        if isinstance(self.image, TiffFile):
            return _orientation(_first_page(self.image))
        return int(self.image.getexif().get(ORIENTATION, 1))

    def stored_values(self, bands: tuple[int, ...] | None) -> StoredValues:
        """Returns the values of the first frame.

        Args:
            bands: the bands that are wanted, counted from 1; None for the file's colours. Pages of
                one band each count as bands.
        """
        image = self.image
        if isinstance(image, TiffFile):
            return _from_tifffile(image, bands)
        if image.format == "TIFF" and self._is_cut_by_pillow(image, bands):
            with TiffFile(BytesIO(self.content)) as tiff:
                return _from_tifffile(tiff, bands)
        if image.format == "PNG" and self.bits > 8 and image.mode in {"RGB", "RGBA"}:
            return self._from_deep_png(image)
        return _from_pillow(image)

    def _is_cut_by_pillow(self, image: Image.Image, bands: tuple[int, ...] | None) -> bool:
        """Whether Pillow drops bits or wanted bands of a TIFF file."""
        if _tag(image, _PHOTOMETRIC, None) not in {_GREY, _RGB}:
            return False
        is_deep = _tag(image, _BAND_COUNT, 1) > 1 and self.bits > 8
        return is_deep or max(bands or (1,)) > len(image.getbands())

    def _from_deep_png(self, image: Image.Image) -> StoredValues:
        """Reads 16-bit colours; Pillow unpacks either the high or the low byte of each value."""
        halves = []
        for raw_mode in (f"{image.mode};16B", f"{image.mode};16L"):
            with Image.open(BytesIO(self.content), formats=["PNG"]) as half:
                half.tile = [tile._replace(args=raw_mode) for tile in half.tile]
                halves.append(np.asarray(half))
        values = halves[0].astype(np.uint16) << 8 | halves[1]
        orientation = int(image.getexif().get(ORIENTATION, 1))
        if image.mode == "RGB":
            return StoredValues(values, (1, 2, 3), orientation=orientation)
        return StoredValues(values, (1, 2, 3), halves[0][..., 3], 4, orientation=orientation)


@contextmanager
def opened(content: bytes) -> Iterator[OpenImage]:
    """Opens an image; decoding errors in the body are reported likewise.

    Raises:
        DamagedImageError: the image cannot be read.
    """
    if not content:
        raise DamagedImageError("empty", "0 bytes")
    try:
        with _open(content) as image:
            yield OpenImage(content, image)
    except DamagedImageError:
        raise
    except Image.DecompressionBombError as error:
        raise DamagedImageError("too large", first_line(error)) from error
    except UnidentifiedImageError as error:
        raise _unknown(content) from error
    except _DAMAGED as error:
        message = first_line(error)
        if "requires the 'imagecodecs' package" in message:
            what = message.partition(" requires")[0]
            raise DamagedImageError(
                "unsupported",
                f"TIFF with {what}; pip install 'canopy-search[tiff]', or save it uncompressed",
            ) from error
        kind = "truncated" if "truncated" in message.lower() else "damaged"
        raise DamagedImageError(kind, message) from error


def _open(content: bytes) -> Image.Image | TiffFile:
    try:
        return Image.open(BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        if not content.startswith(_TIFF_BEGINNINGS):
            raise
    return TiffFile(BytesIO(content))


def _unknown(content: bytes) -> DamagedImageError:
    for at, beginning, name, what in _OURS:
        if content.startswith(beginning, at):
            return DamagedImageError(
                "damaged", f"{name} {what}; save it again, or as another format"
            )
    for at, beginning, name, remedy in _OTHERS:
        if content.startswith(beginning, at):
            return DamagedImageError("unsupported", f"{name} files are not read; {remedy}")
    return DamagedImageError("no image", f"none of {', '.join(FORMATS)}")


def _from_pillow(image: Image.Image) -> StoredValues:
    alpha, alpha_band = None, None
    if image.mode.startswith("I;16") or image.mode in {"I", "F"}:
        values = np.asarray(image)
    elif image.has_transparency_data:
        values = np.asarray(image.convert("RGBA"))
        alpha, alpha_band = values[..., 3], 4
    else:
        grey = image.mode in {"1", "L"}
        values = np.asarray(image.convert("L" if grey else "RGB"))
    values = values if values.ndim == 3 else values[..., None]
    colours = (1, 2, 3) if values.shape[2] > 1 else (1,)
    # After decoding, because Pillow then has turned a TIFF file.
    orientation = int(image.getexif().get(ORIENTATION, 1))
    missing = _number(_tag(image, _GDAL_NODATA, None))
    return StoredValues(values, colours, alpha, alpha_band, missing, orientation)


def _from_tifffile(tiff: TiffFile, bands: tuple[int, ...] | None) -> StoredValues:
    page = _first_page(tiff)
    pages = [page]
    if page.samplesperpixel == 1 and max(bands or (1,)) > 1:
        pages = _equal_pages(tiff)[: max(bands or (1,))]
    _check_size(pages)
    values = np.concatenate([_page_values(each) for each in pages], axis=2)
    alphas = [at for at, kind in enumerate(page.extrasamples, 1) if kind in _ALPHA]
    alpha_band = page.samplesperpixel - len(page.extrasamples) + alphas[0] if alphas else None
    alpha = None if alpha_band is None else values[..., alpha_band - 1]
    if alpha is not None and alpha.dtype != np.uint8:
        # Opacity has no other range than that of its type.
        alpha = np.asarray(alpha / _largest(alpha.dtype) * 255).round().astype(np.uint8)
    return StoredValues(
        values,
        _colours(page.photometric, values.shape[2] - len(alphas)),
        alpha,
        alpha_band,
        _number(page.tags.valueof(_GDAL_NODATA)),
        _orientation(page),
    )


def _colours(photometric: int, bands: int) -> tuple[int, ...] | None:
    if bands == 3 or (bands > 3 and photometric == _RGB):
        return (1, 2, 3)
    return (1,) if bands == 1 else None


def _largest(dtype: np.dtype[Any]) -> float:
    return float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0


def _page_values(page: TiffPage) -> NDArray[Any]:
    """Returns (height, width, bands)."""
    values: NDArray[Any] = np.asarray(page.asarray(maxworkers=1))
    if page.samplesperpixel > 1 and page.planarconfig == 2:
        values = np.moveaxis(values, 0, -1)
    elif page.samplesperpixel == 1:
        values = values[..., None]
    if values.ndim != 3 or values.dtype.kind not in "uif":
        raise DamagedImageError(
            "unsupported", f"TIFF with axes {page.axes}, {values.dtype}; save it as plain TIFF"
        )
    return values


def _check_size(pages: list[TiffPage]) -> None:
    """Checks compression and size before anything is decoded.

    Raises:
        DamagedImageError: the values would be too many, or the compression is not read.
    """
    for page in pages:
        if page.compression not in _COMPRESSIONS:
            name = getattr(page.compression, "name", page.compression)
            raise DamagedImageError(
                "unsupported",
                f"TIFF with compression {name}; save it with DEFLATE or without compression",
            )
        if page.dtype is None:
            raise DamagedImageError("unsupported", "TIFF with values of an unknown type")
        part_bytes = math.prod(page.chunks) * page.dtype.itemsize
        if max(page.nbytes * len(pages), part_bytes) > MOST_BYTES:
            raise DamagedImageError(
                "too large", f"{page.shape} values of {page.dtype}, more than {MOST_BYTES:,} bytes"
            )
        if page.compression in _DEFLATE:
            _check_deflated(page, part_bytes)


def _check_deflated(page: TiffPage, part_bytes: int) -> None:
    """Checks that no part unpacks to more than its size; tifffile would unpack all of it."""
    for at, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        page.parent.filehandle.seek(at)
        packed = page.parent.filehandle.read(count)
        if len(zlib.decompressobj().decompress(packed, part_bytes + 1)) > part_bytes:
            raise DamagedImageError("too large", f"a part unpacks to over {part_bytes:,} bytes")


def _first_page(tiff: TiffFile) -> TiffPage:
    return _whole_page(tiff.pages[0])


def _equal_pages(tiff: TiffFile) -> list[TiffPage]:
    """Returns the first page and others of its shape: no thumbnails and overviews."""
    pages = [_whole_page(page) for page in tiff.pages]
    return [page for page in pages if page.shape == pages[0].shape]


def _whole_page(page: TiffPage | TiffFrame) -> TiffPage:
    if isinstance(page, TiffFrame):
        raise TypeError("a page without tags")
    return page


def _orientation(page: TiffPage) -> int:
    return int(page.tags.valueof(ORIENTATION, default=1))


def _number(text: object) -> float | None:
    try:
        return float(str(text).strip(" \0"))
    except ValueError:
        return None


def _tag(image: object, tag: int, default: Any) -> Any:
    return getattr(image, "tag_v2", {}).get(tag, default)
