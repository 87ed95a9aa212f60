"""What `canopy plan` says of a search beside what the search then takes, each in a fresh folder.

``python -m benchmarks.forecast_check --workers auto 1 --runs 2``
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_text
from benchmarks.workers import canopy, search


def main() -> None:
    """Prints a row for each search."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", nargs="+", default=["auto", "1"])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--config", type=Path, help="default the built-in demo")
    arguments = parser.parse_args()
    options = ["--trials", str(arguments.trials)]
    options += ["--config", str(arguments.config.resolve())] if arguments.config else []
    print(machine_text())
    print(
        "\n| workers | planned, s | measured, s | likely / measured | before and after the trials "
        "planned, s | measured | trials planned, s | measured "
        "| epochs trained planned | measured | checkpoints planned, MiB | measured | plan took, s |"
    )
    print(f"|{13 * '---|'}")
    for _run in range(arguments.runs):
        for workers in arguments.workers:
            print(row(workers, [*options, "--workers", workers]), flush=True)


def row(workers: str, options: list[str]) -> str:
    """Plans and then searches; returns a row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        plan = json.loads(canopy(Path(folder), ["plan", *options, "--json"]))
        planning_s = time.perf_counter() - began
    for each in plan["networks"]:
        print(each, file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        began = time.perf_counter()
        trials_s = search(home, options)
        total_s = time.perf_counter() - began
        trained = json.loads(canopy(home, ["status", "--json"]))["epochs"]["trained"]
        canopy(home, ["db", "stop"])
        held = sum(file.stat().st_size for file in (home / "checkpoints").rglob("*.pt"))
    cells = [
        workers,
        range_text(plan["total_s"]),
        f"{total_s:.1f}",
        f"**{plan['total_s']['likely'] / total_s:.2f}**",
        f"{plan['start_s']['likely'] + plan['decode_s']['likely']:.0f}",
        f"{total_s - trials_s:.1f}",
        range_text(plan["search_s"]),
        f"{trials_s:.1f}",
        range_text(plan["trained"]),
        f"{trained}",
        range_text({key: value / 2**20 for key, value in plan["checkpoint_bytes"].items()}),
        f"{held / 2**20:.0f}",
        f"{planning_s:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def range_text(values: dict[str, Any]) -> str:
    """Returns the likely value, and the low and the high one."""
    return f"{values['likely']:.0f} ({values['low']:.0f} to {values['high']:.0f})"


if __name__ == "__main__":
    main()
