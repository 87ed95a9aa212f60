"""The actor that Ray places on a node: it runs the workers of a post there, and is asked for news.

Ray sends this class to the nodes as it is here, so it needs nothing there but Python and Ray, and
can say what else is missing. What it needs of Canopy it imports when it works.
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
"""The longest that an answer is waited for."""


Item = tuple[str, tuple[Any, ...], str]
"""Name, arguments and speaker of one thing that is told."""


class RayWorker:
    """Works to an order, in a thread.

    Args:
        wanted: `decisive_versions` of the starter.
        order: the pickled `Order`, which another version of Canopy may not be able to read.
    """

    def __init__(self, wanted: Mapping[str, str], order: bytes) -> None:
        self._wanted = dict(wanted)
        self._order = order
        self._events: deque[Item] = deque()
        self._dropped = 0
        self._how: str | None = None
        self._news = threading.Condition()
        self._called_off = threading.Event()
        threading.Thread(target=self._live, name="canopy worker", daemon=True).start()

    def is_there(self) -> bool:
        """Answers."""
        return True

    def poll(self, received: int) -> tuple[list[Item], str | None]:
        """Returns what it has told, and how it has ended if it has; waits while there is nothing.

        Args:
            received: how much the caller has got before; an answer that was lost comes again.
        """
        with self._news:
            while self._dropped < received:
                self._events.popleft()
                self._dropped += 1
            self._news.wait_for(lambda: self._events or self._how is not None, POLL_S)
            return list(self._events), self._how

    def leave(self) -> None:
        """Lets the workers leave."""
        self._called_off.set()

    def _live(self) -> None:
        how = "ended"
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - told, and the launcher begins another one
            self._emit("log", (traceback.format_exc(),))
            how = f"died of {type(error).__name__}: {error}"
        with self._news:
            self._how = how
            self._news.notify_all()

    def _work(self) -> None:
        lacking = lacking_canopy(self._wanted[CANOPY])
        if lacking is not None:
            self._emit("failed", (lacking, False))
            return
        # Else each process that is begun would run the script of Ray's worker, and import Ray.
        vars(sys.modules["__main__"]).pop("__file__", None)
        try:
            from canopy_search.search.errors import UnfitMachineError
            from canopy_search.search.workers.forkserver import warm_up
            from canopy_search.search.workers.node_agent import check_versions, work_to_order
        except ImportError as error:
            self._emit("failed", (f"{CANOPY} cannot be imported there: {error}", False))
            return
        warm_up()
        try:
            check_versions(self._wanted)
        except UnfitMachineError as error:
            self._emit("failed", (str(error), False))
            return
        work_to_order(pickle.loads(self._order), self._pass_on, self._called_off.is_set)  # noqa: S301

    def _pass_on(self, event: Any) -> None:
        self._emit(event.name, event.arguments, event.worker_id)

    def _emit(self, name: str, arguments: tuple[Any, ...], worker_id: str = "") -> None:
        with self._news:
            self._events.append((name, arguments, worker_id))
            self._news.notify_all()


def lacking_canopy(wanted: str) -> str | None:
    """Returns what is wrong with the Canopy of this machine; None if nothing is.

    Args:
        wanted: the starter's version.
    """
    remedy = f"pip install {CANOPY}=={wanted}"
    try:
        found = version(CANOPY)
    except PackageNotFoundError:
        return f"{CANOPY} is not installed there, in {sys.executable}: {remedy}"
    if found == wanted:
        return None
    return (
        f"{CANOPY} {found} is there, and {wanted} where the search was started; install the same: "
        f"{remedy}"
    )
