"""Published ImageNet weights: downloaded once, verified, and read without running code."""

import hashlib
import http.client
import sys
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import torch
from torch.hub import HASH_REGEX
from torchvision.models import WeightsEnum

from canopy_search.training.checkpoint import load_tensors
from canopy_search.training.errors import CheckpointError, TrainingError


class PretrainedWeightsError(TrainingError):
    """ImageNet weights cannot be downloaded or read."""

    exit_status = 1


def pretrained_state(weights: WeightsEnum) -> dict[str, Any]:
    """Returns published weights, from torch's cache or downloaded into it.

    A cached file is treated like a download: its SHA-256 must begin with the digits in its name,
    and only tensors are read from it.

    Raises:
        PretrainedWeightsError: the weights cannot be downloaded, or the file is not the published
            one.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(weights.url).path).name
    found = HASH_REGEX.search(file.name)
    digits = found.group(1) if found else ""
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(
                weights.url, str(file), digits, progress=sys.stderr.isatty()
            )
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise PretrainedWeightsError(
            f"ImageNet weights could not be loaded from {weights.url}: {error}; set "
            f"training.weights to none, or copy that file, undamaged, to {file.parent}"
        ) from error
    try:
        state = load_tensors(_verified(file, digits), before_torch_1_6=True)
    except (OSError, CheckpointError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise PretrainedWeightsError(
            f"{file}: {reason}; delete it, then the ImageNet weights are downloaded again, or set "
            "training.weights to none"
        ) from error
    return cast(dict[str, Any], state)


def _verified(file: Path, digits: str) -> bytes:
    """Returns the content of a file whose SHA-256 begins with `digits`."""
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if not digest.startswith(digits):
        raise CheckpointError(
            f"truncated or altered: its SHA-256 begins with {digest[: len(digits)]}"
        )
    return content
