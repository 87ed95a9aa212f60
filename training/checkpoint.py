"""The state of a training run ↔ bytes on a disk."""

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

import torch

from canopy_search.training.atomic import write_atomically
from canopy_search.training.errors import CheckpointError


class RunState(TypedDict):
    """Everything that the next epoch depends on besides the settings and the data.

    There is no generator state in it: all randomness of an epoch follows from (seed, epoch).
    """

    epoch: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]


def snapshot(state: RunState) -> RunState:
    """Returns a copy in the CPU's memory, which stays as it is while the run trains on."""
    return cast(RunState, _copied(state))


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _copied(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(entry) for entry in value)
    return value


def state_to_bytes(state: RunState) -> bytes:
    """Returns `state` in torch's own file format."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def state_from_bytes(content: bytes) -> RunState:
    """Returns the state that `state_to_bytes` wrote, its tensors on the CPU.

    Raises:
        CheckpointError: the bytes are truncated, altered or something else.
    """
    state = load_tensors(content)
    if not isinstance(state, dict) or state.keys() != RunState.__annotations__.keys():
        raise CheckpointError("not a checkpoint of a training run")
    return cast(RunState, state)


def load_tensors(content: bytes) -> Any:
    """Returns what `torch.save` wrote, its tensors on the CPU; nothing in it is ever run.

    Raises:
        CheckpointError: the bytes are truncated, altered or something else.
    """
    # Without this, torch takes any bytes for its format of old, and fails in any way.
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise CheckpointError("truncated, or not a file of torch's")
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, EOFError, KeyError, OSError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"not readable: {str(error).splitlines()[0]}") from error


def write_checkpoint(path: Path, state: RunState) -> None:
    """Writes `state` to `path` atomically."""
    write_atomically(path, state_to_bytes(state))


def read_checkpoint(path: Path) -> RunState:
    """Reads the state that `write_checkpoint` wrote.

    Raises:
        CheckpointError: there is no such file, or it cannot be used; the message names it.
    """
    try:
        return state_from_bytes(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
