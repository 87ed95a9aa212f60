import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.doctor.finding import Finding
from canopy_search.search.doctor.state_folder import check_disk, check_state_folder
from canopy_search.training.data.dataset import DataFacts

GIB = 2**30
PLANET = DataFacts(images=40_479, train=28_335, labels=17, image_px=128)  # 1.9 GiB decoded


class Usage(NamedTuple):
    """What `shutil.disk_usage` returns."""

    total: int
    used: int
    free: int


def folder_finding(home: Path) -> Finding:
    (finding,) = check_state_folder(home)
    return finding


def disk_finding(
    monkeypatch: pytest.MonkeyPatch, home: Path, free: float, data: DataFacts | None = PLANET
) -> Finding:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(0, 0, int(free * GIB)))
    (finding,) = check_disk(home, data)
    return finding


def test_a_folder_that_is_not_there_yet_stays_so(tmp_path: Path, words: SnapshotAssertion) -> None:
    home = tmp_path / "a" / "b"
    finding = folder_finding(home)
    assert finding.status == "ok"
    assert finding.found == words
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there(tmp_path: Path) -> None:
    assert folder_finding(tmp_path).found == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_its_place(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.touch()
    for path in (home, home / "below" / "it"):
        finding = folder_finding(path)
        assert finding.status == "error"
        assert finding.found == f"{home} is not a folder"
        assert "CANOPY_HOME" in (finding.remedy or "")


def test_a_folder_that_cannot_be_written() -> None:
    # Not even root can write there.
    finding = folder_finding(Path("/proc/canopy"))
    assert finding.status == "error"
    assert finding.found.startswith("/proc/canopy ")


def test_room_for_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: SnapshotAssertion
) -> None:
    finding = disk_finding(monkeypatch, tmp_path, 10)
    assert finding.status == "ok"
    assert re.findall(r"[\d.]+ GiB", finding.found) == ["10.0 GiB", "1.9 GiB"]
    assert finding.found == words


def test_room_for_the_images_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: SnapshotAssertion
) -> None:
    finding = disk_finding(monkeypatch, tmp_path, 2)
    assert finding.status == "warning"
    assert [finding.found, finding.remedy] == words


def test_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    finding = disk_finding(monkeypatch, tmp_path / "not" / "there", 1)
    assert finding.status == "error"
    assert "lower data.image_px" in (finding.remedy or "")


def test_images_that_are_decoded_need_no_more_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: SnapshotAssertion
) -> None:
    cache = tmp_path / "cache" / "key" / "pixels.bin"
    cache.parent.mkdir(parents=True)
    few = DataFacts(images=1000, train=700, labels=2, image_px=8)
    tight = 1 + 50_000 / GIB
    assert disk_finding(monkeypatch, tmp_path, tight, few).status == "warning"
    # Five damaged images are not in it.
    cache.write_bytes(bytes(995 * 8 * 8 * 3))
    finding = disk_finding(monkeypatch, tmp_path, tight, few)
    assert finding.status == "ok"
    assert re.findall(r"[\d.]+ [MG]iB", finding.found) == ["1.0 GiB", "0.18 MiB"]
    assert finding.found == words


def test_without_known_data_it_says_what_is_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert disk_finding(monkeypatch, tmp_path, 5, None).found == "5.0 GiB free"
