"""The process that workers are forked from."""

import subprocess
import sys

from tests.waiting import HANG_S

_SCRIPT = """
import signal
from pathlib import Path
from multiprocessing import forkserver
from canopy_search.search.workers.forkserver import CONTEXT, warm_up
CONTEXT.set_forkserver_preload = lambda _modules: None  # torch takes seconds
warm_up()
status = Path(f"/proc/{forkserver._forkserver._forkserver_pid}/status").read_text()
[blocked] = [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")]
print(int(blocked, 16) >> (signal.SIGINT - 1) & 1, signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def test_ctrl_c_in_the_terminal_does_not_reach_it_while_it_starts() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _SCRIPT], check=True, capture_output=True, text=True, timeout=HANG_S
    )
    assert ran.stdout == "1 set()\n"
