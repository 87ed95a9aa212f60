"""How long torch's threads should spin before they sleep, on an idle and on a busy machine.

``python -m benchmarks.thread_waiting --rounds 3``. The settings take turns, so that a machine that
changes its speed is unfair to none.
"""

import argparse
import os
import subprocess
import sys
from collections import defaultdict
from contextlib import nullcontext
from statistics import median

from benchmarks.epoch_time import demo, measure
from benchmarks.machine import machine_text, spread_text
from canopy_search.search.environment import state_home

IMAGE_PX = 32
BACKBONES = ("tinycnn_8", "tinyresnet_16")
# GNU OpenMP spins 300,000 turns where nothing is set.
SETTINGS = {
    "300,000 turns (default)": {"GOMP_SPINCOUNT": "300000"},
    "50,000 turns": {"GOMP_SPINCOUNT": "50000"},
    "10,000 turns": {"GOMP_SPINCOUNT": "10000"},
    "1,000 turns (ours)": {"GOMP_SPINCOUNT": "1000"},
    "none (OMP_WAIT_POLICY=PASSIVE)": {"OMP_WAIT_POLICY": "PASSIVE"},
}
BUSY_LOOP = [sys.executable, "-c", "while True: pass"]


class Busy:
    """One process that uses a core for as long as the context lasts."""

    def __enter__(self) -> None:
        self._process = subprocess.Popen(BUSY_LOOP)

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.wait()


def epoch_seconds(backbone: str, variables: dict[str, str]) -> float:
    """Returns the median time of two epochs in a process with these variables."""
    command = [sys.executable, "-m", "benchmarks.thread_waiting", "--child", backbone]
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"} | variables
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(printed.stdout)


def main() -> None:
    """Prints seconds an epoch for each setting, network and load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", help="measure one network in this process and print it")
    arguments = parser.parse_args()
    if arguments.child:
        metrics = measure(arguments.child, demo(state_home(), IMAGE_PX, augmented=False), 2)
        print(median(m.train_s for m in metrics))
        return
    seconds = defaultdict(list)
    for _ in range(arguments.rounds):
        for load in ("idle", "one core busy"):
            with Busy() if load != "idle" else nullcontext():
                for name, variables in SETTINGS.items():
                    for backbone in BACKBONES:
                        seconds[name, load, backbone].append(epoch_seconds(backbone, variables))
    print(machine_text())
    print(f"{arguments.rounds} rounds; train s an epoch, median (smallest to largest)\n")
    columns = [(load, backbone) for load in ("idle", "one core busy") for backbone in BACKBONES]
    print("| threads spin | " + " | ".join(f"{b}, {load}" for load, b in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name in SETTINGS:
        cells = [spread_text(seconds[name, load, backbone]) for load, backbone in columns]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
