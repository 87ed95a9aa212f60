"""Checkpoints: the state of a training run, written to and read from disk."""

import io
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict, cast

import torch

from canopy_search.training.errors import CheckpointError

_ARCHIVE = b"PK\x03\x04"


class RunState(TypedDict):
    """Everything that the next epoch depends on, apart from settings and data.

    It has no generator state: all randomness of an epoch follows from (seed, epoch). `average`, of
    the weights, is only in the state of a run with ``training.ema``.
    """

    epoch: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    average: NotRequired[dict[str, Any]]


def snapshot(state: RunState) -> RunState:
    """Returns a copy in the CPU's memory, which does not change while the run trains."""
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
    """Returns `state` in torch's file format."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def state_from_bytes(content: bytes) -> RunState:
    """Returns the state that `state_to_bytes` wrote, with tensors on the CPU.

    Raises:
        CheckpointError: the bytes are truncated, altered or not a checkpoint.
    """
    state = load_tensors(content)
    if not isinstance(state, dict) or not (
        RunState.__required_keys__ <= state.keys() <= RunState.__annotations__.keys()
    ):
        raise CheckpointError("not a checkpoint of a training run")
    return cast(RunState, state)


def load_tensors(content: bytes, *, before_torch_1_6: bool = False) -> Any:
    """Returns what `torch.save` wrote, with tensors on the CPU; never runs pickled code.

    Args:
        content: the file.
        before_torch_1_6: whether the format of earlier versions of torch, which is no archive and
            declares sizes that are not checked, is read too.

    Raises:
        CheckpointError: the bytes are truncated, altered or not such a file.
    """
    try:
        if not before_torch_1_6 or content.startswith(_ARCHIVE):
            _check_archive(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they advise to ask torch for more than tensors
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # unpickling arbitrary bytes raises arbitrary errors
        raise CheckpointError(
            "damaged, or contains more than tensors and plain values; none of it was run"
        ) from error


def _check_archive(content: bytes) -> None:
    """Checks that a file is a zip archive that is not larger unpacked, as `torch.save` writes it.

    Raises:
        CheckpointError: it is not.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile:
        raise CheckpointError("truncated, or not a torch file") from None
    if unpacked > len(content):
        raise CheckpointError("compressed; torch writes uncompressed files")
