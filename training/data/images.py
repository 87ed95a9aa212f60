"""Finding the image files that a label file names, and decoding one of them."""

from collections import defaultdict
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from training.errors import ImageError

EXTENSIONS = (".jpg", ".jpeg", ".png")

DECODING_RULE = "exif-transposed rgb, draft 2x, pillow bilinear square 1"
"""Names how `decode_image` makes pixels; change it whenever the same file gives other pixels."""

# Pillow reports a damaged file by any of these, depending on the format and on where it broke.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def find_images(folder: Path, names: Sequence[str]) -> list[Path]:
    """Finds the file of every name, in the order of the names.

    Folders are listed once instead of asking for every name and extension, which on a network
    disk is the difference between a second and minutes.

    Args:
        folder: the folder of JPEG and PNG files.
        names: paths relative to it, with or without an extension.

    Raises:
        ImageError: the folder or images are missing, or a name fits two files or two names one.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder}: no such folder of images; check data.images")
    listings: dict[str, dict[str, list[Path]]] = {}
    found: dict[Path, str] = {}
    missing = []
    for name in names:
        parent, _, file_name = name.rpartition("/")
        if parent not in listings:
            listings[parent] = _files_by_stem(folder / parent)
        matches = _matches(file_name, listings[parent])
        if len(matches) > 1:
            raise ImageError(
                f"{folder}: {name!r} fits {' and '.join(sorted(path.name for path in matches))}; "
                "write the extension in the label file or remove one of the files"
            )
        if not matches:
            missing.append(name)
            continue
        if matches[0] in found:
            raise ImageError(
                f"{matches[0]}: the label file has it twice, as {found[matches[0]]!r} and "
                f"{name!r}; keep one"
            )
        found[matches[0]] = name
    if missing:
        shown = ", ".join(missing[:10]) + (", …" if len(missing) > 10 else "")
        raise ImageError(
            f"{folder}: {len(missing)} of {len(names)} images missing ({shown}); expected files "
            f"ending in {', '.join(EXTENSIONS)}; check data.images or remove their rows"
        )
    return list(found)


def _files_by_stem(folder: Path) -> dict[str, list[Path]]:
    """Name without extension → the image files that have it."""
    files: dict[str, list[Path]] = defaultdict(list)
    if folder.is_dir():
        for path in folder.iterdir():
            if path.suffix.lower() in EXTENSIONS:
                files[path.stem].append(path)
    return files


def _matches(name: str, files_by_stem: dict[str, list[Path]]) -> list[Path]:
    """The files that a name can mean; an exact match leaves no doubt."""
    stem, dot, suffix = name.rpartition(".")
    extension = (dot + suffix).lower()
    if extension not in EXTENSIONS:
        return files_by_stem.get(name, [])
    same_stem = files_by_stem.get(stem, [])
    exact = [path for path in same_stem if path.name == name]
    return exact or [path for path in same_stem if path.suffix.lower() == extension]


def decode_image(
    source: Path | bytes, image_px: int, *, name: str | None = None
) -> NDArray[np.uint8]:
    """Decodes one JPEG or PNG to a square of RGB pixels, upright as its EXIF orientation says.

    The whole image is squeezed into the square: a crop could cut off the very thing that a label
    speaks of, and a border would spend pixels on nothing.

    Args:
        source: the file, or its bytes.
        image_px: side of the square.
        name: what an error calls the image; default is the path.

    Returns:
        (image_px, image_px, 3), uint8.

    Raises:
        ImageError: the image cannot be read.
    """
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            # A JPEG's own scaling to no less than twice the target: several times faster for large
            # photographs, and the filter below still sees enough pixels to be free of aliasing.
            image.draft(None, (2 * image_px, 2 * image_px))
            rgb = _rgb(ImageOps.exif_transpose(image))
            square = rgb.resize((image_px, image_px), Image.Resampling.BILINEAR)
    except _DAMAGED as error:
        shown = name or (source if isinstance(source, Path) else "image")
        raise ImageError(
            f"{shown}: cannot be decoded as JPEG or PNG ({error}); replace or remove the image"
        ) from error
    return np.asarray(square)


def _rgb(image: Image.Image) -> Image.Image:
    """Any colour mode as RGB; transparency is dropped."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips sixteen bits at 255, which turns such an image white.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "P":
        # By way of RGBA, because Pillow warns about palettes with transparency otherwise.
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")
