"""Renews a worker's leases while it works, so that only a dead or frozen one loses them."""

import threading
from types import TracebackType
from typing import Self

from sqlalchemy.exc import SQLAlchemyError

from storage.stages import StageStore

_RENEWALS_PER_LEASE = 4


class LeaseKeeper:
    """A thread that renews the leases of a worker until the context ends.

    A database that is away for a moment is tried again; away for longer, the leases are lost, which
    costs time and never a result.

    Args:
        stages: of the worker.
    """

    def __init__(self, stages: StageStore) -> None:
        self._stages = stages
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="canopy leases", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _renew(self) -> None:
        while not self._ended.wait(self._stages.lease_s / _RENEWALS_PER_LEASE):
            try:
                self._stages.renew()
            except SQLAlchemyError:
                continue
