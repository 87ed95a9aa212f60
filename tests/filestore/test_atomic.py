import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from canopy_search.filestore.atomic import build_atomically, check_writable, write_atomically


def test_a_file_is_new_whole_and_as_others_make_theirs(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"

    write_atomically(path, b"one")
    write_atomically(path, b"two")

    other = tmp_path / "other"
    other.touch()
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode == other.stat().st_mode
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    link.symlink_to(target)

    for content in (b"one", b"two"):  # the target is made, then replaced
        write_atomically(link, content)
        assert link.is_symlink()
        assert target.read_bytes() == content


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()

    check_writable(pipe)
    write_atomically(pipe, b"content")

    reader.join()
    assert read == [b"content"]
    assert pipe.is_fifo()


@pytest.mark.parametrize("place", ["file", "pipe"])
def test_standard_output_can_be_named(tmp_path: Path, place: str) -> None:
    script = (
        "from pathlib import Path; from canopy_search.filestore.atomic import write_atomically;"
        "write_atomically(Path('/dev/stdout'), b'content')"
    )
    command = [sys.executable, "-c", script]
    if place == "pipe":
        assert subprocess.check_output(command) == b"content"
    else:
        with (tmp_path / "file").open("wb") as file:
            subprocess.run(command, stdout=file, check=True)
        assert (tmp_path / "file").read_bytes() == b"content"
    assert Path("/dev/stdout").is_symlink()


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, reason in (
        (tmp_path, "Is a directory"),
        (tmp_path / "file" / "below", f"is not a folder: '{tmp_path}/file'"),
        (tmp_path / "file" / "below" / "below", "is not a folder: "),
        (tmp_path / ("x" * 250), "File name too long"),  # with the ending of a partial file
    ):
        for write in (check_writable, lambda path: write_atomically(path, b"")):
            with pytest.raises(OSError, match=reason):
                write(path)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def has_content(folder: Path) -> bool:
    return (folder / "content").exists()


def write_content(folder: Path) -> None:
    (folder / "content").write_text("built")


def test_a_folder_is_built_once(tmp_path: Path) -> None:
    folder = tmp_path / "shelf" / "folder"
    builds = []

    def build(partial: Path) -> None:
        builds.append(partial)
        assert not folder.exists()
        write_content(partial)

    build_atomically(folder, has_content, build)
    build_atomically(folder, has_content, build)

    assert len(builds) == 1
    assert (folder / "content").read_text() == "built"


def test_an_incomplete_folder_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "rubbish").touch()

    build_atomically(folder, has_content, write_content)

    assert [path.name for path in folder.iterdir()] == ["content"]


def test_a_failed_build_leaves_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    folder = tmp_path / "folder"

    def fail(partial: Path) -> None:
        write_content(partial)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_atomically(folder, has_content, fail)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]

    build_atomically(folder, has_content, write_content)
    assert has_content(folder)


def test_leftovers_of_killed_builders_are_removed(tmp_path: Path) -> None:
    for name in ("folder.partial", "another.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()

    build_atomically(tmp_path / "folder", has_content, write_content)

    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "folder"]
