"""From image files to the probabilities of a trained model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from training.data.images import DamagedImageError, decode_image
from training.data.normalise import normalised
from training.data.parallel import map_in_order, runs, usable_cores
from training.errors import ImageError, SettingsError
from training.model_file import TrainedModel
from training.precision import resolve_device
from training.thresholds import ONE_HALF

BATCH_SIZE = 64


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of one image.

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
        """The probability of each label."""
        if self.logits is None:
            return []
        return torch.from_numpy(self.logits).double().sigmoid().tolist()


def predict(
    model: TrainedModel,
    paths: Sequence[Path],
    *,
    device: str = "auto",
    batch_size: int = BATCH_SIZE,
) -> Iterator[Prediction]:
    """Yields a prediction for every file, in order; one that cannot be read stops nothing.

    Images are decoded in threads, a few batches ahead of the network, in float32.

    Args:
        model: as `load_model` gives it.
        paths: image files.
        device: ``auto`` is the first GPU, else the CPU.
        batch_size: images at a time.

    Raises:
        SettingsError: the device is not there.
    """
    place = torch.device(resolve_device(device))
    network = model.network.to(memory_format=torch.channels_last).to(place).eval()

    def decode(positions: range) -> list[npt.NDArray[np.uint8] | str]:
        return [_decoded(paths[at], model.image_px) for at in positions]

    cores = usable_cores()
    # Each task is a whole batch, so as many are under way as there are cores to decode them.
    tasks = runs(len(paths), batch_size)
    batches = map_in_order(decode, tasks, threads=cores, ahead=2 * cores)
    for positions, images in zip(tasks, batches, strict=True):
        pixels = [image for image in images if not isinstance(image, str)]
        logits = iter(_logits(network, pixels, place))
        for at, image in zip(positions, images, strict=True):
            if isinstance(image, str):
                yield Prediction(paths[at], None, image)
            else:
                yield Prediction(paths[at], next(logits))


def tag_thresholds(model: TrainedModel, choice: str) -> npt.NDArray[np.float32]:
    """Returns the logit from which on each label is a tag.

    Args:
        model: as `load_model` gives it.
        choice: ``f1`` or ``f2`` for what was chosen on validation, ``half`` for probability 0.5.

    Raises:
        SettingsError: the model keeps no such thresholds.
    """
    if choice == "half":
        return np.full(len(model.labels), ONE_HALF, np.float32)
    if choice not in model.thresholds:
        kept = ", ".join(model.thresholds) or "none, it is of an earlier Canopy"
        raise SettingsError(
            f"the model keeps no thresholds for {choice!r} (it keeps {kept}); use --thresholds half"
        )
    return np.array(model.thresholds[choice], np.float32)


def _decoded(path: Path, image_px: int) -> npt.NDArray[np.uint8] | str:
    """The pixels, or why there are none."""
    try:
        return decode_image(path, image_px)
    except DamagedImageError as error:
        return f"{error.kind}: {error.detail}"
    except ImageError as error:
        return str(error)


@torch.inference_mode()
def _logits(
    network: torch.nn.Module, pixels: Sequence[npt.NDArray[np.uint8]], device: torch.device
) -> npt.NDArray[np.float32]:
    if not pixels:
        return np.empty((0, 0), np.float32)
    batch = torch.from_numpy(np.stack(pixels)).to(device)
    logits: npt.NDArray[np.float32] = network(normalised(batch)).float().cpu().numpy()
    return logits
