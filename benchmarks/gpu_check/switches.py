"""What each switch of the training loop brings, as a ratio to the default."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.gpu import DEFAULT, NOT_ON_A_CPU, SWITCHES, Round, together
from benchmarks.gpu_check.table import Result, timed
from benchmarks.noise_images import Case
from benchmarks.timed_run import Extent, Switch, time_run

_CASE = Case("resnet18", 64, 64, 100)
_CASE_ON_CPU = Case("tinycnn_8", 32, 8, 2)
_SLOW = frozenset({"compiled", "compiled, with CUDA graphs"})
_EPOCHS = 2


def switches(device: str, deadline_s: float) -> Iterator[Result]:
    """Yields the result of each switch, the slow ones last.

    The default is measured twice: its second ratio says how far ratios can be trusted.

    Args:
        device: cuda, cuda:N or cpu.
        deadline_s: by the monotonic clock.
    """
    on_cpu = device == "cpu"
    chosen = [each for each in SWITCHES if not (on_cpu and each.name in NOT_ON_A_CPU)]
    chosen.sort(key=lambda switch: switch.name in _SLOW)
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory() as folder:
        for switch in (DEFAULT, Switch("default again"), *chosen):
            extent = partial(Extent, 1, _EPOCHS, Path(folder), device)
            measure = partial(_measured, switch, extent, rounds)
            yield timed(switch.name, measure, deadline_s)
            if not rounds:  # nothing to compare with
                return


def _measured(
    switch: Switch, extent: "partial[Extent]", rounds: list[Round], left_s: float
) -> tuple[str, str]:
    """Measures a switch, and adds its round."""
    case = _CASE_ON_CPU if extent.args[-1] == "cpu" else _CASE
    try:
        found = together(time_run(case, switch, extent(left_s)))
    except RuntimeError as error:
        return "failed", str(error)
    rounds.append(found)
    return "ok", ratio_text(found, rounds[0])


def ratio_text(found: Round, default: Round) -> str:
    """Returns what a switch brings."""
    before_s = found.before_s - default.before_s
    return (
        f"{found.images_per_s:.0f} images/s, × {found.images_per_s / default.images_per_s:.2f}; "
        f"validation × {default.val_s / found.val_s:.2f}; "
        f"memory × {found.peak_memory_mib / default.peak_memory_mib:.2f}; "
        f"first epoch {before_s:+.1f} s"
    )
