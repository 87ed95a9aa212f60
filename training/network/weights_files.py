"""Weights files to start from: read without running code, and compared with a network by name."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from safetensors.torch import load as load_safetensors
from torch import Tensor, isfinite, nn, strided

from canopy_search.filestore.urls import source_of
from canopy_search.training.checkpoint import load_tensors
from canopy_search.training.data.files.sources import read_source, shown_source
from canopy_search.training.errors import CheckpointError, TrainingError, listed
from canopy_search.training.settings import SAFETENSORS, is_weights_file

MOST_WEIGHTS_BYTES = 16 * 2**30
"""Largest weights file that is read."""

# Below this share of a network's weights, a file is of another network.
_SMALLEST_SHARE = 0.5

# Where training programs put the weights in a checkpoint, averaged ones first; Canopy's own model
# files say `weights`.
_NESTED = ("state_dict_ema", "model_ema", "state_dict", "model", "weights")
_NAMES_SHOWN = 3


class WeightsFileError(TrainingError):
    """A weights file is missing or damaged, was changed, or is of another network."""


@dataclass(frozen=True, eq=False)
class Fit:
    """Which tensors of a weights file a network takes.

    Attributes:
        backbone: the network's name.
        file: the file's path or URL, for display.
        taken: name in the network → tensor of the file.
        missing: names of the network's other tensors, without its head, which is always new.
        unused: names of the file's other tensors.
        share: of the network's weights, without its head, that are in the file.
    """

    backbone: str
    file: str
    taken: Mapping[str, Tensor]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    share: float

    def __str__(self) -> str:
        """Returns what fits and what does not, in one line."""
        tensors = len(self.taken) + len(self.missing)
        text = (
            f"{self.backbone} takes {len(self.taken)} of its {tensors} tensors from {self.file}; "
            "its head is new"
        )
        for names, where in (
            (self.missing, "missing or of another shape"),
            (self.unused, "unused"),
        ):
            if names:
                text += f"; {where}: {listed([_shown(name) for name in names], _NAMES_SHOWN)}"
        return text


@cache
def weights_digest(weights: str) -> str:
    """Returns the SHA-256 of a weights file, which is read once in a process.

    Args:
        weights: its path or URL.

    Raises:
        WeightsFileError: it cannot be read.
    """
    return hashlib.sha256(_content(weights)).hexdigest()


def weights_identity(weights: str) -> str:
    """Returns what distinguishes starting weights: for a file its content, whatever its name.

    Args:
        weights: ``none``, ``imagenet``, or the path or URL of a file.

    Raises:
        WeightsFileError: the file cannot be read.
    """
    return f"sha256 {weights_digest(weights)}" if is_weights_file(weights) else weights


def read_weights(weights: str) -> dict[str, Tensor]:
    """Returns the tensors of a weights file by name; runs nothing that the file contains.

    Args:
        weights: its path or URL; ``.safetensors``, or what `torch.save` wrote: a state dict, a
            checkpoint that contains one, or a model file of Canopy.

    Raises:
        WeightsFileError: it cannot be read, has changed since this process read it first, or
            contains no tensors.
    """
    content, file = _content(weights), shown_source(source_of(weights))
    if hashlib.sha256(content).hexdigest() != weights_digest(weights):
        raise WeightsFileError(f"{file}: changed while it was in use; restore it, or start again")
    try:
        found = _loaded(content, weights)
    except CheckpointError as error:
        raise WeightsFileError(
            f"{file}: {error}; copy it again, or correct training.weights"
        ) from error
    while isinstance(found, Mapping):
        nested = (found[key] for key in _NESTED if isinstance(found.get(key), Mapping))
        inner = next(nested, None)
        if inner is None:
            break
        found = inner
    entries = found.items() if isinstance(found, Mapping) else ()
    # A tensor that is larger than its file repeats values, and could need any amount of memory.
    tensors = {
        name: each
        for name, each in entries
        if isinstance(each, Tensor) and each.numel() * each.element_size() <= len(content)
    }
    if not tensors or not all(isinstance(name, str) for name in tensors):
        raise WeightsFileError(
            f"{file}: contains no weights by name; save the network's state_dict() in it"
        )
    return tensors


def fit_of(
    backbone: str,
    network: nn.Module,
    head: Collection[str],
    weights: str,
    found: Mapping[str, Tensor],
) -> Fit:
    """Compares the tensors of a file with those of a network, by name and shape.

    Args:
        backbone: the network's name.
        network: on any device.
        head: names of the layers that output the logits; they are not compared.
        weights: the file's path or URL.
        found: its tensors.

    Raises:
        WeightsFileError: less than half of the network is in the file, or a tensor is not finite.
    """
    file = shown_source(source_of(weights))
    expected = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if name.rpartition(".")[0] not in head
    }
    found = _without_common_prefix(found, network.state_dict())
    taken = {
        name: found[name]
        for name, tensor in expected.items()
        if name in found and _can_be_copied(found[name], tensor)
    }
    size = sum(tensor.numel() for tensor in expected.values())
    share = sum(tensor.numel() for tensor in taken.values()) / size
    missing = tuple(name for name in expected if name not in taken)
    if share < _SMALLEST_SHARE:
        first = next((name for name in missing if name in found), missing[0])
        raise WeightsFileError(
            f"{file}: contains {100 * share:.0f} % of the weights of {backbone}; {first}: "
            f"expected {tuple(expected[first].shape)}, found {_shape(found.get(first))}; "
            "choose the backbone whose weights it contains"
        )
    odd = [name for name, tensor in taken.items() if not bool(isfinite(tensor).all())]
    if odd:
        raise WeightsFileError(
            f"{file}: NaN or infinity in {listed(odd, _NAMES_SHOWN)}; choose another file"
        )
    unused = tuple(
        name for name in found if name not in taken and name.rpartition(".")[0] not in head
    )
    return Fit(backbone, file, taken, missing, unused, share)


def _content(weights: str) -> bytes:
    source = source_of(weights)
    try:
        return read_source(source, most_bytes=MOST_WEIGHTS_BYTES)
    except OSError as error:
        reason = error.strerror or error
        raise WeightsFileError(
            f"{shown_source(source)}: {reason}; correct training.weights"
        ) from error


def _loaded(content: bytes, weights: str) -> Any:
    if PurePosixPath(weights).suffix.lower() != SAFETENSORS:
        return load_tensors(content, before_torch_1_6=True)
    try:
        return load_safetensors(content)
    except Exception as error:  # arbitrary bytes raise arbitrary errors
        raise CheckpointError("damaged, or not a safetensors file") from error


def _without_common_prefix(
    found: Mapping[str, Tensor], expected: Collection[str]
) -> Mapping[str, Tensor]:
    """Removes what DataParallel, torch.compile or a trainer puts before every name."""
    while found and not any(name in expected for name in found):
        first = next(iter(found)).partition(".")[0] + "."
        if not all(name.startswith(first) and name != first for name in found):
            break
        found = {name.removeprefix(first): tensor for name, tensor in found.items()}
    return found


def _can_be_copied(tensor: Tensor, expected: Tensor) -> bool:
    return (
        tensor.shape == expected.shape
        and tensor.layout == strided
        and tensor.device.type == "cpu"
        and tensor.is_floating_point() == expected.is_floating_point()
        and not tensor.is_complex()
    )


def _shape(tensor: Tensor | None) -> str:
    return "no such tensor" if tensor is None else str(tuple(tensor.shape))


def _shown(name: str) -> str:
    """Returns a name in a file as text that is safe to print, whatever the file contains."""
    return name if name.isprintable() else ascii(name)
