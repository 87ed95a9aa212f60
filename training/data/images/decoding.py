"""Decodes image files to squares of RGB pixels."""

import os
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from canopy_search.training.data.images.conversion import AS_STORED, Conversion
from canopy_search.training.data.images.stored import ORIENTATION, OpenImage, opened

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")

DECODING_RULE = "exif-transposed rgb, draft 2x, pillow bilinear square 1"
"""Identifies how `decode_image` works; change it whenever the same file gives other pixels."""


def is_image_name(name: str) -> bool:
    """Whether a file name has the extension of an image."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122 - fast, for 40,000 names


def decode_image(
    content: bytes, image_px: int, conversion: Conversion = AS_STORED
) -> NDArray[np.uint8]:
    """Decodes one image to a square of RGB pixels, upright as its EXIF orientation says.

    The whole image is scaled to the square: a crop could remove the object that a label describes,
    and a border would waste pixels. Of an animation, or of several pages, the first one is used.

    Args:
        content: of the file.
        image_px: side of the square.
        conversion: how stored values become colours.

    Returns:
        (image_px, image_px, 3), uint8.

    Raises:
        DamagedImageError: the image cannot be read.
        UndecidedError: the image depends on a setting of the conversion that is ``auto``.
    """
    with opened(content) as image:
        if conversion.background == "auto" and image.format == "TIFF":
            # The fourth band of a TIFF file is often infrared, even if the file calls it opacity.
            conversion = replace(conversion, background=None)
        if image.pillow is not None:
            # JPEG scaling to at least twice the target: several times faster for large photographs,
            # and the filter below still has enough pixels to avoid aliasing.
            image.pillow.draft(None, (2 * image_px, 2 * image_px))
        if image.pillow is not None and _is_usual(image, conversion):
            rgb = _rgb(ImageOps.exif_transpose(image.pillow))
        else:
            stored = image.stored_values(conversion.bands)
            rgb = Image.fromarray(conversion.colours_of(stored))
            rgb.getexif()[ORIENTATION] = stored.orientation
            rgb = ImageOps.exif_transpose(rgb)
        square = rgb.resize((image_px, image_px), Image.Resampling.BILINEAR)
    return np.asarray(square)


def _is_usual(image: OpenImage, conversion: Conversion) -> bool:
    """Whether Pillow's own conversion gives the same colours, with less work."""
    if image.pillow is None or conversion.bands is not None:
        return False
    if isinstance(conversion.range, tuple) or (conversion.range == "auto" and image.bits > 8):
        return False
    if image.pillow.mode in {"I", "F"} or image.is_of_grey_bands:
        return False
    return conversion.background is None or not image.pillow.has_transparency_data


def _rgb(image: Image.Image) -> Image.Image:
    """Returns an image of any colour mode as RGB; transparency is dropped."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        # Pillow's conversion clips 16-bit values at 255, which turns such an image white.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "P":
        # Through RGBA, because otherwise Pillow warns about palettes with transparency.
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")
