"""Networks compiled with ``torch.compile``, if a run is long enough to save time."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from canopy_search.filestore.messages import first_line
from canopy_search.training.device.out_of_memory import is_out_of_memory
from canopy_search.training.errors import SettingsError
from canopy_search.training.liveness import silent_step

Compile = Literal["off", "on", "graphs"]

PAYS_FROM_STEPS = 20_000
"""``auto`` compiles on a CUDA GPU if a run has at least this many steps without a pause.

An estimate, not a measurement: a minute of compiling, against about 3 ms saved per step.
``python -m benchmarks.gpu`` measures after how many epochs compiling saves time on a GPU.
"""

# Batches of an epoch have at most two sizes, and so do their micro-batches.
_SIZES_AT_MOST = 32
_BACKEND = "inductor"


def resolve_compile(
    setting: Literal["auto", "off", "on", "graphs"], device: torch.device, steps: int
) -> Compile:
    """Returns how the network of a run is compiled.

    ``auto`` compiles on a CUDA GPU if a run has at least `PAYS_FROM_STEPS` steps at once. It never
    uses CUDA graphs: a graph holds extra memory for each batch size, which other workers on the
    same GPU then lack, and graphs cannot accumulate gradients over micro-batches. On a CPU ``auto``
    never compiles: half a minute for a tiny network (benchmarks/log).

    Args:
        setting: from the run's settings.
        device: the run's device.
        steps: that a run takes without a pause; 0 if unknown, and then ``auto`` is off.

    Raises:
        SettingsError: graphs without a CUDA GPU.
    """
    if setting == "graphs" and device.type != "cuda":
        raise SettingsError(
            f"training.compile: graphs requested, but CUDA graphs need a CUDA GPU and the device "
            f"is {device}; set it to auto, on or off"
        )
    if setting != "auto":
        return setting
    return "on" if device.type == "cuda" and steps >= PAYS_FROM_STEPS else "off"


class CompiledNetwork:
    """A network as it is called in training; it shares the weights of `network`.

    Each batch size is compiled separately, so earlier batches do not affect the result. Validation
    and prediction call the uncompiled network: they would need more compilations for a tenth of the
    work.

    Args:
        network: the network to train.
        how: from `resolve_compile`; ``off`` calls the network without compiling.

    Raises:
        ValueError: `how` is ``auto``.
    """

    def __init__(self, network: nn.Module, how: Literal["off", "on", "graphs", "auto"]) -> None:
        if how == "auto":
            raise ValueError("training.compile is auto; resolve the settings first")
        self._how = how
        self._called_with: set[torch.Size] = set()
        self._plain: Callable[[Tensor], Tensor] = network
        self._with_graphs: Callable[[Tensor], Tensor] | None = None
        if how != "off":
            self._plain = _compiled(network, None)
        if how == "graphs":
            self._with_graphs = _compiled(network, "reduce-overhead")

    def __call__(self, images: Tensor, *, is_cut: bool = False) -> Tensor:
        """Returns logits, (batch, labels), of images, (batch, 3, px, px).

        Args:
            images: a batch or micro-batch.
            is_cut: whether it is a micro-batch. Its gradients are added to those of the previous
                one, which are in memory that the next CUDA graph would overwrite.

        Raises:
            SettingsError: the network cannot be compiled on this machine.
        """
        if self._how == "off" or images.shape in self._called_with:
            return self._call(images, is_cut=is_cut)
        with silent_step():  # it is compiled for this size
            logits = self._call(images, is_cut=is_cut)
        self._called_with.add(images.shape)
        return logits

    def _call(self, images: Tensor, *, is_cut: bool) -> Tensor:
        try:
            if self._with_graphs is None or is_cut:
                return self._plain(images)
            start_step: Callable[[], None] = torch.compiler.cudagraph_mark_step_begin
            start_step()
            return self._with_graphs(images)
        except RuntimeError as error:
            if self._how == "off" or not _is_compiler_error(error):
                raise
            # The text after the first empty line is advice for developers of torch.
            reason = first_line(" ".join(str(error).partition("\n\n")[0].split()))
            raise SettingsError(
                f"training.compile: {self._how} requested, but the network cannot be compiled here "
                f"({reason}); set it to off"
            ) from error


def _is_compiler_error(error: RuntimeError) -> bool:
    from torch._dynamo.exc import TorchDynamoException  # a slow import, unless done already

    return isinstance(error, TorchDynamoException) and not is_out_of_memory(error)


def _compiled(network: nn.Module, mode: str | None) -> Callable[[Tensor], Tensor]:
    compiler: Any = torch.compile  # torch's stubs lack the last two arguments
    program: Callable[[Tensor], Tensor] = compiler(
        network,
        backend=_BACKEND,
        mode=mode,
        dynamic=False,
        recompile_limit=_SIZES_AT_MOST,
        isolate_recompiles=True,
    )
    return program
