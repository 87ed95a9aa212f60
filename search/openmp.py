"""How torch's CPU threads wait for each other; set this before torch is imported."""

import os

# By default a thread spins 300,000 times before it sleeps. If anything else runs on the machine,
# spinning threads take the cores from the threads they wait for, and an epoch takes up to eight
# times as long; with 1,000 spins an idle machine is no slower (benchmarks/log).
SPIN_TURNS = 1000


def spin_briefly() -> None:
    """Sets GNU OpenMP's spin count, unless the user has configured how threads wait."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_TURNS))
