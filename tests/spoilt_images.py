"""A folder of images of which some are unusual and some are spoilt, in every way we know of."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Spoil = Callable[[Path], None]


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _replace_by_broken_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("gone.jpg"))


def _bomb(path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0")))


def _float_pixels(path: Path) -> None:
    Image.fromarray(np.ones((8, 8), np.float32)).save(path, format="TIFF")


def _break_png(path: Path) -> None:
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (32, 32, 3), np.uint8)).save(
        path, format="PNG"
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


SPOILT: dict[str, tuple[str, Spoil]] = {
    "missing": ("missing", Path.unlink),
    "folder": ("missing", _replace_by_folder),
    "broken link": ("broken link", _replace_by_broken_link),
    "zero bytes": ("empty", lambda path: path.write_bytes(b"") and None),
    "truncated": ("truncated", _cut),
    "text": ("no image", lambda path: path.write_text("404 not found") and None),
    "page": ("no image", lambda path: path.write_text("<html><body>log in") and None),
    "bomb": ("too large", _bomb),
    "float pixels": ("damaged", _float_pixels),
    "flipped byte": ("damaged", _break_png),
}
"""Way of spoiling an image → the kind that the report calls it, and what does it."""


def _save(mode: str, extension: str, **options: object) -> Spoil:
    def save(path: Path) -> None:
        with Image.open(path) as image:
            converted = image.convert(mode)
        path.unlink()
        converted.save(path.with_suffix(extension), **options)

    return save


def _sixteen_bits(path: Path) -> None:
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    path.unlink()
    Image.fromarray(grey).save(path.with_suffix(".png"))


def _animate(path: Path) -> None:
    with Image.open(path) as image:
        frames = [image.convert("RGB"), Image.new("RGB", image.size)]
    path.unlink()
    frames[0].save(path.with_suffix(".gif"), save_all=True, append_images=frames[1:])


def _rotate(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.load()
    image.save(path, exif=exif)


def _one_pixel(path: Path) -> None:
    Image.new("RGB", (1, 1), "red").save(path)


UNUSUAL: dict[str, Spoil] = {
    "greyscale": _save("L", ".jpg"),
    "palette": _save("P", ".png"),
    "transparent palette": _save("P", ".png", transparency=0),
    "CMYK": _save("CMYK", ".jpg"),
    "RGBA": _save("RGBA", ".png"),
    "16 bits": _sixteen_bits,
    "animated": _animate,
    "EXIF-rotated": _rotate,
    "1×1": _one_pixel,
}
"""Ways of being unusual that are no fault."""


def spoil_images(folder: Path) -> dict[str, str]:
    """Makes the images ``train_0`` … of a folder unusual, and the next ones spoilt.

    Returns:
        Name of each spoilt image → its kind.
    """
    for at, make_unusual in enumerate(UNUSUAL.values()):
        make_unusual(folder / f"train_{at}.jpg")
    kinds = {}
    for at, (kind, spoil) in enumerate(SPOILT.values(), start=len(UNUSUAL)):
        spoil(folder / f"train_{at}.jpg")
        kinds[f"train_{at}"] = kind
    return kinds
