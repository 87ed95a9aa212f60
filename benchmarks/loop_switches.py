"""What each switch of the training loop brings on a CPU, each for itself, in turns.

``python -m benchmarks.loop_switches --rounds 3 [--case resnet18:64:64:8] [--switch NAME ...]``.
Every measurement is a process of its own. The ratios are of CPU time, which other work on the
machine hardly changes: how many times as many images a CPU second trains or validates as with the
default in the same round.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean, median

from benchmarks.loop_profile import CASES
from benchmarks.machine import machine_text, spread_text
from benchmarks.noise_images import Case
from benchmarks.timed_run import Extent, RunTimes, Switch, time_run

DEFAULT = Switch("default")
SWITCHES = (
    Switch("fp32", {"precision": "fp32"}),
    Switch("contiguous", patch="contiguous"),
    Switch("optimizer not fused", patch="unfused"),
    Switch("two threads", {"threads": 2}),
    Switch("denormals flushed", patch="flush denormals"),
    Switch("evaluation batch × 1", patch="evaluation batch × 1"),
    Switch("evaluation batch × 4", patch="evaluation batch × 4"),
    Switch("freed memory given back", patch="giving back"),
    Switch("huge pages", environment={"THP_MEM_ALLOC_ENABLE": "1"}),
    Switch("two processes of one thread", {"threads": 1}, processes=2),
    Switch("two processes of one thread, pinned", {"threads": 1}, processes=2, pinned=True),
    Switch("augmented", augment=("hflip", "vflip", "rot90")),
)


def images_per_s(runs: list[RunTimes]) -> float:
    """Returns the images a second of the median epoch, of all processes together."""
    return sum(run.images / median(run.train_s) for run in runs)


def train_cpu_s(runs: list[RunTimes]) -> float:
    """Returns the CPU seconds of training in the median epoch, the mean of all processes."""
    return mean(median(run.train_cpu_s) for run in runs)


def val_cpu_s(runs: list[RunTimes]) -> float:
    """Returns the CPU seconds of the median validation, the mean of all processes."""
    return mean(median(run.val_cpu_s) for run in runs)


def main() -> None:
    """Prints a table for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3, help="measured in each round")
    parser.add_argument("--threads", type=int, default=1, help="default 1, as in a search here")
    parser.add_argument("--case", nargs="+", help="backbone:px:batch:steps")
    parser.add_argument("--switch", nargs="+", help="only these")
    arguments = parser.parse_args()
    cases: tuple[Case, ...] = CASES
    if arguments.case:
        split = [text.split(":") for text in arguments.case]
        cases = tuple(Case(name, *map(int, numbers)) for name, *numbers in split)
    switches = [s for s in SWITCHES if not arguments.switch or s.name in arguments.switch]
    print(machine_text())
    print(
        f"{arguments.threads} threads, {arguments.rounds} rounds of {arguments.epochs} epochs; "
        "median (smallest to largest)"
    )
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            print(f"\n{case.name}\n")
            print("| switch | images/s | training, × | validation, × | peak MiB | page faults |")
            print("|---|---|---|---|---|---|")
            extent = Extent(arguments.rounds, arguments.epochs, Path(folder))
            measure(case, switches, arguments.threads, extent)


def with_threads(switch: Switch, threads: int) -> Switch:
    """Returns a switch that says how many threads there are, if it does not say that itself."""
    return replace(switch, settings={"threads": threads, **switch.settings})


def measure(case: Case, switches: list[Switch], threads: int, extent: Extent) -> None:
    """Prints the default's row and that of each switch."""
    found: dict[str, list[list[RunTimes]]] = {switch.name: [] for switch in (DEFAULT, *switches)}
    for _ in range(extent.rounds):
        for switch in (DEFAULT, *switches):
            runs = time_run(case, with_threads(switch, threads), extent)
            found[switch.name].append(runs)
    default = found[DEFAULT.name]
    for name, times in found.items():
        speeds = [images_per_s(each) for each in times]
        pairs = list(zip(times, default, strict=True))
        ratios = [train_cpu_s(other) / train_cpu_s(one) for one, other in pairs]
        validation = [val_cpu_s(other) / val_cpu_s(one) for one, other in pairs]
        runs = [run for each in times for run in each]
        print(
            f"| {name} | {spread_text(speeds, 1)} | {spread_text(ratios)} "
            f"| {spread_text(validation)} | {median(run.peak_memory_mib for run in runs):.0f} "
            f"| {median(run.faults for run in runs):.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
