"""Kills searches and their workers at a known epoch, and asks their database."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.integration.canopy_command import Canopy
from tests.integration.epoch_gate import PATIENCE_S, EpochGate, wait_until
from tests.shared_servers import execute

_STAGES = "SELECT count(*) FROM canopy_stage"
_WITHOUT_CHECKPOINT = """
    SELECT count(*) FROM canopy_stage WHERE key NOT IN
        (SELECT key FROM canopy_checkpoint WHERE digest IS NOT NULL)
"""


def kill_in_epoch(canopy: Canopy, epoch: int, *arguments: str) -> int:
    """Kills a search before its first trial has recorded this epoch.

    A worker that trains faster than it records has recorded fewer epochs than those before; one
    that has recorded none is killed, and the search begun again.

    Returns:
        How many epochs it has recorded, all with their checkpoints.
    """
    recorded = 0
    while recorded == 0:
        gate = EpochGate(canopy.database_url, epoch)
        with gate, started(canopy, *arguments) as process:
            gate.wait_for(process)
            wait_until(lambda: query(canopy, _WITHOUT_CHECKPOINT) == 0, process, "checkpoints")
            recorded = query(canopy, _STAGES)
            kill_with_workers(canopy, process, "planet")
            gate.drop_waiting()
    assert recorded < epoch
    return recorded


def kill_with_workers(canopy: Canopy, process: subprocess.Popen[str], study: str) -> None:
    """Kills a search and its workers, which would leave by themselves."""
    workers = column(
        canopy,
        "SELECT pid FROM canopy_worker JOIN studies USING (study_id) "  # noqa: S608 - our names
        f"JOIN canopy_trial ON worker = canopy_worker.id WHERE study_name = '{study}'",
    )
    assert workers
    process.kill()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    process.wait(PATIENCE_S)


def wait_for_line(process: subprocess.Popen[str], word: str) -> None:
    """Reads what a process prints until a line has this word, and goes on reading elsewhere."""
    has_come = threading.Event()

    def read() -> None:
        for line in process.stdout or ():
            if word in line:
                has_come.set()

    threading.Thread(target=read, daemon=True).start()
    assert has_come.wait(PATIENCE_S)


@contextmanager
def started(canopy: Canopy, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Starts a command, and kills it at the end if it still runs."""
    with canopy.start(*arguments) as process:
        try:
            yield process
        finally:
            process.kill()


def column(canopy: Canopy, text: str) -> list[int]:
    return [int(row[0]) for row in execute(str(canopy.database_url), text)]


def query(canopy: Canopy, text: str) -> int:
    return column(canopy, text)[0]
