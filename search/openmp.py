"""How torch's CPU threads wait for each other; to be set before torch is imported."""

import os

# By default a thread spins 300,000 turns before it sleeps. Where anything else runs on the machine,
# those that spin take the cores from those they wait for, and an epoch takes up to eight times as
# long; with 1,000 turns an idle machine loses nothing (benchmarks/RESULTS.md).
SPIN_TURNS = 1000


def spin_briefly() -> None:
    """Sets GNU OpenMP's spin count, unless the user has said how threads shall wait."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_TURNS))
