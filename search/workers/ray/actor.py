"""The actor that Ray places on a node: it runs the workers of a slot and returns their events.

Ray sends the source of this class to the nodes, so it needs only Python and Ray there, and can
report what else is missing. It imports Canopy only when it starts its workers.
"""

import pickle
import sys
import threading
import traceback
from collections import deque
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

CANOPY = "canopy-search"
POLL_S = 20.0
"""Longest time that `RayWorker.poll` waits for events."""


Item = tuple[str, tuple[Any, ...], str]
"""Name, arguments and worker id of one event."""


class RayWorker:
    """Runs an order in a thread.

    Args:
        versions: `decisive_versions` of the machine that started the search.
        order: the pickled `Order`, which another version of Canopy may not be able to read.
    """

    def __init__(self, versions: Mapping[str, str], order: bytes) -> None:
        self._versions = dict(versions)
        self._order = order
        self._events: deque[Item] = deque()
        self._dropped = 0
        self._end_text: str | None = None
        self._changed = threading.Condition()
        self._is_cancelled = threading.Event()
        threading.Thread(target=self._run, name="canopy worker", daemon=True).start()

    def is_there(self) -> bool:
        """Returns True, to show that the actor runs."""
        return True

    def poll(self, received: int) -> tuple[list[Item], str | None]:
        """Returns new events, and how it ended if it has; waits up to `POLL_S` for an event.

        Args:
            received: events that the caller has received so far; lost ones are sent again.
        """
        with self._changed:
            while self._dropped < received:
                self._events.popleft()
                self._dropped += 1
            self._changed.wait_for(lambda: self._events or self._end_text is not None, POLL_S)
            return list(self._events), self._end_text

    def leave(self) -> None:
        """Asks the workers to leave."""
        self._is_cancelled.set()

    def _run(self) -> None:
        end_text = "ended"
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - reported, and the launcher starts another
            self._emit("log", (traceback.format_exc(),))
            end_text = f"died of {type(error).__name__}: {error}"
        with self._changed:
            self._end_text = end_text
            self._changed.notify_all()

    def _work(self) -> None:
        problem = canopy_problem(self._versions[CANOPY])
        if problem is not None:
            self._emit("failed", (problem, False))
            return
        # Otherwise each started process would run the script of Ray's worker, and import Ray.
        vars(sys.modules["__main__"]).pop("__file__", None)
        try:
            from canopy_search.search.errors import UnfitMachineError
            from canopy_search.search.workers.forkserver import warm_up
            from canopy_search.search.workers.node_agent import check_versions, work_to_order
        except ImportError as error:
            self._emit("failed", (f"{CANOPY} cannot be imported on the node: {error}", False))
            return
        warm_up()
        try:
            check_versions(self._versions)
        except UnfitMachineError as error:
            self._emit("failed", (str(error), False))
            return
        work_to_order(pickle.loads(self._order), self._forward, self._is_cancelled.is_set)  # noqa: S301

    def _forward(self, event: Any) -> None:
        self._emit(event.name, event.arguments, event.worker_id)

    def _emit(self, name: str, arguments: tuple[Any, ...], worker_id: str = "") -> None:
        with self._changed:
            self._events.append((name, arguments, worker_id))
            self._changed.notify_all()


def canopy_problem(expected: str) -> str | None:
    """Returns the problem with Canopy's installation on this node; None if there is none.

    Args:
        expected: version on the machine that started the search.
    """
    remedy = f"pip install {CANOPY}=={expected}"
    try:
        found = version(CANOPY)
    except PackageNotFoundError:
        return f"{CANOPY} is not installed on the node, in {sys.executable}; run: {remedy}"
    if found == expected:
        return None
    return (
        f"expected {CANOPY} {expected}, as on the machine that started the search, but found "
        f"{CANOPY} {found}; install the same version: {remedy}"
    )
