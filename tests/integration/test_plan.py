"""`canopy plan`: what a search will take, and nothing of it is begun."""

import re
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.forecast import calibration, searches
from tests.integration.in_process import InProcess
from tests.planet_data import write_planet_data

CONFIG = """
data: {labels: train_classes.csv, images: train-jpg, image_px: 32}
training: {epochs: 4, batch_size: 16}
search:
  study: planet
  trials: 6
  space: {backbone: [tinycnn_8, tinycnn_16], gamma: {low: 0.8, high: 1.0, step: 0.1}}
stages: {budget_gib: 0.001}
"""
IMAGES = 60
NOWHERE = "postgresql://canopy:hunter2@127.0.0.1:9/canopy"


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    monkeypatch.setattr(calibration, "_TOTAL_S", 0.0)
    monkeypatch.setattr(calibration, "_LEAST_S", 0.0)
    monkeypatch.setattr(searches, "LANDSCAPES", 6)
    write_planet_data(tmp_path, images=IMAGES)
    (tmp_path / "canopy.yaml").write_text(CONFIG)
    return InProcess(tmp_path, NOWHERE)  # a database that nobody may touch


def test_it_says_what_a_search_takes_and_begins_nothing(person: InProcess) -> None:
    found = person.json("plan", "--workers", "2")
    assert (found["study"], found["n_trials"], found["workers"]) == ("planet", 6, 2)
    assert (found["images"], found["cache_bytes"]) == (IMAGES, IMAGES * 32 * 32 * 3)
    assert [each["backbone"] for each in found["networks"]] == ["tinycnn_8", "tinycnn_16"]
    for each in found["networks"]:
        assert each["batch_size"] == 16
        assert 0 < each["epoch_s"]["low"] <= each["epoch_s"]["likely"] <= each["epoch_s"]["high"]
        assert each["checkpoint_bytes"] > 10_000
    trained, reported = found["trained"], found["reported"]
    assert 6 <= reported["low"] <= reported["likely"] <= reported["high"] <= 6 * 4
    # Six points with three gammas each share two first epochs.
    assert 2 <= trained["low"] <= trained["high"] <= 2 * (1 + 3 * 3)
    parts = [found[name]["likely"] for name in ("start_s", "decode_s", "search_s")]
    assert found["total_s"]["likely"] == pytest.approx(sum(parts))
    assert min(parts) > 0
    assert found["budget_bytes"] == 1_073_741
    assert found["disk_bytes"]["high"] <= found["cache_bytes"] + found["budget_bytes"]
    assert found["memory_bytes"] == 2 * found["worker_bytes"]
    assert list((person.folder / ".canopy").iterdir()) == []


def test_a_person_reads_tables_and_what_they_rest_on(
    person: InProcess, words: SnapshotAssertion
) -> None:
    said = person.run("plan", "--trials", "1", "--workers", "1").stdout
    [title] = [line for line in said.splitlines() if "Study planet" in line]
    assert re.sub(r"\bof .*", "of A MACHINE", title) == words
    rows = [line.split() for line in said.splitlines() if line.strip()]
    assert ["epochs", "reported", "4", "4", "4"] in rows
    assert any(row[:2] == ["tinycnn_8", "16"] for row in rows)
    assert "1 MiB (stages.budget_gib)" in said
    assert "6 times" in said


def test_what_cannot_be_planned_is_one_line(person: InProcess, words: SnapshotAssertion) -> None:
    asked = {
        "--gpus: ": ["--gpus", "2"],
        "--workers and --gpus": ["--gpus", "2", "--workers", "1"],
        "--workers none: ": ["--workers", "none"],
        "canopi.yaml": ["--config", "canopi.yaml"],
    }
    said = []
    for named, arguments in asked.items():
        said.append(person.run("plan", *arguments, status=2).stderr)
        assert named in said[-1]
        assert len(said[-1].splitlines()) == 1
    assert "".join(said) == words
