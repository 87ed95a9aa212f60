"""Published weights: where they are, downloaded once, verified, read without running code."""

import hashlib
import http.client
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import torch
from torch.hub import HASH_REGEX
from torchvision.models import WeightsEnum

from canopy_search.filestore.messages import first_line
from canopy_search.filestore.user_files import open_file
from canopy_search.training.checkpoint import load_tensors
from canopy_search.training.errors import CheckpointError, TrainingError


class PretrainedWeightsError(TrainingError):
    """ImageNet weights cannot be downloaded or read."""

    exit_status = 1


BRING_WEIGHTS = (
    "download it elsewhere and name the file in training.weights, or set training.weights to none"
)
"""What to do about published weights that cannot be downloaded here."""


@dataclass(frozen=True)
class PublishedFile:
    """A file of published weights.

    Attributes:
        url: where it is published.
        cached: where this machine has it, or would have it after a download.
    """

    url: str
    cached: Path


def torchvision_file(weights: WeightsEnum) -> PublishedFile:
    """Returns where torch downloads weights from, and to."""
    name = Path(urlsplit(weights.url).path).name
    return PublishedFile(weights.url, Path(torch.hub.get_dir()) / "checkpoints" / name)


def unavailable(files: Sequence[PublishedFile], limit_s: float = 5.0) -> dict[PublishedFile, str]:
    """Returns the files that this machine neither has nor can download, and why.

    Nothing is downloaded; all servers are asked at the same time.

    Args:
        files: the files.
        limit_s: seconds after which a server counts as unreachable.
    """
    reasons = {each: f"no answer in {limit_s:g} s" for each in files if not each.cached.exists()}

    def ask(file: PublishedFile) -> None:
        request = urllib.request.Request(file.url, method="HEAD")  # noqa: S310 - a published URL
        try:
            with urllib.request.urlopen(request, timeout=limit_s):  # noqa: S310 - likewise
                answers[file] = ""
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            answers[file] = str(getattr(reason, "strerror", None) or reason or type(error).__name__)

    # Daemons, because looking up a host has no time limit.
    answers: dict[PublishedFile, str] = {}
    threads = [threading.Thread(target=ask, args=[each], daemon=True) for each in reasons]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return {file: reason for file, reason in (reasons | answers).items() if reason}


def pretrained_state(weights: WeightsEnum) -> dict[str, Any]:
    """Returns published weights, from torch's cache or downloaded into it.

    A cached file is treated like a download: its SHA-256 must begin with the digits in its name,
    and only tensors are read from it.

    Raises:
        PretrainedWeightsError: the weights cannot be downloaded, or the file is not the published
            one.
    """
    file = torchvision_file(weights).cached
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
            f"ImageNet weights could not be loaded from {weights.url}: {first_line(error)}; set "
            f"training.weights to none, or copy that file, undamaged, to {file.parent}"
        ) from error
    try:
        state = load_tensors(_verified(file, digits), before_torch_1_6=True)
    except (OSError, CheckpointError) as error:
        raise unusable(weights, error) from error
    return cast(dict[str, Any], state)


def unusable(weights: WeightsEnum, error: Exception) -> PretrainedWeightsError:
    """Returns the error for a file in torch's cache that does not contain these weights."""
    reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
    return PretrainedWeightsError(
        f"{torchvision_file(weights).cached}: {first_line(reason or error)}; delete it, then the "
        "ImageNet weights are downloaded again, or set training.weights to none"
    )


def _verified(file: Path, digits: str) -> bytes:
    """Returns the content of a file whose SHA-256 begins with `digits`."""
    with open_file(file) as opened:
        content = opened.read()
    digest = hashlib.sha256(content).hexdigest()
    if not digest.startswith(digits):
        raise CheckpointError(
            f"truncated or altered: its SHA-256 begins with {digest[: len(digits)]}"
        )
    return content
