"""Measures this machine's speed, with one training process per future worker at the same time."""

import os
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from threading import BrokenBarrierError
from typing import Any

from canopy_search.search.errors import SearchFailedError
from canopy_search.search.events import Emit, Progress
from canopy_search.search.forecast.speed import Network, NetworkSpeed, measure_speed
from canopy_search.search.trial.objective import failure_reason
from canopy_search.search.workers.device_slots import DeviceSlot
from canopy_search.search.workers.forkserver import CONTEXT
from canopy_search.training.data.sample import DataSample
from canopy_search.training.errors import TrainingError
from canopy_search.training.settings import TrainingSettings

_TOTAL_S = 30.0
_LEAST_S = 3.0
"""Each network is measured for an equal share of the total, and for at least this long."""
_BARRIER_TIMEOUT_S = 600.0

Speeds = dict[Network, list[NetworkSpeed]]
"""Network → each process's measurement."""


@dataclass(frozen=True)
class Calibration:
    """The measured speeds.

    Attributes:
        speeds: speeds of every network.
        startup_s: seconds until all processes had started.
    """

    speeds: Speeds
    startup_s: float


@dataclass(frozen=True)
class CalibrationJob:
    """What one process measures.

    Attributes:
        runs: settings of each network, every ``auto`` resolved.
        sample: images of the data.
        budget_s: seconds for each network.
        environment: environment variables of the process.
    """

    runs: Mapping[Network, TrainingSettings]
    sample: DataSample
    budget_s: float
    environment: Mapping[str, str] = field(repr=False)


def calibrate(
    runs: Mapping[Network, TrainingSettings],
    sample: DataSample,
    slots: Sequence[DeviceSlot],
    emit: Emit,
) -> Calibration:
    """Measures every network, in one process for each worker that will share this machine.

    Args:
        runs: settings of each network, every ``auto`` resolved, its threads one worker's share.
        sample: images of the data.
        slots: one for each process.
        emit: receives the progress.

    Raises:
        SearchFailedError: a network cannot be built or trained, or its weights are unavailable.
    """
    budget_s = max(_LEAST_S, _TOTAL_S / len(runs))
    barrier = CONTEXT.Barrier(len(slots))
    processes, receivers = [], []
    started = time.perf_counter()
    speeds: Speeds = {network: [] for network in runs}
    try:
        for slot in slots:
            receiver, sender = CONTEXT.Pipe(duplex=False)
            environment = {**os.environ, **slot.environment}
            job = CalibrationJob(runs, sample, budget_s, environment)
            process = CONTEXT.Process(target=_measure, args=(job, barrier, sender))
            process.start()
            sender.close()
            processes.append(process)
            receivers.append(receiver)
        for receiver in receivers:
            _receive(receiver)
        startup_s = time.perf_counter() - started
        _collect(receivers, speeds, emit)
    finally:
        for process in processes:
            process.terminate()
            process.join()
    return Calibration(speeds, startup_s)


def _collect(receivers: "Sequence[Connection[Any, Any]]", speeds: Speeds, emit: Emit) -> None:
    """Collects the measurements of all processes until they are complete."""
    remaining: dict[Any, int] = dict.fromkeys(receivers, len(speeds))
    done, total = 0, len(receivers) * len(speeds)
    while remaining:
        network = next(key for key, found in speeds.items() if len(found) < len(receivers))
        emit(Progress(f"training steps of {network.backbone}", done, total))
        for receiver in wait(list(remaining)):
            measured, result = _receive(receiver)
            if isinstance(result, str):
                raise SearchFailedError(result)
            speeds[measured].append(result)
            done += 1
            remaining[receiver] -= 1
            if not remaining[receiver]:
                del remaining[receiver]
    emit(Progress("training steps", total, total))


def _receive(receiver: Any) -> Any:
    try:
        return receiver.recv()
    except EOFError:
        raise SearchFailedError(
            "a process that measured training steps was killed, perhaps because memory ran out; "
            "try fewer --workers"
        ) from None


def _measure(job: CalibrationJob, barrier: Any, connection: "Connection[Any, Any]") -> None:
    """Runs a measuring process."""
    os.environ.clear()
    os.environ.update(job.environment)
    connection.send(None)
    for network, settings in job.runs.items():
        try:
            # All processes measure the same network, so that each has the load of the others.
            barrier.wait(_BARRIER_TIMEOUT_S)
            speed = measure_speed(settings, job.sample, job.budget_s)
        except BrokenBarrierError:
            return
        except TrainingError as error:
            connection.send((network, str(error)))
            return
        except Exception as error:  # noqa: BLE001 - reported with its reason
            traceback.print_exc()
            reason = f"training steps of {network.backbone} failed: {failure_reason(error)}"
            connection.send((network, reason))
            return
        with suppress(BrokenPipeError):
            connection.send((network, speed))
