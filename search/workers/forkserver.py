"""A process that has imported all that workers need; every worker is begun as a copy of it."""

import multiprocessing
from multiprocessing import forkserver

CONTEXT = multiprocessing.get_context("forkserver")
"""Begins processes as copies, in no time, and without whatever this process has opened."""


def warm_up() -> None:
    """Begins to import what workers need, beside whatever the caller does next.

    To be called before the caller imports as much itself, which takes as long.
    """
    CONTEXT.set_forkserver_preload(["canopy_search.search.workers.process"])
    forkserver.ensure_running()
