import hashlib
import os
from pathlib import Path

import pytest

from canopy_search.training.data.images import digests
from canopy_search.training.data.images.digests import image_digests


def made(tmp_path: Path, count: int = 100, *, age_s: int = 3600) -> list[Path]:
    """Files that were last written some time ago."""
    paths = [tmp_path / f"{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 100)
        aged(path, age_s)
    return paths


def aged(path: Path, age_s: int) -> None:
    now_ns = path.stat().st_mtime_ns
    os.utime(path, ns=(now_ns, now_ns - age_s * 10**9))


def expected(paths: list[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


class Reads:
    """Counts the files that were read."""

    def __init__(self) -> None:
        self.files = 0

    def __call__(self, done: int, total: int) -> None:
        self.files = done
        assert done <= total


def test_only_new_and_changed_files_are_read(tmp_path: Path) -> None:
    paths, index = made(tmp_path), tmp_path / "state" / "index"
    first, second, third = Reads(), Reads(), Reads()

    assert image_digests(paths, index, first) == expected(paths)
    assert image_digests(paths[::-1], index, second) == expected(paths[::-1])
    paths[3].write_bytes(b"longer than before" * 10)
    aged(paths[3], 3600)
    paths[4].write_bytes(b"x" * 100)
    aged(paths[4], 1800)
    assert image_digests(paths, index, third) == expected(paths)

    assert (first.files, second.files, third.files) == (100, 0, 2)
    assert [path.name for path in index.parent.iterdir()] == ["index"]


def test_a_file_written_just_now_is_not_trusted_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "_SETTLING_NS", 1_000 * 10**9)  # however slow the machine is
    paths, index = made(tmp_path, 3), tmp_path / "index"
    aged(paths[1], 0)
    paths[1].touch()
    image_digests(paths, index)
    reads = Reads()

    image_digests(paths, index, reads)

    assert reads.files == 1


@pytest.mark.parametrize("damage", ["truncated", "emptied", "altered", "garbage", "older revision"])
def test_a_damaged_index_is_rebuilt(tmp_path: Path, damage: str) -> None:
    paths, index = made(tmp_path, 10), tmp_path / "index"
    image_digests(paths, index)
    content = index.read_bytes()
    digest = expected(paths)[0].encode()
    assert digest in content
    damaged = {
        "truncated": content[: len(content) // 2],
        "emptied": b"",
        "altered": content.replace(digest, digest[::-1]),
        "garbage": os.urandom(1000),
        "older revision": content.replace(b"canopy digests ", b"canopy digests 0"),
    }[damage]
    assert damaged != content
    index.write_bytes(damaged)
    reads, after = Reads(), Reads()

    assert image_digests(paths, index, reads) == expected(paths)
    image_digests(paths, index, after)

    assert (reads.files, after.files) == (10, 0)


def test_a_file_that_cannot_be_read_has_no_digest(tmp_path: Path) -> None:
    paths = made(tmp_path, 3)
    wanted = expected(paths)
    paths[1].unlink()

    for _ in range(2):
        assert image_digests(paths, tmp_path / "index") == [wanted[0], None, wanted[2]]


def test_a_link_to_another_file_of_equal_size_and_time_is_read_again(tmp_path: Path) -> None:
    link, index = tmp_path / "link.png", tmp_path / "index"
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(name.encode())
        os.utime(tmp_path / name, ns=(10**18, 10**18))
    for name, made_ns in (("one", 11 * 10**17), ("two", 12 * 10**17)):
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / name)
        os.utime(link, ns=(made_ns, made_ns), follow_symlinks=False)

        assert image_digests([link], index) == [hashlib.sha256(name.encode()).hexdigest()]
