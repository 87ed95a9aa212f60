"""A search of real processes, a real Postgres, real leases and checkpoints, and slept epochs."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import psutil

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.events import Event
from canopy_search.search.study.plan import SearchPlan, StartedStudy, plan_search, start_study
from canopy_search.search.study.preflight import open_data
from canopy_search.search.trial import stage_tree
from canopy_search.search.workers import local_backend
from canopy_search.search.workers.backend import Placement
from canopy_search.search.workers.process import WorkerJob, run_worker
from canopy_search.storage.connection import urls
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workers import registry
from canopy_search.storage.workers import session as worker_session
from canopy_search.storage.workspace import Workspace
from tests.faults.deaths import Prepare
from tests.faults.sleeping_run import SleepingRun, epochs_in
from tests.planned import requested

STUDY = "faults"
PATIENCE_S = 280.0
"""Only what hangs takes as long."""
FORK = multiprocessing.get_context("fork")  # a start of Python costs eight seconds


@dataclass(frozen=True)
class Pace:
    """How fast everything goes; the real intervals would make a test of a minute.

    Attributes:
        epoch_s: seconds of an epoch.
        beat_s: between a worker's beats.
        gone_s: see `storage.workers.registry.GONE_S`.
        lease_s: see `storage.workers.registry.LEASE_S`.
        recovery_s: see `storage.workers.registry.RECOVERY_S`.
        idle_limit_s: see `storage.connection.urls.IDLE_LIMIT_S`.
    """

    epoch_s: float = 0.01
    beat_s: float = 0.1
    gone_s: float = 0.5
    lease_s: float = 60.0
    recovery_s: float = 1.0
    idle_limit_s: float = 2.0

    def set(self) -> None:
        """Lets this process and its children go so fast."""
        SleepingRun.epoch_s = self.epoch_s
        registry.GONE_S = self.gone_s
        registry.LEASE_S = self.lease_s
        registry.RECOVERY_S = self.recovery_s
        worker_session.RECOVERY_S = self.recovery_s
        urls.IDLE_LIMIT_S = self.idle_limit_s
        options = worker_session.WorkerSession.__init__.__kwdefaults__
        options["beat_s"] = self.beat_s


def quiet(_event: Event) -> None:
    """Shows nothing of a search."""


@dataclass
class Worker:
    """A process that works."""

    process: ForkProcess
    log: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def send(self, how: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, how)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.process.join(PATIENCE_S)

    def end(self) -> int:
        """Waits for its end and returns its exit status."""
        self.process.join(PATIENCE_S)
        code = self.process.exitcode
        assert code is not None, f"still at work:\n{self.said()}"
        return code

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def wait_until_said(self, text: str) -> None:
        """Waits until it has said something."""
        wait_until(lambda: text in self.said(), text)


@dataclass
class Search:
    """One search: what is wanted, and the processes that work on it.

    Attributes:
        config: of the study.
        home: the state folder.
        url: of the database; None for the embedded one.
        n_trials: finished trials that are wanted.
        pace: of everything.
        prepare: is called in every process that works, before it begins.
        retry_for_s: how long a worker waits for a database that is away.
        workers: all that were started.
    """

    config: CanopyConfig
    home: Path
    url: str | None
    n_trials: int
    pace: Pace = field(default_factory=Pace)
    prepare: Prepare | None = None
    retry_for_s: float = PATIENCE_S
    workers: list[Worker] = field(default_factory=list)

    @property
    def plan(self) -> SearchPlan:
        request = requested(self.config, self.home, STUDY, self.url, self.retry_for_s)
        return plan_search(request, self.n_trials)

    @property
    def diary(self) -> Path:
        return self.home / "diary"

    def begin(self) -> StartedStudy:
        """Begins the study, or goes on with it."""
        plan = self.plan
        with closing(Workspace(self.home, self.url).open()) as database:
            store = StudyStore(database)
            dataset = open_data(self.config.data, self.home, quiet)
            begun = start_study(plan, store, dataset)
            store.launch(STUDY, self.n_trials, self.config.search.model_dump(mode="json"))
            store.close()
        return begun

    def start(self, prepare: Prepare | None = None, **changes: Any) -> Worker:
        """Starts a worker.

        Args:
            prepare: is called in it besides.
            changes: of its plan.
        """
        log = self.home / f"worker-{len(self.workers)}.log"
        ours, theirs = FORK.Pipe(duplex=False)
        job = WorkerJob(replace(self.plan, **changes), dict(os.environ), log)
        process = FORK.Process(target=self._work, args=(job, theirs, prepare))
        process.start()
        theirs.close()
        ours.close()  # a launcher that does not listen
        worker = Worker(process, log)
        self.workers.append(worker)
        return worker

    def launch(self, workers: int = 2, elsewhere: Placement | None = None) -> Worker:
        """Starts the main job, which launches so many workers, or has them placed elsewhere."""
        log = self.home / f"launcher-{len(self.workers)}.log"
        process = FORK.Process(target=self._launch, args=(workers, elsewhere, log))
        process.start()
        worker = Worker(process, log)
        self.workers.append(worker)
        return worker

    def finish(self, deaths: int = 0) -> int:
        """Works with one worker after the other until the search is over.

        Args:
            deaths: workers that may be killed.

        Returns:
            How many were.
        """
        for died in range(deaths + 1):
            worker = self.start()
            status = worker.end()
            if status == 0:
                return died
            assert status == -signal.SIGKILL, f"exit status {status}:\n{worker.said()}"
        raise AssertionError(f"more than {deaths} workers died")

    @staticmethod
    def processes_of(launcher: Worker) -> list[psutil.Process]:
        """Returns the living processes of a launcher's workers or jobs."""
        children = psutil.Process(launcher.pid).children()
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]

    def hold_from(self, epoch: int) -> None:
        """Lets an epoch and later ones, as they begin one after the other, wait in their middle."""
        fresh = self._gate.with_suffix(".new")
        fresh.write_text(str(epoch))
        fresh.replace(self._gate)

    def let_go(self) -> None:
        """Lets all epochs end."""
        self._gate.unlink()

    def wait_for_epochs(self, epochs: int, what: str = "begins") -> None:
        """Waits until so many epochs have begun or ended."""
        wait_until(lambda: len(epochs_in(self.diary, what)) >= epochs, f"{epochs} epochs")

    @property
    def _gate(self) -> Path:
        return self.home / "gate"

    def close(self) -> None:
        """Kills whatever still runs."""
        for worker in self.workers:
            if worker.process.is_alive():
                worker.kill()

    def set_up(self) -> None:
        """Makes this process one that works."""
        stage_tree.TrainingRun = SleepingRun
        SleepingRun.diary, SleepingRun.gate = self.diary, self._gate
        self.pace.set()
        if self.prepare is not None:
            self.prepare()

    def _work(
        self, job: WorkerJob, connection: "Connection[Any, Any]", prepare: Prepare | None
    ) -> None:
        self.set_up()
        if prepare is not None:
            prepare()
        run_worker(job, connection)

    def _launch(self, workers: int, elsewhere: Placement | None, log: Path) -> None:
        from rich.console import Console

        from canopy_search.search.progress_display import LineScreen
        from canopy_search.search.workflows.run_study import Limits, run_search

        os.setsid()
        self.set_up()
        local_backend.CONTEXT = FORK
        local_backend.warm_up = lambda: None
        file = log.open("a", buffering=1)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        screen = LineScreen(Console(file=file, width=160, color_system=None))
        database = Workspace(self.home, self.url).open()
        run_search(self.plan, database, Limits(workers, elsewhere=elsewhere), screen)


def wait_until(is_so: Callable[[], bool], what: str, limit_s: float = PATIENCE_S) -> None:
    """Waits until something is so."""
    deadline_s = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline_s, f"never: {what}"
        time.sleep(0.02)


def settings(folder: Path, epochs: int, **options: Any) -> CanopyConfig:
    """Returns a configuration with a small space, in which trials share their trunks."""
    return CanopyConfig.model_validate(
        {
            "data": {
                "labels": folder / "train_classes.csv",
                "images": folder / "train-jpg",
                "image_px": 16,
            },
            "training": {"epochs": epochs, "backbone": "tinycnn_8", "threads": 1},
            "search": {
                "space": {
                    "loss": ["bce", "weighted_bce", "focal"],
                    "gamma": {"low": 0.8, "high": 1.0, "step": 0.01},
                    "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
                },
                **options,
            },
        }
    )
