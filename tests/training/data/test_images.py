from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.images import decode_image, find_images
from training.errors import ImageError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_images_are_found_with_and_without_extension_in_any_case(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.JPEG", "c.PNG", "v1.2.png", "sub/d.Jpg", "a.txt", "e.JPG")

    found = find_images(tmp_path, ["c", "a.jpg", "v1.2", "b", "sub/d", "e.jpg"])

    names = ["c.PNG", "a.jpg", "v1.2.png", "b.JPEG", "sub/d.Jpg", "e.JPG"]
    assert found == [tmp_path / name for name in names]


def test_missing_images_are_counted_and_the_first_ten_named(tmp_path: Path) -> None:
    touch(tmp_path, "x0.jpg", "x5.txt")

    with pytest.raises(ImageError) as caught:
        find_images(tmp_path, [f"x{number}" for number in range(13)])

    message = str(caught.value)
    assert f"{tmp_path}: 12 of 13 images missing (x1, x2, " in message
    assert "x10, …)" in message
    assert "x11" not in message


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="train-jpg: no such folder of images"):
        find_images(tmp_path / "train-jpg", ["a"])


def test_a_name_that_fits_two_files_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png")

    with pytest.raises(ImageError, match=r"'a' fits a\.jpg and a\.png"):
        find_images(tmp_path, ["a"])
    assert find_images(tmp_path, ["a.png"]) == [tmp_path / "a.png"]


def test_two_names_for_one_file_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")

    with pytest.raises(
        ImageError, match=r"a\.jpg: the label file has it twice, as 'a' and 'a.jpg'"
    ):
        find_images(tmp_path, ["a", "a.jpg"])


def saved(tmp_path: Path, image: Image.Image, name: str = "a.png", **options: object) -> Path:
    image.save(tmp_path / name, **options)
    return tmp_path / name


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
    path = saved(tmp_path, Image.fromarray(pixels))

    assert np.array_equal(decode_image(path, 24), pixels)
    assert np.array_equal(decode_image(path.read_bytes(), 24), pixels)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned to the left, shown turned to the right
    stored = Image.fromarray(np.rot90(upright).copy())

    pixels = decode_image(saved(tmp_path, stored, "a.jpg", exif=exif, quality=95), 16)

    assert pixels[:7].min() > 240
    assert pixels[9:].max() < 15


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
def test_a_damaged_image_is_named(tmp_path: Path, name: str, kept_bytes: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), name)
    content = path.read_bytes()
    assert len(content) > kept_bytes
    path.write_bytes(content[:kept_bytes])

    with pytest.raises(ImageError, match=f"{name}: cannot be decoded as JPEG or PNG"):
        decode_image(path, 8)


def test_every_altered_byte_of_a_png_is_an_error_or_an_image(tmp_path: Path) -> None:
    """Whatever breaks inside Pillow, nothing but an ImageError comes out."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    content = saved(tmp_path, Image.fromarray(noise)).read_bytes()
    failures = 0
    for at in range(len(content)):
        damaged = content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]
        try:
            assert decode_image(damaged, 8).shape == (8, 8, 3)
        except ImageError:
            failures += 1
    assert failures > len(content) // 2
