"""Everything that can happen to a search, one after the other or at random."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress

import psutil
import pytest
from sqlalchemy.exc import SQLAlchemyError

from canopy_search.search.study.plan import StartedStudy
from canopy_search.storage.errors import StorageError
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers.control import PAUSE, RUN
from canopy_search.storage.workspace import Workspace
from tests.faults.conftest import NewSearch
from tests.faults.deaths import in_epochs_where, lose_the_accelerator
from tests.faults.invariants import check
from tests.faults.searching import STUDY, Pace, Search, Worker
from tests.faults.servers import Server, terminate_backends
from tests.faults.sleeping_run import epochs_in

DURATION_S = 60.0
LATE_S = 600.0
"""Only what hangs is as late."""


class Chaos:
    """A search with a launcher of two workers and one worker that came by itself.

    Args:
        search: begun.
        seed: of all that happens.
    """

    def __init__(self, search: Search, seed: int) -> None:
        self.search = search
        self.server = Server(search.home / "postgres")
        self.random = random.Random(seed)
        self.happened: Counter[str] = Counter()
        self.frozen: dict[int, float] = {}
        self.pauses_until_s: float | None = None
        self.launcher = self._launched()
        self.guest = search.start()
        self.faults: dict[Callable[[], None], int] = {
            self.kill_a_worker: 4,
            self.freeze_a_worker: 3,
            self.kill_the_launcher: 1,
            self.stop_the_server: 2,
            self.kill_the_postmaster: 2,
            self.cut_connections: 3,
            self.pause_the_study: 1,
            self.kill_all: 1,
        }

    @property
    def is_over(self) -> bool:
        return self.launcher.process.exitcode == 0

    def step(self) -> None:
        """Lets something happen, and mends what a person or a service manager would mend."""
        self.happen(self.random.choices(list(self.faults), list(self.faults.values()))[0])
        deadline_s = time.monotonic() + self.random.uniform(0.2, 2.0)
        while time.monotonic() < deadline_s:
            self._mend()
            time.sleep(0.05)

    def happen(self, fault: Callable[[], None]) -> None:
        """Lets this happen."""
        self.happened[fault.__name__] += 1
        fault()

    def mend_until_they_train(self) -> None:
        """Mends until all is well again and workers have trained since."""
        deadline_s, trained = time.monotonic() + LATE_S, None
        while not self.is_over and (trained is None or self._trained() <= trained):
            assert time.monotonic() < deadline_s, self.said()
            self._mend()
            if trained is None and not self.frozen and not self.pauses_until_s:
                trained = self._trained()
            time.sleep(0.05)

    def _trained(self) -> int:
        return len(epochs_in(self.search.diary, "ends"))

    def end(self) -> None:
        """Lets the search come to its end."""
        for pid in self.frozen:
            _send(pid, signal.SIGCONT)
        self.frozen = {}
        deadline_s = time.monotonic() + LATE_S
        while not self.is_over or self.guest.process.is_alive() or self.pauses_until_s:
            assert time.monotonic() < deadline_s, self.said()
            self._mend()
            time.sleep(0.1)

    def said(self) -> str:
        logs = [*self.search.home.glob("*.log"), *self.search.home.glob("logs/*/*.log")]
        return "\n".join(f"== {log.name}\n{log.read_text()}" for log in sorted(logs))

    # What happens.

    def kill_a_worker(self) -> None:
        _send(self.random.choice(self._workers()), signal.SIGKILL)

    def freeze_a_worker(self) -> None:
        pid = self.random.choice(self._workers())
        _send(pid, signal.SIGSTOP)
        self.frozen[pid] = time.monotonic() + self.random.choice([1.0, 2.0, 5.0])

    def kill_the_launcher(self) -> None:
        _send(self.launcher.pid, signal.SIGKILL)

    def stop_the_server(self) -> None:
        self._harm(self.server.stop_at_once)

    def kill_the_postmaster(self) -> None:
        self._harm(self.server.kill)

    def cut_connections(self) -> None:
        with suppress(SQLAlchemyError):
            terminate_backends(self.server.url, share=self.random.random())

    def pause_the_study(self) -> None:
        self._control(PAUSE)
        self.pauses_until_s = time.monotonic() + self.random.uniform(0.5, 3)

    def kill_all(self) -> None:
        for pid in [self.launcher.pid, *self._workers()]:
            _send(pid, signal.SIGKILL)
        self._harm(self.server.kill_all)

    def _harm(self, how: Callable[[], None]) -> None:
        with suppress(AssertionError, psutil.NoSuchProcess):  # it is being harmed already
            how()

    def _workers(self) -> list[int]:
        launched: list[int] = []
        with suppress(psutil.NoSuchProcess):
            launched = [worker.pid for worker in self.search.processes_of(self.launcher)]
        return [*launched, self.guest.pid]

    def _mend(self) -> None:
        now_s = time.monotonic()
        for pid, until_s in list(self.frozen.items()):
            if now_s > until_s:
                _send(pid, signal.SIGCONT)
                del self.frozen[pid]
        if self.pauses_until_s is not None and now_s > self.pauses_until_s:
            with suppress(SQLAlchemyError, StorageError):
                self._control(RUN)
                self.pauses_until_s = None
        if not self.launcher.process.is_alive() and not self.is_over:
            self.launcher = self._launched()
        if not self.guest.process.is_alive() and self.guest.process.exitcode != 0:
            self.guest = self.search.start()

    def _control(self, control: str) -> None:
        with closing(Workspace(self.search.home, None).open()) as database:
            StudyStore(database).set_control(STUDY, control)

    def _launched(self) -> Worker:
        """Starts the main job as a person does, who sees whether it begins."""
        while True:
            launcher = self.search.launch(workers=2)
            while launcher.process.is_alive() and "2 workers" not in launcher.said():
                time.sleep(0.05)
            if launcher.process.exitcode in {None, 0}:
                return launcher


def _send(pid: int, how: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, how)


def fails_here(place: str, _number: int) -> bool:
    """Whether the accelerator fails in an epoch: always on one slot, seldom on the others."""
    return place.endswith("cpu 2") or random.random() < 0.03


accelerators_fail = in_epochs_where(fails_here, lose_the_accelerator)


ONE_OF_EACH = (
    Chaos.freeze_a_worker,
    Chaos.cut_connections,
    Chaos.kill_a_worker,
    Chaos.kill_the_postmaster,
    Chaos.pause_the_study,
    Chaos.kill_all,
)


@pytest.mark.exhaustive
@pytest.mark.timeout(2 * LATE_S)
def test_one_fault_after_the_other(new_embedded_search: NewSearch) -> None:
    searched = new_embedded_search(40, epochs=5, pace=Pace(epoch_s=0.1), prepare=accelerators_fail)
    begun = searched.begin()
    chaos = Chaos(searched, seed=1)
    for fault in ONE_OF_EACH:
        chaos.happen(getattr(chaos, fault.__name__))
        chaos.mend_until_they_train()
    _check_end(chaos, begun)


@pytest.mark.exhaustive
@pytest.mark.timeout(DURATION_S + 2 * LATE_S)
def test_chaos(new_embedded_search: NewSearch, random_seed: int) -> None:
    began_s = time.monotonic()
    searched = new_embedded_search(
        int(2 * DURATION_S),
        epochs=5,
        pace=Pace(epoch_s=0.5),
        prepare=accelerators_fail,
        seed=random_seed,
    )
    begun = searched.begin()
    chaos = Chaos(searched, random_seed)
    while time.monotonic() - began_s < DURATION_S and not chaos.is_over:
        chaos.step()
    _check_end(chaos, begun)


def _check_end(chaos: Chaos, begun: StartedStudy) -> None:
    chaos.end()
    said = chaos.said()
    assert "Traceback" not in said, said
    outcome = check(chaos.search, begun)
    print(  # noqa: T201
        f"{dict(chaos.happened)}; {len(outcome.trials)} trials, {outcome.stages} epochs, "
        f"{outcome.repeated} recorded again"
    )
    assert outcome.repeated <= chaos.happened.total() * 3
