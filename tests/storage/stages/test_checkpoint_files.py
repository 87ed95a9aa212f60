import sys
from pathlib import Path
from uuid import uuid4

import pytest
from fsspec.registry import _registry
from syrupy.assertion import SnapshotAssertion

from canopy_search.storage.errors import CheckpointPlaceError
from canopy_search.storage.stages.checkpoint_files import CheckpointFiles

DATABASE = str(uuid4())


@pytest.fixture(params=["folder", "a folder with spaces", "file://", "memory://"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointFiles:
    """One contract for every place."""
    kind = request.param
    if kind == "memory://":
        return CheckpointFiles(f"memory://{uuid4().hex}/deep", DATABASE)
    if kind == "file://":
        return CheckpointFiles(f"file://{tmp_path}/deep", DATABASE)
    return CheckpointFiles(str(tmp_path / kind / "deep"), DATABASE)


def test_what_is_written_is_read(files: CheckpointFiles) -> None:
    files.make_marker()
    files.write("a", b"first")
    files.write("b", b"second")
    files.write("a", b"again")
    assert files.read("a") == b"again"
    assert files.names() == {"a.pt": 5, "b.pt": 6}

    files.remove("a")
    files.remove("a")
    files.remove_name("b.pt")
    assert files.names() == {}
    with pytest.raises(FileNotFoundError):
        files.read("a")


def test_a_place_has_one_id_however_often_it_is_opened(files: CheckpointFiles) -> None:
    assert files.read_marker() is None
    assert files.make_marker() == files.read_marker() == files.read_marker()
    assert files.names() == {}


def test_databases_do_not_share_files(tmp_path: Path) -> None:
    one, other = (CheckpointFiles(str(tmp_path), str(uuid4())) for _ in range(2))
    assert one.make_marker() != other.make_marker()
    one.write("a", b"x")
    assert other.names() == {}


def test_a_place_that_is_not_there_has_no_files(files: CheckpointFiles) -> None:
    assert files.names() == {}


def test_the_free_disk_is_known_of_a_folder_only(tmp_path: Path) -> None:
    local = CheckpointFiles(str(tmp_path / "not" / "there"), DATABASE).free_bytes()
    assert local is not None
    assert local > 0
    assert CheckpointFiles(f"memory://{uuid4().hex}", DATABASE).free_bytes() is None


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = CheckpointFiles(str(tmp_path), DATABASE)
    files.make_marker()

    def full(*arguments: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="full"):
        files.write("a", b"content")
    assert files.names() == {}


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.write_text("a file")
    files = CheckpointFiles(str(place), DATABASE)
    with pytest.raises(OSError, match="place"):
        files.make_marker()
    assert place.read_text() == "a file"


def test_errors_of_other_kinds_become_os_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of buckets raise errors of their own."""
    files = CheckpointFiles(f"memory://{uuid4().hex}", DATABASE)

    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("credentials\nexpired")

    for method in ("cat_file", "pipe_file", "rm_file", "ls"):
        monkeypatch.setattr(files._place._files(), method, fail)
    for call in (
        lambda: files.read("a"),
        lambda: files.write("a", b"x"),
        lambda: files.remove("a"),
        files.names,
        files.make_marker,
    ):
        with pytest.raises(OSError, match=r"RuntimeError: credentials$"):
            call()


@pytest.mark.parametrize("url", ["nope://bucket", "s3://bucket/x"])
def test_a_place_that_cannot_be_says_why(
    url: str, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as if it were not installed
    monkeypatch.delitem(_registry, "s3", raising=False)
    with pytest.raises(CheckpointPlaceError, match=f"stages.checkpoints: {url}: ") as error:
        CheckpointFiles(url, DATABASE)
    assert str(error.value) == words


def test_a_password_is_neither_taken_nor_shown(words: SnapshotAssertion) -> None:
    for url in ("sftp://ann:secret@host/x", "s3://AKIA:secret@bucket/x"):
        with pytest.raises(CheckpointPlaceError) as error:
            CheckpointFiles(url, DATABASE)
        assert "secret" not in str(error.value)
        assert str(error.value) == words
