import io
from pathlib import Path

import pytest
import torch

from canopy_search.training.checkpoint import (
    RunState,
    snapshot,
    state_from_bytes,
    state_to_bytes,
)
from canopy_search.training.errors import CheckpointError

STATE = RunState(epoch=3, model={"weight": torch.arange(3.0)}, optimizer={"state": {}}, scaler={})


def test_a_state_comes_back_as_it_was() -> None:
    state = state_from_bytes(state_to_bytes(STATE))
    assert state["epoch"] == 3
    assert torch.equal(state["model"]["weight"], STATE["model"]["weight"])


def test_a_snapshot_stays_as_it_is_while_the_run_trains_on() -> None:
    weight = torch.arange(3.0)
    taken = snapshot(RunState(epoch=3, model={"w": weight}, optimizer={"s": [weight]}, scaler={}))
    weight.add_(1)
    assert taken["model"]["w"].tolist() == taken["optimizer"]["s"][0].tolist() == [0, 1, 2]


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damaged", [state_to_bytes(STATE)[:-100], b"", b"weights", saved({"epoch": 3})]
)
def test_what_is_truncated_empty_or_another_s_is_refused(damaged: bytes) -> None:
    with pytest.raises(CheckpointError):
        state_from_bytes(damaged)


class Harmful:
    """Runs a command when it is unpickled the careless way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return (Path.touch, (self.path,))


def test_nothing_in_a_file_is_ever_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        state_from_bytes(saved({**STATE, "epoch": Harmful(tmp_path / "harm")}))
    assert not (tmp_path / "harm").exists()
