"""Networks that ``torch.compile`` has made one program of, where the epochs pay for that."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from canopy_search.training.device.out_of_memory import is_out_of_memory
from canopy_search.training.errors import SettingsError

Compile = Literal["off", "on", "graphs"]

PAYS_FROM_STEPS = 20_000
"""Steps of a full run from which ``auto`` compiles on a CUDA GPU.

An estimate, not a measurement: a minute of compiling, against some 3 ms that a step then saves.
``python -m benchmarks.gpu`` measures after how many epochs it pays on a GPU.
"""

# Batches of an epoch have two sizes at most, and so have the parts that each of them is cut into.
_SIZES_AT_MOST = 32
_BACKEND = "inductor"


def resolve_compile(
    setting: Literal["auto", "off", "on", "graphs"], device: torch.device, steps: int
) -> Compile:
    """Returns how the network of a run is compiled.

    ``auto`` compiles on a CUDA GPU if a full run has at least `PAYS_FROM_STEPS` steps, and never
    uses CUDA graphs: what they record keeps memory of its own for each size of batch, beside that
    of other workers of the same GPU, and they cannot sum the gradients of a batch that is cut. On a
    CPU it compiles nothing: half a minute for a tiny network (benchmarks/RESULTS.md).

    Args:
        setting: of the run.
        device: that it trains on.
        steps: of a full run; 0 where that is not known, and then ``auto`` is off.

    Raises:
        SettingsError: graphs without a CUDA GPU.
    """
    if setting == "graphs" and device.type != "cuda":
        raise SettingsError(
            f"training.compile: graphs asked for, but CUDA graphs need a CUDA GPU and the device "
            f"is {device}; set it to auto, on or off"
        )
    if setting != "auto":
        return setting
    return "on" if device.type == "cuda" and steps >= PAYS_FROM_STEPS else "off"


class CompiledNetwork:
    """A network as it is called in training; its weights stay the network's own.

    Every size of batch has a program of its own, so what was trained before changes nothing.
    Validation and prediction call the network itself: they would need further programs for a tenth
    of the work.

    Args:
        network: that is trained.
        how: as `resolve_compile` says; ``off`` calls the network itself.

    Raises:
        ValueError: it is not resolved.
    """

    def __init__(self, network: nn.Module, how: Literal["off", "on", "graphs", "auto"]) -> None:
        if how == "auto":
            raise ValueError("training.compile is auto; resolve the settings first")
        self._how = how
        self._plain: Callable[[Tensor], Tensor] = network
        self._with_graphs: Callable[[Tensor], Tensor] | None = None
        if how != "off":
            self._plain = _compiled(network, None)
        if how == "graphs":
            self._with_graphs = _compiled(network, "reduce-overhead")

    def __call__(self, images: Tensor, *, is_cut: bool = False) -> Tensor:
        """Returns logits, (batch, labels), of images, (batch, 3, px, px).

        Args:
            images: a batch, or a part of one.
            is_cut: whether it is a part, whose gradients are added to those of the part before,
                which lie where the next CUDA graph would write.

        Raises:
            SettingsError: it cannot be compiled here.
        """
        try:
            if self._with_graphs is None or is_cut:
                return self._plain(images)
            begin_step: Callable[[], None] = torch.compiler.cudagraph_mark_step_begin
            begin_step()
            return self._with_graphs(images)
        except RuntimeError as error:
            if self._how == "off" or not _is_compiler_s(error):
                raise
            # What follows the first empty line is advice to those who work on torch.
            reason = " ".join(str(error).partition("\n\n")[0].split())
            raise SettingsError(
                f"training.compile: {self._how} asked for, but the network cannot be compiled here "
                f"({reason}); set it to off"
            ) from error


def _is_compiler_s(error: RuntimeError) -> bool:
    from torch._dynamo.exc import TorchDynamoException  # takes seconds, unless it is there already

    return isinstance(error, TorchDynamoException) and not is_out_of_memory(error)


def _compiled(network: nn.Module, mode: str | None) -> Callable[[Tensor], Tensor]:
    compiler: Any = torch.compile  # torch's types lack the last two arguments
    program: Callable[[Tensor], Tensor] = compiler(
        network,
        backend=_BACKEND,
        mode=mode,
        dynamic=False,
        recompile_limit=_SIZES_AT_MOST,
        isolate_recompiles=True,
    )
    return program
