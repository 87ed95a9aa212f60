"""How fast this machine is: as many processes as there will be workers train at the same time."""

import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from threading import BrokenBarrierError
from typing import Any

from canopy_search.search.errors import SearchFailedError
from canopy_search.search.events import SearchWatcher
from canopy_search.search.forecast.speed import Network, NetworkSpeed, measure_speed
from canopy_search.search.trial.objective import failure_reason
from canopy_search.search.workers.device_slots import DeviceSlot
from canopy_search.search.workers.forkserver import CONTEXT
from canopy_search.training.data.sample import DataSample
from canopy_search.training.errors import TrainingError
from canopy_search.training.settings import TrainingSettings

_TOTAL_S = 30.0
_LEAST_S = 3.0
"""A network is measured for an equal share of the total, and for so long at least."""
_PATIENCE_S = 600.0

Speeds = dict[Network, list[NetworkSpeed]]
"""Network → what each process measured of it."""


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        speeds: of every network.
        began_s: until all processes had begun, in seconds.
    """

    speeds: Speeds
    began_s: float


@dataclass(frozen=True)
class CalibrationJob:
    """What a process is to measure.

    Attributes:
        runs: settings of each network, every ``auto`` resolved.
        sample: images of the data.
        budget_s: for each network.
        environment: of the process.
    """

    runs: Mapping[Network, TrainingSettings]
    sample: DataSample
    budget_s: float
    environment: Mapping[str, str] = field(repr=False)


def calibrate(
    runs: Mapping[Network, TrainingSettings],
    sample: DataSample,
    slots: Sequence[DeviceSlot],
    watcher: SearchWatcher,
) -> Calibration:
    """Measures every network, in as many processes as workers will share this machine.

    Args:
        runs: settings of each network, every ``auto`` resolved, its threads one worker's share.
        sample: images of the data.
        slots: one for each process.
        watcher: is told how far it is.

    Raises:
        SearchFailedError: a network cannot be built or trained, or its weights cannot be had.
    """
    budget_s = max(_LEAST_S, _TOTAL_S / len(runs))
    barrier = CONTEXT.Barrier(len(slots))
    processes, sources = [], []
    started = time.perf_counter()
    speeds: Speeds = {network: [] for network in runs}
    try:
        for slot in slots:
            ours, theirs = CONTEXT.Pipe(duplex=False)
            environment = {**os.environ, **slot.environment}
            job = CalibrationJob(runs, sample, budget_s, environment)
            process = CONTEXT.Process(target=_measure, args=(job, barrier, theirs))
            process.start()
            theirs.close()
            processes.append(process)
            sources.append(ours)
        for source in sources:
            _received(source)
        began_s = time.perf_counter() - started
        _hear_all(sources, speeds, watcher)
    finally:
        for process in processes:
            process.terminate()
            process.join()
    return Calibration(speeds, began_s)


def _hear_all(
    sources: "Sequence[Connection[Any, Any]]", speeds: Speeds, watcher: SearchWatcher
) -> None:
    """Collects what the processes measure, until they have measured everything."""
    left: dict[Any, int] = dict.fromkeys(sources, len(speeds))
    done, total = 0, len(sources) * len(speeds)
    while left:
        network = next(key for key, each in speeds.items() if len(each) < len(sources))
        watcher.progress(f"training steps of {network.backbone}", done, total)
        for source in wait(list(left)):
            measured, what = _received(source)
            if isinstance(what, str):
                raise SearchFailedError(what)
            speeds[measured].append(what)
            done += 1
            left[source] -= 1
            if not left[source]:
                del left[source]
    watcher.progress("training steps", total, total)


def _received(source: Any) -> Any:
    try:
        return source.recv()
    except EOFError:
        raise SearchFailedError(
            "a process that measured training steps was killed, perhaps for want of memory; try "
            "fewer --workers"
        ) from None


def _measure(job: CalibrationJob, barrier: Any, connection: "Connection[Any, Any]") -> None:
    """The whole life of a process that measures."""
    os.environ.clear()
    os.environ.update(job.environment)
    connection.send(None)
    for network, settings in job.runs.items():
        try:
            # All at the same network: what the others do is part of what is measured.
            barrier.wait(_PATIENCE_S)
            speed = measure_speed(settings, job.sample, job.budget_s)
        except BrokenBarrierError:
            return
        except TrainingError as error:
            connection.send((network, str(error)))
            return
        except KeyboardInterrupt:
            sys.exit(130)
        except Exception as error:  # noqa: BLE001 - told, with its reason
            traceback.print_exc()
            reason = f"training steps of {network.backbone} failed: {failure_reason(error)}"
            connection.send((network, reason))
            return
        with suppress(BrokenPipeError):
            connection.send((network, speed))
