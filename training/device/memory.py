"""Memory that a training step needs, and memory that is available."""

import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from canopy_search.training.device.gpu import free_bytes
from canopy_search.training.errors import SettingsError
from canopy_search.training.network.backbones import meta_backbone
from canopy_search.training.network.layers import checkpoint_blocks
from canopy_search.training.settings import OptimizerSettings, TrainingSettings
from canopy_search.training.sizes import size_text

_CGROUP = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")

# Batch sizes for measuring how memory grows.
_BATCHES = (2, 4)

# Share of the free memory that a suggested batch may need by the estimate, which is up to 35 % low
# for large steps (benchmarks/log); a larger share is tight.
_SUGGESTED_SHARE = 0.6
_TIGHT_SHARE = 0.7

# Under autocast saved tensors have half the bytes, except float32 ones of normalisation layers.
_AUTOCAST_SHARE = {"fp32": 1.0, "bf16": 0.5, "fp16": 0.5}


@dataclass(frozen=True)
class StepMemory:
    """Memory of a training step at the end of its forward pass, in bytes: a lower bound.

    Attributes:
        settings: of the run, with every ``auto`` resolved.
        image_px: side of the images.
        fixed_bytes: weights, gradients and the optimizer's state.
        image_bytes: tensors that the forward pass saves for the backward pass, per image.
        available_bytes: free memory of the device.
    """

    settings: TrainingSettings
    image_px: int
    fixed_bytes: int
    image_bytes: int
    available_bytes: int

    @property
    def needed_bytes(self) -> int:
        """The memory for a batch."""
        return self.fixed_bytes + self.settings.batch_size * self.image_bytes

    @property
    def is_tight(self) -> bool:
        """Whether the step may not fit, because the estimate is a lower bound."""
        return self.needed_bytes > _TIGHT_SHARE * self.available_bytes

    @property
    def suggested_batch(self) -> int:
        """The largest batch size that should fit; 0 if none does."""
        free = int(_SUGGESTED_SHARE * self.available_bytes) - self.fixed_bytes
        return max(0, free // self.image_bytes)

    def check(self) -> None:
        """Checks that the step can fit.

        A run that exceeds the free memory by the estimate exceeds it in practice.

        Raises:
            SettingsError: it cannot; the message names a batch size that would.
        """
        if self.needed_bytes <= self.available_bytes:
            return
        batch = self.suggested_batch
        remedy = f"{batch} would fit" if batch else "choose another backbone or smaller images"
        raise SettingsError(
            f"training.batch_size: {self.settings.batch_size} images of {self.image_px} px with "
            f"backbone {self.settings.backbone!r} need at least {size_text(self.needed_bytes)}, "
            f"and {size_text(self.available_bytes)} are free on {self.settings.device}; {remedy}"
        )


def step_memory(settings: TrainingSettings, *, labels: int, image_px: int) -> StepMemory:
    """Estimates the memory of a step from the shapes of all tensors that autograd saves.

    Temporary memory of kernels is not counted. It depends on the machine, and most of it is used
    after the backward pass has freed saved tensors: adding it would reject runs that fit.

    The network runs on torch's meta device, where tensors have shapes but no values, so the
    estimate takes a fraction of a second and no memory.

    Args:
        settings: of the run, with every ``auto`` resolved.
        labels: number of logits.
        image_px: side of the images.
    """
    model = meta_backbone(settings.backbone, labels=labels, image_px=image_px)
    if settings.gradient_checkpointing:
        checkpoint_blocks(model)
    parameter_bytes = sum(
        parameter.numel() * parameter.element_size() for parameter in model.parameters()
    )
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.MultiheadAttention):
            model.set_submodule(name, _FusedAttention(layer))
    few, more = (_saved_bytes(model, batch, image_px) for batch in _BATCHES)
    share = _AUTOCAST_SHARE[settings.precision]
    image_bytes = share * (more - few) / (_BATCHES[1] - _BATCHES[0])
    copies = 2 + _state_copies(settings.optimizer) + (settings.ema is not None)
    return StepMemory(
        settings=settings,
        image_px=image_px,
        fixed_bytes=copies * parameter_bytes,
        image_bytes=int(image_bytes),
        available_bytes=available_bytes(torch.device(settings.device)),
    )


def available_bytes(device: torch.device) -> int:
    """Returns the free memory of a device, within a container's limit."""
    if device.type == "cuda":
        return free_bytes(device)
    free = psutil.virtual_memory().available
    return min([free, *_cgroup_limits(_CGROUP, _OWN_CGROUP)])


def peak_memory_mib(device: torch.device) -> float:
    """Returns the largest allocation on a GPU since its last reset; see `EpochMetrics`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _saved_bytes(model: nn.Module, batch: int, image_px: int) -> int:
    """Returns the bytes that a forward pass saves for the backward pass, without weights."""
    identity: Any = StorageWeakRef  # counts tensors that share storage once
    sizes = {identity(parameter.untyped_storage()): 0 for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes.setdefault(identity(storage), storage.nbytes())
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor), _FusedProducts():
        logits = model(torch.empty(batch, 3, image_px, image_px, device="meta"))
        del logits
    return sum(sizes.values())


class _FusedAttention(nn.Module):
    """Saves the tensors that self-attention saves on real devices.

    On the meta device torch selects a kernel that saves the full attention matrix, a third more
    memory for a ViT at 224 px.
    """

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, tokens: Tensor, *_same: Tensor, **_options: object) -> tuple[Tensor, None]:
        """Returns a tensor of shape (batch, tokens, features), and no attention weights."""
        layer = self.attention
        packed = functional.linear(tokens, layer.in_proj_weight, layer.in_proj_bias)
        result: Tensor = _SavesOperands.apply(*packed.chunk(3, dim=-1))
        return layer.out_proj(result), None


class _FusedProducts(TorchFunctionMode):
    """Does for networks that call `scaled_dot_product_attention` what `_FusedAttention` does."""

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.scaled_dot_product_attention:
            return _SavesOperands.apply(*args[:3])
        return func(*args, **(kwargs or {}))


class _SavesOperands(torch.autograd.Function):
    """Saves queries, keys, values and the result, as fused attention does."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        result = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, result)
        return result


def _state_copies(optimizer: OptimizerSettings) -> int:
    """Returns how many numbers an optimizer stores for each weight."""
    if optimizer.name == "sgd":
        return int(optimizer.momentum > 0)
    return 2


def _cgroup_limits(root: Path, own: Path) -> list[int]:
    """Returns the available bytes of each cgroup of this process that has a limit.

    A container sees its own cgroup as the root; a job of systemd or SLURM is in nested cgroups
    below it, each of which may have a limit.

    References:
        ``/proc/<pid>/cgroup`` in https://man7.org/linux/man-pages/man7/cgroups.7.html
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
    inner = root / path.strip("/")
    folders = [inner, *inner.parents] if ".." not in inner.parts else [root]
    limits = (_cgroup_available(folder) for folder in folders if folder.is_relative_to(root))
    return [limit for limit in limits if limit is not None]


def _cgroup_available(folder: Path) -> int | None:
    """Returns the bytes that a cgroup may still use, None without a limit.

    References:
        ``memory.max`` in https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    try:
        limit = (folder / "memory.max").read_text().strip()
        if limit == "max":
            return None
        used = int((folder / "memory.current").read_text())
        statistics = (folder / "memory.stat").read_text().split()
    except OSError:
        return None
    # The file cache is reclaimed when memory runs short.
    cached = int(statistics[statistics.index("inactive_file") + 1])
    return max(0, int(limit) - used + cached)
