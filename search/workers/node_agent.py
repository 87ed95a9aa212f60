"""A machine of an engine: its workers, watched there, and what they tell sent to the starter."""

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from canopy_search.search.errors import SearchError, SearchFailedError, UnfitMachineError
from canopy_search.search.study.plan import SearchPlan
from canopy_search.search.study.record import DECISIVE, package_versions
from canopy_search.search.workers.backend import ENDED, FAILED, GONE, LEFT, LOG, WorkerEvent
from canopy_search.search.workers.device_slots import device_slots
from canopy_search.search.workers.launcher import Launcher
from canopy_search.search.workers.local_backend import LocalBackend
from canopy_search.training.device.precision import resolve_threads
from canopy_search.training.errors import TrainingError
from canopy_search.training.stage_key import ENGINE_REVISION

HOME_VARIABLE = "CANOPY_HOME"
TIME_IS_UP = "its time is up"

Emit = Callable[[WorkerEvent], None]


@dataclass(frozen=True)
class Order:
    """What the workers of a post are to do.

    Attributes:
        plan: of the search, as the starter has made it.
        url: of the database.
        workers: how many; ``auto`` for one for each device slot that can be seen there.
        threads: of each worker on a CPU; None for a share of all cores.
        limit_s: they leave after as long; None for no limit.
    """

    plan: SearchPlan
    url: str | None = field(repr=False)
    workers: int | Literal["auto"] = "auto"
    threads: int | None = None
    limit_s: float | None = None


def decisive_versions() -> dict[str, str]:
    """Returns what has to be the same wherever a study is worked on."""
    versions = {**package_versions(), "engine": str(ENGINE_REVISION)}
    return {name: versions[name] for name in ("canopy-search", *DECISIVE)}


def check_versions(theirs: Mapping[str, str]) -> None:
    """Checks that this machine has what the starter has.

    Args:
        theirs: `decisive_versions` of the starter.

    Raises:
        UnfitMachineError: it has not.
    """
    ours = decisive_versions()
    lines = [
        f"{name} {ours.get(name, 'missing')} is there, and {wanted} where the search was started"
        for name, wanted in theirs.items()
        if ours.get(name) != wanted
    ]
    if lines:
        wanted = " ".join(
            f"{name}=={version}" for name, version in theirs.items() if name != "engine"
        )
        raise UnfitMachineError(f"{'; '.join(lines)}; install the same: pip install {wanted}")


def work_to_order(order: Order, emit: Emit, is_called_off: Callable[[], bool]) -> None:
    """Runs workers on this machine until nothing is left to do, and tells all that they tell.

    The last thing told is `ENDED`, `FAILED` or `LEFT`.

    Args:
        order: what is to be done.
        emit: is given one thing after the other; has to be quick.
        is_called_off: whether the workers shall leave; asked again and again.

    Raises:
        KeyboardInterrupt: a signal said to leave; no worker is left.
    """
    began_s = time.monotonic()
    home = order.plan.home
    if order.url is not None:  # the embedded database is the starter's, and so below its home
        home = Path(os.environ.get(HOME_VARIABLE) or home)
    threads = None if order.threads is None else min(order.threads, resolve_threads("auto"))
    deadline_s = None if order.limit_s is None else began_s + order.limit_s
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="canopy-logs-")))
        tails = _Tails(logs, emit)
        stack.callback(tails.read)

        def beside() -> None:
            tails.read()
            if is_called_off():
                raise _CalledOffError

        try:
            slots = device_slots(
                order.plan.config.training.device,
                order.workers,
                order.plan.config.search.slots_per_gpu,
            )
            plan = replace(order.plan, home=home, workers=len(slots), threads=threads)
            backend = LocalBackend(plan, order.url, slots, begins=True)
            launcher = Launcher(
                backend, logs, _Telling(emit), deadline_s, on_tick=beside, names_logs=False
            )
            is_done = launcher.run()
        except _CalledOffError:
            emit(WorkerEvent(LEFT, ("it was called off",)))
        except UnfitMachineError as error:
            emit(WorkerEvent(FAILED, (str(error), False)))
        except SearchFailedError as error:
            emit(WorkerEvent(FAILED, (str(error), True)))
        except (SearchError, TrainingError, OSError) as error:
            emit(WorkerEvent(FAILED, (str(error), False)))
        else:
            emit(WorkerEvent(ENDED) if is_done else WorkerEvent(LEFT, (TIME_IS_UP,)))


class _CalledOffError(Exception):
    """The starter wants the workers to leave."""


class _Telling:
    """The screen of a launcher that nobody sees: it tells the starter."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit

    def emit(self, worker: str, event: str, *arguments: Any) -> None:
        self._emit(WorkerEvent(event, arguments, _worker_id(worker)))

    def worker_gone(self, worker: str) -> None:
        self._emit(WorkerEvent(GONE, (), _worker_id(worker)))

    def note(self, text: str) -> None:
        # The starter says which worker speaks, by numbers of its own.
        self._emit(WorkerEvent("note", (text.removeprefix("worker 1 "),)))


def _worker_id(worker: str) -> str:
    """Returns what tells a worker from others of its post: nothing for the first."""
    number = worker.removeprefix("worker").strip(" -")
    return "" if number == "1" else f".{number}"


class _Tails:
    """Sends what workers write to their logs.

    Args:
        folder: of the logs.
        emit: is given it.
    """

    def __init__(self, folder: Path, emit: Emit) -> None:
        self._folder = folder
        self._emit = emit
        self._read_bytes: dict[Path, int] = {}

    def read(self) -> None:
        """Sends what is new, in whole lines."""
        for path in sorted(self._folder.glob("*.log")):
            with suppress(OSError), path.open("rb") as log:
                log.seek(self._read_bytes.get(path, 0))
                new = log.read()
                whole = new[: new.rfind(b"\n") + 1]
                if whole:
                    self._read_bytes[path] = self._read_bytes.get(path, 0) + len(whole)
                    self._emit(
                        WorkerEvent(LOG, (whole.decode(errors="replace"),), _worker_id(path.stem))
                    )
