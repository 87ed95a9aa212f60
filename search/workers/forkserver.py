"""A process that has imported everything workers need; each worker is forked from it."""

import multiprocessing
import signal
from multiprocessing import forkserver, resource_tracker

CONTEXT = multiprocessing.get_context("forkserver")
"""Starts processes quickly, as forks without the open files of this process."""


def warm_up() -> None:
    """Starts importing what workers need, in a background process.

    Call it before the caller imports the same packages, so that both run in parallel. Ctrl-C in the
    terminal goes to the caller alone: the processes start with SIGINT blocked, so that none is
    interrupted before it is ready for it.
    """
    CONTEXT.set_forkserver_preload(["canopy_search.search.workers.process"])
    resource_tracker.ensure_running()  # which unblocks SIGINT when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
