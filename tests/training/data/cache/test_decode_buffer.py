from pathlib import Path

import numpy as np
import pytest

from canopy_search.training.data.cache.decode_buffer import DecodeBuffer
from canopy_search.training.data.cache.pixels import PixelCaches
from canopy_search.training.errors import DiskFullError

PX = 16
SQUARE = np.random.default_rng(0).integers(0, 256, (PX, PX, 3), dtype=np.uint8)


def test_what_was_added_is_found_by_the_next_process(tmp_path: Path) -> None:
    one = DecodeBuffer(tmp_path / "buffer", PixelCaches(tmp_path, PX))
    one.add("s3://b/a.jpg", (10, "etag 1"), "aa", SQUARE)
    one.add("s3://b/b.jpg", (20, "etag 2"), "bb", ("truncated", "image file is truncated"))
    one.add("s3://b/c.jpg", (10, "etag 3"), "aa", SQUARE)
    one.close()

    other = DecodeBuffer(tmp_path / "buffer", PixelCaches(tmp_path, PX))
    assert other.files == {
        "s3://b/a.jpg": (10, "etag 1", "aa"),
        "s3://b/b.jpg": (20, "etag 2", "bb"),
        "s3://b/c.jpg": (10, "etag 3", "aa"),
    }
    assert np.array_equal(other.find("aa"), SQUARE)
    assert other.find("bb") == ("truncated", "image file is truncated")
    assert other.find("cc") is None
    other.remove()
    assert not (tmp_path / "buffer").exists()


def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    buffer = DecodeBuffer(tmp_path, PixelCaches(tmp_path, PX))
    buffer.add("a", (1, "x"), "aa", SQUARE)
    buffer.close()
    (file,) = tmp_path.glob("*.sqlite")
    file.write_bytes(b"no database" * 1000)
    again = DecodeBuffer(tmp_path, PixelCaches(tmp_path, PX))
    assert again.files == {}
    again.add("a", (1, "x"), "aa", SQUARE)
    again.close()


def test_a_full_disk_is_named_with_what_to_do(tmp_path: Path) -> None:
    buffer = DecodeBuffer(tmp_path / "buffer", PixelCaches(tmp_path, 512))
    (pages,) = buffer._database.execute("PRAGMA page_count").fetchone()
    buffer._database.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(DiskFullError, match=r"buffer: .* full; make room, lower data\.image_px"):
        buffer.add("a", (1, "x"), "aa", np.zeros((512, 512, 3), np.uint8))
    assert buffer.files == {}
    assert buffer.find("aa") is None
    buffer.close()
