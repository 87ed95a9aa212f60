"""What each switch of the training loop brings on the GPU that is here, each for itself, in turns.

``python -m benchmarks.gpu [--backbone NAME --image-px N]``. Every measurement is a process of its
own that trains noise; the ratios are of images a second to the default in the same round. Compiling
is what the first epoch takes longer than the default's, and pays after the epochs whose gain makes
up for it. ``--device cpu`` tries the script itself where there is no GPU.
"""

import argparse
import math
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch

from benchmarks.machine import machine_text, spread_text
from benchmarks.noise_images import Case
from benchmarks.timed_run import Extent, RunTimes, Switch, time_run

CASES = (
    Case("tinycnn_16", 32, 64, 200),
    Case("resnet18", 64, 64, 200),
    Case("resnet18", 128, 64, 100),
    Case("resnet50", 128, 64, 100),
    Case("resnet50", 224, 64, 60),
)
DEFAULT = Switch("default")
ALL_TURNS = ("hflip", "vflip", "rot90")
SWITCHES = (
    Switch("images in the device's memory", {"device_cache": "on"}),
    Switch("images in the host's memory", {"device_cache": "off"}),
    Switch("augmented, in the device's memory", {"device_cache": "on"}, augment=ALL_TURNS),
    Switch("augmented, in the host's memory", {"device_cache": "off"}, augment=ALL_TURNS),
    Switch("fp32", {"precision": "fp32"}),
    Switch("fp16", {"precision": "fp16"}),
    Switch("bf16", {"precision": "bf16"}),
    Switch("contiguous", patch="contiguous"),
    Switch("optimizer not fused", patch="unfused"),
    Switch("deterministic", {"deterministic": True}),
    Switch("compiled", {"compile": "on"}),
    Switch("compiled, with CUDA graphs", {"compile": "graphs"}),
    Switch("evaluation batch × 1", patch="evaluation batch × 1"),
    Switch("evaluation batch × 4", patch="evaluation batch × 4"),
    Switch("two processes", processes=2),
    Switch("four processes", processes=4),
)
NOT_ON_A_CPU = frozenset({"fp16", "compiled, with CUDA graphs"})


@dataclass(frozen=True)
class Round:
    """What a switch gave in one round, all its processes together.

    Attributes:
        images_per_s: while training, in the median epoch.
        val_s: of the median epoch.
        peak_memory_mib: see `EpochMetrics`.
        epoch_s: of the median epoch, validation included.
        before_s: what the first epoch took longer than that.
    """

    images_per_s: float
    val_s: float
    peak_memory_mib: float
    epoch_s: float
    before_s: float


def together(runs: list[RunTimes]) -> Round:
    """Returns what processes that trained at the same time gave together."""
    epoch_s = max(median(map(sum, zip(run.train_s, run.val_s, strict=True))) for run in runs)
    return Round(
        images_per_s=sum(run.images / median(run.train_s) for run in runs),
        val_s=max(median(run.val_s) for run in runs),
        peak_memory_mib=sum(run.peak_memory_mib for run in runs),
        epoch_s=epoch_s,
        before_s=max(run.first_s for run in runs) - epoch_s,
    )


def row(name: str, rounds: list[Round], default: list[Round]) -> str:
    """Returns the row of a switch.

    Args:
        name: of the switch.
        rounds: that it was measured in.
        default: the same rounds of the default.
    """
    pairs = list(zip(rounds, default, strict=True))
    before_s = median(mine.before_s - theirs.before_s for mine, theirs in pairs)
    gained_s = median(theirs.epoch_s - mine.epoch_s for mine, theirs in pairs)
    cells = [
        spread_text([each.images_per_s for each in rounds], 0),
        spread_text([mine.images_per_s / theirs.images_per_s for mine, theirs in pairs]),
        spread_text([theirs.val_s / mine.val_s for mine, theirs in pairs]),
        f"{median(each.peak_memory_mib for each in rounds):.0f}",
        f"{before_s:+.1f}" if name != DEFAULT.name else "",
        pays_after_text(before_s, gained_s) if name.startswith("compiled") else "",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def pays_after_text(cost_s: float, gained_s: float) -> str:
    """Returns after how many epochs a cost is made up for by what each epoch gains."""
    if gained_s <= 0:
        return "never"
    return f"{max(0, math.ceil(cost_s / gained_s)):,}"


def measure(case: Case, switches: list[Switch], extent: Extent) -> None:
    """Prints the rows of a case."""
    found: dict[str, list[Round]] = {switch.name: [] for switch in (DEFAULT, *switches)}
    failed: dict[str, str] = {}
    for _ in range(extent.rounds):
        for switch in (DEFAULT, *switches):
            if switch.name in failed:
                continue
            try:
                runs = time_run(case, switch, extent)
            except RuntimeError as error:
                if switch is DEFAULT:
                    raise SystemExit(f"benchmarks.gpu: {case.name}: {error}") from error
                failed[switch.name] = str(error)
                continue
            found[switch.name].append(together(runs))
    for name, measured in found.items():
        if name in failed:
            print(f"| {name} | {failed[name]} | | | | | |", flush=True)
        else:
            print(row(name, measured, found[DEFAULT.name]), flush=True)


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to try the script")
    parser.add_argument("--backbone", help="one case, with --image-px, --batch-size and --steps")
    parser.add_argument("--image-px", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, help="of an epoch; default 100 and those of the cases")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3, help="measured in each round")
    parser.add_argument("--switch", nargs="+", choices=[s.name for s in SWITCHES], metavar="NAME")
    return parser.parse_args(arguments)


def main() -> None:
    """Prints a table for each case."""
    arguments = parsed(sys.argv[1:])
    if arguments.device != "cpu" and not torch.cuda.is_available():
        raise SystemExit(
            f"benchmarks.gpu: torch {torch.__version__} finds no CUDA GPU; check the driver with "
            "nvidia-smi, or try the script itself with --device cpu"
        )
    cases = list(CASES)
    if arguments.backbone:
        steps = arguments.steps or 100
        cases = [Case(arguments.backbone, arguments.image_px, arguments.batch_size, steps)]
    elif arguments.steps:
        cases = [replace(case, steps=arguments.steps) for case in cases]
    skipped = NOT_ON_A_CPU if arguments.device == "cpu" else frozenset()
    switches = [
        switch
        for switch in SWITCHES
        if switch.name not in skipped and (not arguments.switch or switch.name in arguments.switch)
    ]
    print(machine_text())
    print(f"{arguments.rounds} rounds of {arguments.epochs} epochs; median (smallest to largest)")
    with tempfile.TemporaryDirectory() as folder:
        extent = Extent(arguments.rounds, arguments.epochs, Path(folder), arguments.device)
        for case in cases:
            print(f"\n{case.name}, {case.steps} steps an epoch, on {arguments.device}\n")
            print(
                "| switch | images/s | of default | validation of default | peak memory, MiB "
                "| before the first step, s more | pays after, epochs |"
            )
            print("|---|---|---|---|---|---|---|")
            measure(case, switches, extent)


if __name__ == "__main__":
    main()
