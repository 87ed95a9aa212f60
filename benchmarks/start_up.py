"""How long a person waits: for `canopy --help`, `canopy status`, and a search's first epoch.

``python -m benchmarks.start_up --runs 5``. Caches are warm: what is imported and decoded was
imported and decoded before, and the database runs.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.machine import machine_text, spread_text
from benchmarks.workers import canopy
from canopy_search.search.study.configuration import DEMO_CONFIG


def main() -> None:
    """Prints a row for each thing that is waited for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    print(machine_text())
    print("\n| from typing to | s, median (smallest to largest) |")
    print("|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        canopy(home, ["search", "--trials", "1", "--workers", "1"])
        waits: dict[str, Callable[[int], float]] = {
            "the end of `canopy --help`": lambda _run: command_s(home, ["--help"]),
            "the end of `canopy status`": lambda _run: command_s(home, ["status"]),
            "the first epoch of `canopy search`": lambda run: first_epoch_s(home, run),
        }
        for what, wait in waits.items():
            print(f"| {what} | {spread_text([wait(run) for run in range(runs)])} |", flush=True)
        canopy(home, ["db", "stop"])


def command_s(home: Path, options: list[str]) -> float:
    """Returns how long a command takes."""
    began = time.perf_counter()
    canopy(home, options)
    return time.perf_counter() - began


def first_epoch_s(home: Path, run: int) -> float:
    """Returns how long after its start a search of two workers begins to train."""
    config, trials = home / f"run{run}.yaml", home / f"run{run}.json"
    # A seed of its own, so that there is something to train.
    text = DEMO_CONFIG.read_text().replace("  seed: 0\n\nsearch:", f"  seed: {run + 1}\n\nsearch:")
    config.write_text(text.replace("study: demo", f"study: run {run}"))
    began = datetime.now(UTC)
    canopy(home, ["search", "--config", str(config), "--trials", "1"])
    canopy(home, ["export", "--config", str(config), "--output", str(trials)])
    epoch = json.loads(trials.read_text())["trials"][0]["epochs"][0]
    recorded = datetime.fromisoformat(epoch["recorded"]).replace(tzinfo=UTC)
    training_s: float = epoch["train_s"] + epoch["val_s"]
    return (recorded - began).total_seconds() - training_s


if __name__ == "__main__":
    main()
