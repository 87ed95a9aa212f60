"""Checks Canopy's training on the GPU that is here, within eight minutes, and prints a table.

It installs nothing and needs no network: torch, what the training loop imports, and if they are
there pytest and Optuna. Every check is a process of its own, so that none can break another.
``--device cpu`` tries the program itself where there is no GPU.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

from benchmarks.gpu_check.table import HEAD, Result, row, timed

LIMIT_S = 480.0
OLDEST_TORCH = (2, 11)
PACKAGES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "PIL": "pillow",
    "pydantic": "pydantic",
    "psutil": "psutil",
    "filelock": "filelock",
    "fsspec": "fsspec",
    "safetensors": "safetensors",
    "tifffile": "tifffile",
    "tenacity": "tenacity",
    "torchmetrics": "torchmetrics",
    "sklearn": "scikit-learn",
    "iterstrat": "iterative-stratification",
}
"""What the training loop imports → how it is called where it is installed from."""

FAILED, NOT_HERE = 1, 69
"""Exit status if a check failed, and if nothing could be checked (EX_UNAVAILABLE)."""

PARTS = ("search", "resume", "out of memory")


def problem(device: str) -> str | None:
    """Returns why nothing can be checked on a device here; None if it can."""
    missing = [name for module, name in PACKAGES.items() if find_spec(module) is None]
    if missing:
        return f"missing here: {', '.join(missing)}; nothing was installed"
    import torch

    if tuple(map(int, torch.__version__.split(".")[:2])) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        return f"expected torch {oldest} or newer, found {torch.__version__}"
    if device != "cpu" and not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no CUDA GPU; --device cpu tries the program"
    return None


def run_part(command: list[str], limit_s: float) -> tuple[str, str]:
    """Runs a check; returns its outcome, and the last line that it printed."""
    try:
        ended = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "failed", f"not done after {limit_s:.0f} s"
    lines = ended.stdout.strip().splitlines() or [f"exit status {ended.returncode}"]
    if ended.returncode:
        print("\n".join(lines[-40:]), file=sys.stderr)
    return ("failed" if ended.returncode else "ok"), lines[-1].strip("= ")


def run_tests(device: str, limit_s: float) -> tuple[str, str]:
    """Runs the tests that are marked for GPUs; without the conftest, which needs all of Canopy."""
    if find_spec("pytest") is None:
        return "skipped", "pytest is not installed"
    os.environ["CANOPY_TEST_DEVICE"] = device
    pytest = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir=.", "--noconftest"]
    options = ["-p", "no:cacheprovider", "--import-mode=importlib"]
    mark = ["-m", "gpu", "-o", "markers=gpu: needs a CUDA GPU"]
    return run_part([*pytest, *options, *mark, "tests/gpu"], limit_s)


def checks(device: str, deadline_s: float) -> Iterator[Result]:
    """Yields the result of every check.

    Args:
        device: cuda, cuda:N or cpu.
        deadline_s: by the monotonic clock.
    """
    yield timed("tests", partial(run_tests, device), deadline_s)
    for name in PARTS:
        command = [sys.executable, "-m", "benchmarks.gpu_check.parts", name, device]
        yield timed(name, partial(run_part, command), deadline_s)
    from benchmarks.gpu_check.switches import switches  # imports torch, which may be missing

    yield from switches(device, deadline_s)


def main() -> None:
    """Prints the table; the exit status says whether every check succeeded."""
    started_s = time.monotonic()
    parser = argparse.ArgumentParser(prog="benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to try the program")
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="SECONDS")
    arguments = parser.parse_args()
    reason = problem(arguments.device)
    if reason is not None:
        print(f"benchmarks.gpu_check: {reason}", file=sys.stderr)
        raise SystemExit(NOT_HERE)
    from benchmarks.machine import machine_text

    print(f"{machine_text()}\n\n{HEAD}", flush=True)
    results = []
    for result in checks(arguments.device, started_s + arguments.limit):
        results.append(result)
        print(row(result), flush=True)
    counts = Counter(result.outcome for result in results)
    print("\n" + ", ".join(f"{counts[name]} {name}" for name in ("ok", "failed", "skipped")))
    raise SystemExit(FAILED if counts["failed"] else 0)


if __name__ == "__main__":
    main()
