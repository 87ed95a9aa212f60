import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from canopy_search.storage.errors import EmbeddedPostgresError
from canopy_search.storage.postgres.socket_path import (
    LONGEST_ADDRESS_BYTES,
    SOCKET_NAME,
    socket_folder,
)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short XDG_RUNTIME_DIR."""
    with tempfile.TemporaryDirectory(prefix="c") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


def long_folder(parent: Path) -> Path:
    folder = parent / ("x" * 200)
    folder.mkdir()
    return folder


def test_ordinary_folder_is_used_itself(runtime: Path) -> None:
    data = Path("/srv/it's here/ünï $HOME/data")
    assert socket_folder(data) == data
    assert list(runtime.iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 200, "ü" * 45, "a,b", "a:b", "a\nb", "a\udcffb"])
def test_other_folders_get_a_link(runtime: Path, tmp_path: Path, name: str) -> None:
    data = tmp_path / name
    data.mkdir()
    (data / "inside").touch()
    link = socket_folder(data)
    assert (link / "inside").exists()
    assert len(os.fsencode(link / SOCKET_NAME)) <= LONGEST_ADDRESS_BYTES
    assert str(link).isascii()
    assert not set(str(link)) & set(",:\n")
    assert link.parent == runtime / f"canopy-{os.geteuid()}"
    assert link.parent.stat().st_mode & 0o777 == 0o700
    assert socket_folder(data) == link


def test_longest_address_is_used_itself(runtime: Path) -> None:
    longest = "/" + "x" * (LONGEST_ADDRESS_BYTES - len(SOCKET_NAME) - 2)
    assert socket_folder(Path(longest)) == Path(longest)
    assert socket_folder(Path(longest + "x")) != Path(longest + "x")


def test_lost_or_wrong_link_is_replaced(runtime: Path, tmp_path: Path) -> None:
    data = long_folder(tmp_path)
    link = socket_folder(data)
    link.unlink()
    assert socket_folder(data).readlink() == data
    link.unlink()
    link.symlink_to(tmp_path)
    assert socket_folder(data).readlink() == data
    assert list(link.parent.iterdir()) == [link]


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o701])
def test_open_folder_is_not_trusted(runtime: Path, tmp_path: Path, mode: int) -> None:
    private = runtime / f"canopy-{os.geteuid()}"
    private.mkdir()
    private.chmod(mode)
    assert socket_folder(long_folder(tmp_path)).parent != private
    assert list(private.iterdir()) == []


def test_link_to_a_folder_is_not_trusted(runtime: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    private = runtime / f"canopy-{os.geteuid()}"
    private.symlink_to(elsewhere)
    assert socket_folder(long_folder(tmp_path)).parent != private
    assert list(elsewhere.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders to others")
def test_folder_of_another_user_is_not_trusted(runtime: Path, tmp_path: Path) -> None:
    private = runtime / f"canopy-{os.geteuid()}"
    private.mkdir(mode=0o700)
    os.chown(private, 65534, 65534)
    assert socket_folder(long_folder(tmp_path)).parent != private


def test_no_place_for_a_link(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runtime / "file").touch()
    monkeypatch.setattr(
        "canopy_search.storage.postgres.socket_path._short_folders",
        lambda: [runtime / "file", runtime / ("x" * 90)],
    )
    long_path = long_folder(tmp_path)
    with pytest.raises(EmbeddedPostgresError) as error:
        socket_folder(long_path)
    for part in (long_path, runtime / "file", runtime / ("x" * 90), "CANOPY_HOME"):
        assert str(part) in str(error.value)
