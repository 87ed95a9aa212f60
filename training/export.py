"""Writes a trained model for other programs, as ONNX or safetensors, checked on real images."""

import importlib
import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from canopy_search.filestore.atomic import check_writable, write_atomically
from canopy_search.filestore.user_files import real_path
from canopy_search.training.data.demo import demo_images
from canopy_search.training.data.files.sources import read_image
from canopy_search.training.data.images.decoding import decode_image
from canopy_search.training.data.normalise import normalised
from canopy_search.training.errors import DamagedImageError, ExportError
from canopy_search.training.network.backbones import backbone_to_fill, load_weights
from canopy_search.training.network.model_file import TrainedModel, load_model

ONNX_EXTRA = "canopy-search[onnx]"

MOST_IMAGES = 16
"""Images on which an exported model is compared."""
LARGEST_DIFFERENCE = 1e-3
"""Of two logits, as a share of the largest one: kernels differ in the last bits."""


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Attributes:
        output: the file that was written.
        images: number of images that it was compared on.
        largest_difference: between its logits and the model's.
    """

    output: Path
    images: int
    largest_difference: float

    def as_json(self) -> dict[str, Any]:
        """Returns what ``canopy export-model --json`` prints."""
        return {**asdict(self), "output": str(self.output)}

    def __str__(self) -> str:
        """Returns the result as one line."""
        return (
            f"wrote {self.output}; on {self.images} images its logits differ from the model's by "
            f"{self.largest_difference:.2g} at most"
        )


Compute = Callable[[Tensor], npt.NDArray[np.float32]]
"""Maps normalised pixels to logits, as the exported model does."""


def export(model: Path, output: Path, images: Sequence[Path]) -> Exported:
    """Writes a trained model in the format that the name of the file says.

    Args:
        model: the model file.
        output: ends in ``.onnx`` or ``.safetensors``.
        images: files to compare on; none for images of the demo.

    Raises:
        ExportError: the format is unknown, a package is missing, no image can be read, or the
            exported model computes something else.
        CheckpointError: the model file is missing or damaged.
        OSError: `output` cannot be written.
    """
    writer = _WRITERS.get(output.suffix.lower())
    if writer is None:
        raise ExportError(
            f"{output}: expected a name that ends in {' or '.join(_WRITERS)}; rename it"
        )
    check_writable(output)
    if output.exists() and real_path(output) == real_path(model):
        raise ExportError(f"{output}: this is the model itself; name another file")
    trained = load_model(model)
    pixels = _pixels(images, trained)
    batch = normalised(torch.from_numpy(np.stack(pixels)), trained.pixel_scale).contiguous()
    content, logits_of = writer(trained, batch)
    with torch.inference_mode():
        expected = trained.network(batch).float().numpy()
    difference = float(np.abs(logits_of(batch) - expected).max())
    if not difference <= LARGEST_DIFFERENCE * max(1.0, float(np.abs(expected).max())):
        raise ExportError(
            f"{output}: not written, because its logits differ from the model's by {difference:.2g}"
        )
    write_atomically(output, content)
    return Exported(output, len(pixels), difference)


def _pixels(images: Sequence[Path], model: TrainedModel) -> list[npt.NDArray[np.uint8]]:
    """Returns images as a model sees them, each (image_px, image_px, 3), uint8.

    Unreadable ones are left out.

    Raises:
        ExportError: none can be read.
    """
    if not images:
        return [decode_image(content, model.image_px) for content in demo_images(MOST_IMAGES)]
    pixels: list[npt.NDArray[np.uint8]] = []
    for path in images[:MOST_IMAGES]:
        try:
            pixels.append(decode_image(read_image(path), model.image_px, model.conversion))
        except (DamagedImageError, OSError) as error:
            reason = f"{path}: {getattr(error, 'strerror', None) or error}"
    if not pixels:
        raise ExportError(f"--images: no image can be read ({reason}); name others")
    return pixels


def _metadata(model: TrainedModel) -> dict[str, str]:
    """Returns what a program needs besides the network; all but the format as JSON."""
    values: dict[str, Any] = {
        "labels": list(model.labels),
        "image_px": model.image_px,
        "conversion": asdict(model.conversion),
        "pixel_mean": list(model.pixel_scale.mean),
        "pixel_std": list(model.pixel_scale.std),
        "probabilities": "softmax" if model.is_exclusive else "sigmoid",
        "thresholds": {name: list(values) for name, values in model.thresholds.items()},
        "backbone": model.settings["training"]["backbone"],
    }
    return {f"canopy.{name}": json.dumps(value) for name, value in values.items()}


def _as_safetensors(model: TrainedModel, _batch: Tensor) -> tuple[bytes, Compute]:
    weights = {
        name: tensor.contiguous().clone() for name, tensor in model.network.state_dict().items()
    }
    content = save_safetensors(weights, _metadata(model))
    training = model.settings["training"]
    network = backbone_to_fill(
        training["backbone"],
        labels=len(model.labels),
        image_px=model.image_px,
        weights=training["weights"],
    ).eval()
    load_weights(network, load_safetensors(content))

    def compute(batch: Tensor) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = network(batch).float().numpy()
            return logits

    return content, compute


def _as_onnx(model: TrainedModel, batch: Tensor) -> tuple[bytes, Compute]:
    """Exports the network, with any number of images at a time.

    Raises:
        ExportError: a package is missing, or the network cannot be exported.
    """
    try:
        onnx, runtime, _ = map(importlib.import_module, ("onnx", "onnxruntime", "onnxscript"))
    except ImportError as error:
        raise ExportError(
            f"ONNX needs the packages onnx, onnxscript and onnxruntime; pip install '{ONNX_EXTRA}'"
        ) from error
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                model.network,
                (batch[:2],),
                input_names=["pixels"],
                output_names=["logits"],
                dynamic_shapes=({0: "images"},),
                dynamo=True,
                verbose=False,
            )
        proto = program.model_proto
        onnx.helper.set_model_props(proto, _metadata(model))
        content = proto.SerializeToString()
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever the exporter cannot translate
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ExportError(
            f"{model.settings['training']['backbone']} cannot be exported as ONNX: {reason}; "
            "export it as .safetensors"
        ) from error
    return content, lambda batch: session.run(["logits"], {"pixels": batch.numpy()})[0]


Writer = Callable[[TrainedModel, Tensor], tuple[bytes, Compute]]
_WRITERS: Mapping[str, Writer] = {".onnx": _as_onnx, ".safetensors": _as_safetensors}
