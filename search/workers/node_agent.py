"""Runs workers on a remote machine, and sends their events to the launcher of the search."""

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
    """What the workers of a slot run.

    Attributes:
        plan: plan of the search, as its starting process made it.
        url: URL of the database.
        workers: number of workers; ``auto`` for one per device slot of that machine.
        threads: threads of each worker on a CPU; None for a share of all cores.
        limit_s: the workers leave after this many seconds; None for no limit.
    """

    plan: SearchPlan
    url: str | None = field(repr=False)
    workers: int | Literal["auto"] = "auto"
    threads: int | None = None
    limit_s: float | None = None


def decisive_versions() -> dict[str, str]:
    """Returns the versions that must be the same on all machines that work on a study."""
    versions = {**package_versions(), "engine": str(ENGINE_REVISION)}
    return {name: versions[name] for name in ("canopy-search", *DECISIVE)}


def check_versions(expected: Mapping[str, str]) -> None:
    """Checks that this machine has the same versions as the one that started the search.

    Args:
        expected: `decisive_versions` of the machine that started the search.

    Raises:
        UnfitMachineError: a version differs.
    """
    found = decisive_versions()
    differences = [
        f"expected {name} {version}, as on the machine that started the search, "
        f"but found {found.get(name, 'none')}"
        for name, version in expected.items()
        if found.get(name) != version
    ]
    if differences:
        packages = " ".join(
            f"{name}=={version}" for name, version in expected.items() if name != "engine"
        )
        raise UnfitMachineError(
            f"{'; '.join(differences)}; install the same versions: pip install {packages}"
        )


def work_to_order(order: Order, emit: Emit, is_cancelled: Callable[[], bool]) -> None:
    """Runs workers on this machine until nothing is left to do, and passes on their events.

    The last event is `ENDED`, `FAILED` or `LEFT`.

    Args:
        order: what to run.
        emit: receives the events one by one; must return quickly.
        is_cancelled: whether the workers should leave; called repeatedly.

    Raises:
        KeyboardInterrupt: a signal asked this process to leave; no worker is left.
    """
    started_s = time.monotonic()
    home = order.plan.workspace.home
    if order.url is not None:  # an embedded database means the same machine
        home = Path(os.environ.get(HOME_VARIABLE) or home)
    threads = None if order.threads is None else min(order.threads, resolve_threads("auto"))
    deadline_s = None if order.limit_s is None else started_s + order.limit_s
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="canopy-logs-")))
        log_tails = _LogTails(logs, emit)
        stack.callback(log_tails.read)

        def on_tick() -> None:
            log_tails.read()
            if is_cancelled():
                raise _CancelledError

        try:
            slots = device_slots(
                order.plan.config.training.device,
                order.workers,
                order.plan.config.search.slots_per_gpu,
            )
            plan = replace(
                order.plan,
                workspace=replace(order.plan.workspace, home=home, url=order.url),
                workers=len(slots),
                threads=threads,
            )
            backend = LocalBackend(plan, order.url, slots, creates_study=True)
            launcher = Launcher(
                backend, logs, _EventForwarder(emit), deadline_s, on_tick=on_tick, names_logs=False
            )
            is_done = launcher.run()
        except _CancelledError:
            emit(WorkerEvent(LEFT, ("it was cancelled",)))
        except UnfitMachineError as error:
            emit(WorkerEvent(FAILED, (str(error), False)))
        except SearchFailedError as error:
            emit(WorkerEvent(FAILED, (str(error), True)))
        except (SearchError, TrainingError, OSError) as error:
            emit(WorkerEvent(FAILED, (str(error), False)))
        else:
            emit(WorkerEvent(ENDED) if is_done else WorkerEvent(LEFT, (TIME_IS_UP,)))


class _CancelledError(Exception):
    """The process that started the search asks the workers to leave."""


class _EventForwarder:
    """Screen of the launcher on this machine; passes events on instead of showing them."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit

    def emit(self, worker: str, event: str, *arguments: Any) -> None:
        self._emit(WorkerEvent(event, arguments, _worker_id(worker)))

    def worker_gone(self, worker: str) -> None:
        self._emit(WorkerEvent(GONE, (), _worker_id(worker)))

    def note(self, text: str) -> None:
        # The process that started the search adds its own worker number.
        self._emit(WorkerEvent("note", (text.removeprefix("worker 1 "),)))


def _worker_id(worker: str) -> str:
    """Returns the suffix that identifies a worker within its slot; empty for the first."""
    number = worker.removeprefix("worker").strip(" -")
    return "" if number == "1" else f".{number}"


class _LogTails:
    """Sends the text that workers write to their logs.

    Args:
        folder: folder of the logs.
        emit: receives it as `LOG` events.
    """

    def __init__(self, folder: Path, emit: Emit) -> None:
        self._folder = folder
        self._emit = emit
        self._read_bytes: dict[Path, int] = {}

    def read(self) -> None:
        """Sends new text, in whole lines."""
        for path in sorted(self._folder.glob("*.log")):
            with suppress(OSError), path.open("rb") as log:
                log.seek(self._read_bytes.get(path, 0))
                new = log.read()
                lines = new[: new.rfind(b"\n") + 1]
                if lines:
                    self._read_bytes[path] = self._read_bytes.get(path, 0) + len(lines)
                    self._emit(
                        WorkerEvent(LOG, (lines.decode(errors="replace"),), _worker_id(path.stem))
                    )
