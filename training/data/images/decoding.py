"""Decodes image files to squares of RGB pixels."""

import os
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from canopy_search.filestore.messages import first_line
from canopy_search.training.errors import ImageError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
"""Formats that Pillow may open. Without a limit it would pass EPS files to Ghostscript."""

DECODING_RULE = "exif-transposed rgb, draft 2x, pillow bilinear square 1"
"""Identifies how `decode_image` works; change it whenever the same file gives other pixels."""

# Pillow raises any of these for a damaged file, depending on the format and the damage.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError)


class DamagedImageError(ImageError):
    """One image file cannot be decoded.

    Attributes:
        kind: ``empty``, ``truncated``, ``no image``, ``too large`` or ``damaged``.
        detail: the decoder's message.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


def is_image_name(name: str) -> bool:
    """Whether a file name has the extension of an image."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122 - fast, for 40,000 names


def decode_image(content: bytes, image_px: int) -> NDArray[np.uint8]:
    """Decodes one image to a square of RGB pixels, upright as its EXIF orientation says.

    The whole image is scaled to the square: a crop could remove the object that a label describes,
    and a border would waste pixels. Of an animation, the first frame is used.

    Args:
        content: of the file.
        image_px: side of the square.

    Returns:
        (image_px, image_px, 3), uint8.

    Raises:
        DamagedImageError: the image cannot be read.
    """
    if not content:
        raise DamagedImageError("empty", "0 bytes")
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            # JPEG scaling to at least twice the target: several times faster for large photographs,
            # and the filter below still has enough pixels to avoid aliasing.
            image.draft(None, (2 * image_px, 2 * image_px))
            rgb = _rgb(ImageOps.exif_transpose(image))
            square = rgb.resize((image_px, image_px), Image.Resampling.BILINEAR)
    except Image.DecompressionBombError as error:
        raise DamagedImageError("too large", first_line(error)) from error
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS)
        raise DamagedImageError("no image", f"none of {kinds}") from error
    except _DAMAGED as error:
        message = first_line(error)
        kind = "truncated" if "truncated" in message.lower() else "damaged"
        raise DamagedImageError(kind, message) from error
    return np.asarray(square)


def _rgb(image: Image.Image) -> Image.Image:
    """Returns an image of any colour mode as RGB; transparency is dropped."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        # Pillow's conversion clips 16-bit values at 255, which turns such an image white.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in {"I", "F"}:
        raise ValueError(
            "32-bit pixels have no defined brightness range; save it with 8 or 16 bits"
        )
    if image.mode == "P":
        # Through RGBA, because otherwise Pillow warns about palettes with transparency.
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")
