"""Choice of the cluster; these tests do not need Ray."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.errors import PlacementError
from canopy_search.search.workers.ray.address import AUTO, LOCAL, choose_address, unusable


@pytest.fixture(autouse=True)
def tmp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return tmp_path


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of something that listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def gone() -> Iterator[str]:
    """An address that is reserved, and at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_the_option_comes_before_the_variable_and_that_before_what_runs_here(
    cluster: str, gone: str, tmp: Path, monkeypatch: pytest.MonkeyPatch, words: SnapshotAssertion
) -> None:
    assert choose_address(None) == LOCAL
    (tmp / "ray" / "ray_current_cluster").write_text(cluster)
    assert choose_address(None) == choose_address("auto") == AUTO
    monkeypatch.setenv("RAY_ADDRESS", LOCAL)
    assert choose_address(None) == LOCAL
    monkeypatch.setenv("RAY_ADDRESS", gone)
    assert choose_address(cluster) == cluster
    assert choose_address(f"ray://{cluster}") == f"ray://{cluster}"
    with pytest.raises(PlacementError) as error:
        choose_address(None)
    assert str(error.value).replace(gone, "GONE") == words


def test_a_cluster_that_ran_here_and_is_gone_is_passed_over(gone: str, tmp: Path) -> None:
    (tmp / "ray" / "ray_current_cluster").write_text(gone)
    assert choose_address(None) == LOCAL
    with pytest.raises(PlacementError, match="ray start --head"):
        choose_address("auto")


@pytest.mark.parametrize("is_link", [False, True])
def test_a_cluster_that_another_user_noted_is_passed_over(
    cluster: str, tmp: Path, monkeypatch: pytest.MonkeyPatch, is_link: bool
) -> None:
    note = tmp / "ray" / "ray_current_cluster"
    if is_link:
        (tmp / "mine").write_text(cluster)
        note.symlink_to(tmp / "mine")
    else:
        note.write_text(cluster)
    if os.getuid() == 0:
        os.lchown(note, 54321, 54321)
    else:
        user = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: user + 1)
    assert choose_address(None) == LOCAL
    with pytest.raises(PlacementError, match="of yours runs"):
        choose_address("auto")
    assert choose_address(cluster) == cluster
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    assert choose_address(None) == cluster


def test_a_note_that_is_no_text_is_passed_over(tmp: Path) -> None:
    (tmp / "ray" / "ray_current_cluster").write_bytes(b"\xff\xfe")
    assert choose_address(None) == LOCAL


@pytest.mark.parametrize("address", ["gpu-3", ":6379", "gpu-3:port", "http://gpu-3"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(PlacementError, match="expected HOST:PORT"):
        choose_address(address)


def test_a_token_that_is_missing_is_said_in_words(words: SnapshotAssertion) -> None:
    said = str(unusable("gpu-1:6379", "RPC error: InvalidAuthToken: Authentication token is ..."))
    assert said == words
