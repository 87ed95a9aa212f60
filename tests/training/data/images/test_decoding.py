import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from canopy_search.training.data.images.decoding import decode_image
from canopy_search.training.errors import DamagedImageError, ImageError


def saved(tmp_path: Path, image: Image.Image, name: str = "a.png", **options: object) -> bytes:
    image.save(tmp_path / name, **options)
    return (tmp_path / name).read_bytes()


def test_the_whole_image_is_squeezed_into_the_square(tmp_path: Path) -> None:
    wide = np.zeros((40, 160, 3), np.uint8)
    wide[:, :80] = (200, 0, 0)
    wide[:, 80:] = (0, 0, 100)

    pixels = decode_image(saved(tmp_path, Image.fromarray(wide)), 8)

    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8
    assert pixels[:, 0].tolist() == [[200, 0, 0]] * 8
    assert pixels[:, -1].tolist() == [[0, 0, 100]] * 8


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_scaling_down_averages_instead_of_picking_pixels(tmp_path: Path, name: str) -> None:
    board = np.indices((256, 256)).sum(axis=0) % 2 * np.uint8(255)

    pixels = decode_image(saved(tmp_path, Image.fromarray(board.astype(np.uint8)), name), 16)

    assert abs(pixels.astype(int) - 127).max() <= 6


def test_an_image_of_the_right_size_is_unchanged(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    assert np.array_equal(decode_image(saved(tmp_path, Image.fromarray(pixels)), 24), pixels)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned to the left, shown turned to the right
    stored = Image.fromarray(np.rot90(upright).copy())

    pixels = decode_image(saved(tmp_path, stored, "a.jpg", exif=exif, quality=95), 16)

    assert pixels[:7].min() > 240
    assert pixels[9:].max() < 15


@pytest.mark.parametrize(("mode", "name"), [("CMYK", "a.jpg"), ("L", "a.jpg"), ("RGBA", "a.webp")])
def test_other_formats_and_their_modes_become_rgb(tmp_path: Path, mode: str, name: str) -> None:
    grey = Image.fromarray(np.full((8, 8), 200, np.uint8)).convert("RGB").convert(mode)

    pixels = decode_image(saved(tmp_path, grey, name, quality=100), 4)

    assert abs(pixels.astype(int) - 200).max() <= 3


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tiff"])
def test_of_an_animation_it_is_the_first_frame(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    path = tmp_path / name
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)

    assert decode_image(path.read_bytes(), 2).tolist() == [[[255, 0, 0]] * 2] * 2


def test_a_camera_s_jpeg_of_several_pictures_is_decoded(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), grey) for grey in ("white", "black")]
    path = tmp_path / "a.jpg"
    frames[0].save(path, format="MPO", save_all=True, append_images=frames[1:])

    assert decode_image(path.read_bytes(), 2).min() > 250


def test_one_pixel_fills_the_square(tmp_path: Path) -> None:
    pixels = decode_image(saved(tmp_path, Image.new("RGB", (1, 1), (1, 2, 3))), 4)

    assert pixels.tolist() == [[[1, 2, 3]] * 4] * 4


def huge_png(side_px: int) -> bytes:
    """A PNG that says it has so many pixels, and has hardly any."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


def test_a_decompression_bomb_is_not_unpacked() -> None:
    with pytest.raises(DamagedImageError) as caught:
        decode_image(huge_png(60_000), 8)

    assert caught.value.kind == "too large"


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"P6 1 1 255\nabc", b"<svg/>"])
def test_formats_beyond_ours_are_not_opened(content: bytes) -> None:
    with pytest.raises(DamagedImageError) as caught:
        decode_image(content, 8)

    assert caught.value.kind == "unsupported"


def test_pixels_of_unknown_brightness_are_refused(tmp_path: Path) -> None:
    image = Image.fromarray(np.ones((4, 4), np.float32))

    with pytest.raises(DamagedImageError, match=r"32-bit .* set data\.range"):
        decode_image(saved(tmp_path, image, "a.tiff"), 4)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey = np.repeat(np.array([[0, 255]], np.uint8), 2, axis=0).repeat(1, axis=1)
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(grey).convert(mode)

    pixels = decode_image(saved(tmp_path, image), 2)

    assert pixels.tolist() == [[[0, 0, 0], [255, 255, 255]]] * 2


def test_sixteen_bits_keep_their_shades(tmp_path: Path) -> None:
    shades = np.array([[0x0000, 0x40FF], [0x8000, 0xFFFF]], np.uint16)

    pixels = decode_image(saved(tmp_path, Image.fromarray(shades)), 2)

    assert pixels[..., 0].tolist() == [[0x00, 0x40], [0x80, 0xFF]]


def test_a_palette_with_transparency_is_decoded_without_a_warning(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("P")

    pixels = decode_image(saved(tmp_path, image, transparency=b"\x00" * 256), 2)

    assert pixels[0].tolist() == [[0, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize("kept_bytes", [0, 10, 200, 700])
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_damaged_image_is_recognised(tmp_path: Path, name: str, kept_bytes: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    content = saved(tmp_path, Image.fromarray(noise), name)
    assert len(content) > kept_bytes
    with pytest.raises(DamagedImageError) as caught:
        decode_image(content[:kept_bytes], 8)
    kinds = {
        0: {"empty"},
        10: {"damaged", "truncated"},
        200: {"damaged", "truncated"},
        700: {"truncated"},
    }
    assert caught.value.kind in kinds[kept_bytes]


def test_every_altered_byte_of_a_png_is_an_error_or_an_image(tmp_path: Path) -> None:
    """Whatever breaks inside Pillow, nothing but an ImageError comes out."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    content = saved(tmp_path, Image.fromarray(noise))
    failures = 0
    for at in range(len(content)):
        damaged = content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]
        try:
            assert decode_image(damaged, 8).shape == (8, 8, 3)
        except ImageError:
            failures += 1
    assert failures > len(content) // 2
