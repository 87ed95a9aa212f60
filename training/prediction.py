"""Predicts the labels of image files with a trained model."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from canopy_search.training.data.files.parallel import map_in_order, usable_cores
from canopy_search.training.data.files.sources import read_image
from canopy_search.training.data.images.decoding import decode_image
from canopy_search.training.data.normalise import normalised
from canopy_search.training.device.out_of_memory import is_out_of_memory
from canopy_search.training.device.precision import resolve_device
from canopy_search.training.errors import CheckpointError, DamagedImageError, SettingsError
from canopy_search.training.metrics import one_vs_rest_logits
from canopy_search.training.network.model_file import TrainedModel
from canopy_search.training.network.thresholds import ONE_HALF

BATCH_SIZE = 64


@dataclass(frozen=True, eq=False)
class Prediction:
    """A model's prediction for one image.

    Attributes:
        path: the file.
        logits: (labels,), float32; None if the image cannot be read.
        reason: why it cannot be read.
    """

    path: Path
    logits: npt.NDArray[np.float32] | None
    reason: str = ""

    @property
    def probabilities(self) -> list[float]:
        """The probability of each label; empty if the image cannot be read."""
        if self.logits is None:
            return []
        return torch.from_numpy(self.logits).double().sigmoid().tolist()


def predict(
    model: TrainedModel,
    paths: Sequence[Path],
    *,
    device: str = "auto",
    batch_size: int = BATCH_SIZE,
) -> Generator[Prediction, None, None]:
    """Yields a prediction for every file, in order; unreadable files do not stop it.

    Images are decoded in threads, two batches ahead of the network, so memory does not grow with
    their number. The network computes in float32.

    Args:
        model: as returned by `load_model`; its network is moved to the device.
        paths: image files.
        device: ``auto`` is the first GPU, else the CPU.
        batch_size: images per batch.

    Raises:
        SettingsError: there is no such device, or its memory is too small for a batch.
        CheckpointError: the model outputs NaN or infinity.
    """
    torch_device = _resolved_device(device)
    network = model.network.to(memory_format=torch.channels_last).to(torch_device).eval()

    def decode(path: Path) -> tuple[Path, npt.NDArray[np.uint8] | str]:
        return path, _decoded(path, model)

    cores = usable_cores()
    images = map_in_order(decode, paths, threads=cores, ahead=2 * batch_size + cores)
    while batch := list(islice(images, batch_size)):
        pixels = [image for _, image in batch if not isinstance(image, str)]
        logits = iter(_logits(network, pixels, torch_device, model) if pixels else ())
        for path, image in batch:
            if isinstance(image, str):
                yield Prediction(path, None, image)
            else:
                yield Prediction(path, next(logits))


def tag_thresholds(model: TrainedModel, choice: str) -> npt.NDArray[np.float32]:
    """Returns the smallest logit at which each label becomes a tag.

    Args:
        model: as returned by `load_model`.
        choice: ``f1`` or ``f2``, chosen on the validation split; ``half`` is probability 0.5.

    Returns:
        (labels,), float32.

    Raises:
        SettingsError: the model file has no such thresholds.
    """
    if choice == "half":
        return np.full(len(model.labels), ONE_HALF, np.float32)
    if choice not in model.thresholds:
        available = ", ".join(model.thresholds) or "none; an earlier version of Canopy wrote it"
        raise SettingsError(
            f"the model has no thresholds for {choice!r} (it has {available}); use "
            "--thresholds half"
        )
    return np.array(model.thresholds[choice], np.float32)


def _resolved_device(device: str) -> torch.device:
    unknown = SettingsError(f"device: expected auto, cpu, mps, cuda or cuda:N, found {device!r}")
    # torch knows many more device types, which are untested here.
    if device.partition(":")[0] not in {"auto", "cpu", "cuda", "mps"}:
        raise unknown
    try:
        return resolve_device(device)
    except SettingsError as error:
        raise SettingsError(str(error).removeprefix("training.")) from error
    except RuntimeError:  # from torch, for an invalid device number
        raise unknown from None


def _decoded(path: Path, model: TrainedModel) -> npt.NDArray[np.uint8] | str:
    """Returns the pixels, or the reason why the image cannot be read."""
    try:
        return decode_image(read_image(path), model.image_px, model.conversion)
    except DamagedImageError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)


@torch.inference_mode()
def _logits(
    network: torch.nn.Module,
    pixels: Sequence[npt.NDArray[np.uint8]],
    device: torch.device,
    model: TrainedModel,
) -> npt.NDArray[np.float32]:
    """Returns logits, (images, labels), float32, of at least one image."""
    try:
        batch = torch.from_numpy(np.stack(pixels)).to(device)
        logits = network(normalised(batch, model.pixel_scale)).float().cpu()
        logits = one_vs_rest_logits(logits) if model.is_exclusive else logits
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise SettingsError(
            f"a batch of {len(pixels)} images does not fit in memory on {device}; choose a smaller "
            "--batch-size, or --device cpu"
        ) from error
    if not bool(torch.isfinite(logits).all()):
        raise CheckpointError("the model outputs NaN or infinity; train it again")
    values: npt.NDArray[np.float32] = logits.numpy()
    return values
