"""A process that has imported everything workers need; each worker is forked from it."""

import multiprocessing
from multiprocessing import forkserver

CONTEXT = multiprocessing.get_context("forkserver")
"""Starts processes quickly, as forks without the open files of this process."""


def warm_up() -> None:
    """Starts importing what workers need, in a background process.

    Call it before the caller imports the same packages, so that both run in parallel.
    """
    CONTEXT.set_forkserver_preload(["canopy_search.search.workers.process"])
    forkserver.ensure_running()
