from pathlib import Path

import pytest
import torch

from canopy_search.training.checkpoint import RunState, read_checkpoint, snapshot, write_checkpoint
from canopy_search.training.errors import CheckpointError

STATE = RunState(epoch=3, model={"weight": torch.arange(3.0)}, optimizer={"state": {}}, scaler={})


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "run.pt"
    write_checkpoint(path, STATE)
    state = read_checkpoint(path)
    assert state["epoch"] == 3
    assert torch.equal(state["model"]["weight"], STATE["model"]["weight"])
    assert [file.name for file in path.parent.iterdir()] == ["run.pt"]


def test_a_snapshot_stays_as_it_is_while_the_run_trains_on() -> None:
    weight = torch.arange(3.0)
    taken = snapshot(RunState(epoch=3, model={"w": weight}, optimizer={"s": [weight]}, scaler={}))
    weight.add_(1)
    assert taken["model"]["w"].tolist() == taken["optimizer"]["s"][0].tolist() == [0, 1, 2]


def test_a_truncated_file_an_empty_one_and_another_s_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    write_checkpoint(path, STATE)
    content = path.read_bytes()
    torch.save({"epoch": 3}, tmp_path / "other.pt")
    for damaged in (content[:-100], b"", b"weights", (tmp_path / "other.pt").read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"run\.pt: "):
            read_checkpoint(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pt: No such file"):
        read_checkpoint(tmp_path / "gone.pt")


class Harmful:
    """Runs a command when it is unpickled the careless way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.path,))


def test_nothing_in_a_file_is_ever_run(tmp_path: Path) -> None:
    torch.save({"epoch": Harmful(tmp_path / "harm")}, tmp_path / "run.pt")
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "run.pt")
    assert not (tmp_path / "harm").exists()
