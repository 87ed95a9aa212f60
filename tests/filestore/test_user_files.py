import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from canopy_search.filestore.user_files import read_file, real_path

PACKAGES = Path(__file__).parents[2]


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


def link_to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def terabyte(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def test_a_file_and_a_link_to_it_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")

    assert read_file(tmp_path / "link", 7) == b"content"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "a pipe"),
        (link_to_zeros, "a device"),
        (listening, "a socket"),
        (Path.mkdir, "found a folder"),
        (link_to_itself, "symbolic links"),
        (terabyte, "larger than 1,000 bytes"),
    ],
)
def test_what_is_no_file_is_refused_at_once_and_named(
    make: Callable[[Path], None], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "odd"
    make(path)

    with pytest.raises(OSError, match=said) as raised:
        read_file(path, 1000)

    assert raised.value.filename == str(path)


def test_a_file_that_does_not_tell_its_size_is_read_up_to_the_limit() -> None:
    status = Path("/proc/self/status")

    assert read_file(status, 2**20).startswith(b"Name:")
    with pytest.raises(OSError, match="larger than 10 bytes"):
        read_file(status, 10)


def test_a_link_to_itself_has_a_real_path(tmp_path: Path) -> None:
    link_to_itself(tmp_path / "loop")

    assert real_path(tmp_path / "loop") == real_path(tmp_path) / "loop"


def test_no_path_is_resolved_in_a_way_that_fails_for_a_link_to_itself() -> None:
    rooms = ("search", "dashboards", "training", "storage", "filestore")
    files = [file for room in rooms for file in (PACKAGES / room).rglob("*.py")]

    assert files
    assert not [file for file in files if re.search(r"\.resolve\(\)", file.read_text())]
