"""A worker exits in time, also during an operation that cannot be interrupted."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.waiting import HANG_S

_SCRIPT = """
import hashlib, sys, time
from canopy_search.search.workers import graceful_exit
how, parent = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None
graceful_exit.GRACE_S = 600.0 if how == "sleeps" else 0.5
try:
    with graceful_exit.leaving_in_time(parent):
        print("ready", flush=True)
        if how == "sleeps":
            time.sleep(600)
        else:  # as a long operation of torch: no Python runs until it is over
            hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000_000)
except KeyboardInterrupt:
    print("left", flush=True)
    sys.exit(130)
"""


def start(how: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, how, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_interrupts(number: signal.Signals) -> None:
    process = start("sleeps")
    process.send_signal(number)
    output, _ = process.communicate(timeout=HANG_S)
    assert (process.returncode, output) == (130, "left\n")


def test_what_cannot_be_interrupted_ends_without_a_word() -> None:
    process = start("computes")
    computing = psutil.Process(process.pid)
    started_s = computing.cpu_times().user
    while computing.cpu_times().user < started_s + 0.2:  # until the computation runs
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=HANG_S)
    # If it had been interrupted after its computation, it would have printed "left".
    assert (process.returncode, output) == (143, "")


def test_the_death_of_the_parent_counts() -> None:
    ours, theirs = os.pipe()
    process = start("sleeps", str(ours), pass_fds=[ours])
    os.close(theirs)
    output, _ = process.communicate(timeout=HANG_S)
    os.close(ours)
    assert (process.returncode, output) == (130, "left\n")


_HEARS = """
import os, signal, threading
from canopy_search.search.workers.graceful_exit import leaving_in_time
ends = []
with leaving_in_time(end=ends.append, grace_s=0):
    [watching] = [each for each in threading.enumerate() if each.name == "canopy graceful exit"]
    os.kill(os.getpid(), signal.SIGHUP)  # ignored since before
    for number in (signal.SIGWINCH, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, lambda number, _frame: print(signal.Signals(number).name))
        os.kill(os.getpid(), number)
watching.join()
print(ends)
"""


def test_other_signals_and_an_ignored_hangup_are_no_orders() -> None:
    ran = subprocess.run(
        ["nohup", sys.executable, "-c", _HEARS],
        check=True,
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert ran.stdout.split() == ["SIGWINCH", "SIGUSR1", "SIGCHLD", "[]"]
