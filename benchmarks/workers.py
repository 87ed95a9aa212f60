"""One worker with all threads against several that share them: the same search, in turn.

``python -m benchmarks.workers --workers 1 2 --runs 5``. Each search begins with nothing known but
the decoded images, in a state folder of its own.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import machine_text, spread_text
from canopy_search.search.environment import state_home


def main() -> None:
    """Prints a row for each search, and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--config", type=Path, help="default the built-in demo")
    arguments = parser.parse_args()
    options = ["--trials", str(arguments.trials)]
    options += ["--config", str(arguments.config.resolve())] if arguments.config else []
    images = state_home()
    search(images, [*options, "--dry-run"])
    print(machine_text())
    print(f"\n{' '.join(options)}\n")
    print(
        "| run | workers | first trial to last, s | epochs trained | seconds an epoch | best AP |"
    )
    print("|---|---|---|---|---|---|")
    seconds: dict[int, list[float]] = {workers: [] for workers in arguments.workers}
    for run in range(1, arguments.runs + 1):
        for workers in arguments.workers:
            with tempfile.TemporaryDirectory() as folder:
                home = Path(folder)
                for part in ("cache", "demo", "digests"):
                    if (images / part).exists():
                        shutil.copytree(images / part, home / part)
                search_s = search(home, [*options, "--workers", str(workers)])
                state = json.loads(canopy(home, ["status", "--json"]))
                canopy(home, ["db", "stop"])
            seconds[workers].append(search_s)
            trained = state["epochs"]["trained"]
            print(
                f"| {run} | {workers} | {search_s:.1f} | {trained} | {search_s / trained:.2f} "
                f"| {state['best']['val_ap']:.4f} |",
                flush=True,
            )
    first = seconds[arguments.workers[0]]
    for workers in arguments.workers[1:]:
        ratios = [mine / one for mine, one in zip(seconds[workers], first, strict=True)]
        print(f"\n{workers} workers / {arguments.workers[0]}: {spread_text(ratios)}")


def search(home: Path, options: list[str]) -> float:
    """Runs one search; returns the seconds from when it begins trials to its end."""
    environment = {**os.environ, "CANOPY_HOME": str(home)}
    process = subprocess.Popen(
        [sys.executable, "-m", "canopy_search", "search", *options],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    began_s = time.perf_counter()
    output = process.stdout or io.StringIO()
    for line in output:
        if line.startswith("study ") and "trials finished" in line:
            began_s = time.perf_counter()
        if "paused trials are marked pruned" in line or line.startswith("The best settings"):
            break
    ended_s = time.perf_counter()
    output.read()
    if process.wait() != 0:
        raise SystemExit(f"the search ended with exit status {process.returncode}")
    return ended_s - began_s


def canopy(home: Path, options: list[str]) -> str:
    """Runs another command; returns what it prints."""
    return subprocess.run(
        [sys.executable, "-m", "canopy_search", *options],
        env={**os.environ, "CANOPY_HOME": str(home)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


if __name__ == "__main__":
    main()
