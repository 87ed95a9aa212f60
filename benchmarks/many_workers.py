"""Many workers on one small Postgres, beside plain Optuna: exactly N, connections, processor time.

``python -m benchmarks.many_workers``. Each worker is a process of its own with all that a real one
has but the training, whose epochs sleep. They are forked from one that has imported everything, for
two hundred starts of Python would not fit this machine. The server is the embedded one with
``--max-connections``, at a Unix socket; ``--url`` and ``--data`` name another one, such as one with
TLS. Processor time is that of all processes of the server, the ended ones included.
"""

import argparse
import gc
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import psutil
import psycopg2
import sqlalchemy
from optuna.trial import TrialState

from benchmarks.machine import machine_text
from canopy_search.storage.connection.urls import optuna_url, parse_database_url
from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from canopy_search.storage.postgres.postmaster import find_postmaster
from canopy_search.storage.workspace import Workspace
from tests.faults.invariants import check
from tests.faults.searching import FORK, STUDY, Pace, Search, settings
from tests.planet_data import write_planet_data

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_NEVER_S = 3600.0
_COUNT = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"


@dataclass
class Seen:
    """What was seen of a server over some time.

    Attributes:
        seconds: how long it was watched.
        cpu_s: processor seconds of all of its processes.
        connections: the most at one time, our own left out.
        opened: connections that were made.
        each: the numbers of connections, one for each look.
    """

    seconds: float = 0.0
    cpu_s: float = 0.0
    opened: int = 0
    each: list[int] = field(default_factory=list)

    @property
    def connections(self) -> int:
        """The most connections at one time."""
        return max(self.each, default=0)

    def text(self) -> str:
        """Returns it in one line."""
        middle = sorted(self.each)[len(self.each) // 2] if self.each else 0
        return (
            f"{self.seconds:.1f} s, Postgres {self.cpu_s:.2f} s of processor time "
            f"({self.cpu_s / self.seconds:.3f} cores), connections {self.connections} at most, "
            f"{middle} in the median, {self.opened / self.seconds:.1f} opened a second"
        )


class Watched:
    """A server as a superuser sees it, for whom there is room where there is none for others.

    Args:
        url: of the server.
        data: its data folder, which names its processes.
    """

    def __init__(self, url: str, data: Path) -> None:
        place = parse_database_url(url)
        arguments = place.translate_connect_args(username="user", database="dbname")
        self._connection = psycopg2.connect(**arguments, **place.query)
        self._connection.autocommit = True
        self._data = data

    def scalar(self, query: str) -> Any:
        """Returns what a query says."""
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchone()[0]

    def cpu_s(self) -> float:
        """Returns the processor seconds of all of the server's processes since it began."""
        postmaster = find_postmaster(self._data)
        if postmaster is None:
            raise RuntimeError(f"no server runs in {self._data}")
        own = postmaster.cpu_times()
        total = own.user + own.system + own.children_user + own.children_system
        for child in postmaster.children(recursive=True):
            try:
                times = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return float(total)

    @contextmanager
    def watch(self, every_s: float) -> Iterator[Seen]:
        """Watches until the block ends."""
        seen, is_over = Seen(), threading.Event()

        def look() -> None:
            while not is_over.wait(every_s):
                seen.each.append(int(self.scalar(_COUNT)) - 1)

        def opened() -> int:
            return int(self.scalar("SELECT sum(sessions) FROM pg_stat_database"))

        began_s, cpu_s, before = time.monotonic(), self.cpu_s(), opened()
        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield seen
        finally:
            is_over.set()
            thread.join()
            seen.seconds, seen.cpu_s = time.monotonic() - began_s, self.cpu_s() - cpu_s
            time.sleep(1.5)  # a server counts what a process did a second later
            seen.opened = opened() - before


def beat_together(search: Search, watched: Watched, workers: int, idle_s: float) -> None:
    """Watches workers that all train for long, then the same beside `canopy status --watch`."""
    search.begin()
    for _ in range(workers):
        search.start()
    _wait_for(lambda: _running(watched) == workers)
    time.sleep(15.0)  # what they do at the beginning is over
    with watched.watch(1.0) as seen:
        time.sleep(idle_s)
    print(f"  heartbeats of {workers}: {seen.text()}", flush=True)
    environment = {**os.environ, "CANOPY_HOME": str(search.home), "DATABASE_URL": search.url or ""}
    arguments = ["status", "--watch", "--study", STUDY, "--every", "2"]
    command = [sys.executable, "-m", "canopy_search", *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as status:
        time.sleep(10.0)
        with watched.watch(1.0) as seen:
            time.sleep(idle_s)
        status.terminate()
    print(f"  and canopy status --watch: {seen.text()}", flush=True)
    search.close()


def work_together(search: Search, watched: Watched, workers: int) -> None:
    """Watches workers that finish a study."""
    begun = search.begin()
    began_s = time.monotonic()
    with watched.watch(0.1) as seen:
        started = [search.start() for _ in range(workers)]
        statuses = [worker.end() for worker in started]
    outcome = check(search, begun)
    for worker in started:
        if worker.process.exitcode:
            print(worker.said())
    first = min(trial.datetime_start for trial in outcome.trials if trial.datetime_start)
    last = max(trial.datetime_complete for trial in outcome.trials if trial.datetime_complete)
    notes = sum("database is unavailable" in worker.said() for worker in started)
    span_s = (last - first).total_seconds()
    print(
        f"  Canopy, {workers} workers: {len(outcome.trials)} of {search.n_trials} finished, none "
        f"failed, exit statuses {sorted(set(statuses))}, {len(outcome.trials) / span_s:.1f} trials "
        f"a second, {span_s:.1f} of {time.monotonic() - began_s:.1f} s; {notes} workers waited for "
        f"the database\n    {seen.text()}",
        flush=True,
    )


def _run_optuna(url: str, n_trials: int, epochs: int, epoch_s: float, log: Path) -> None:
    """One worker of plain Optuna, as its documentation shows it."""
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(
        study_name=STUDY, storage=optuna_url(parse_database_url(url)),
        sampler=optuna.samplers.TPESampler(), pruner=optuna.pruners.MedianPruner(),
    )  # fmt: skip

    def objective(trial: optuna.Trial) -> float:
        trial.suggest_categorical("loss", ["bce", "weighted_bce", "focal"])
        gamma = trial.suggest_float("gamma", 0.8, 1.0, step=0.01)
        trial.suggest_float("optimizer.lr", 1e-4, 1e-1, log=True)
        for epoch in range(1, epochs + 1):
            time.sleep(epoch_s)
            trial.report(gamma, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return gamma

    limit = optuna.study.MaxTrialsCallback(n_trials, states=FINISHED)
    study.optimize(objective, callbacks=[limit])


def work_with_optuna(search: Search, watched: Watched, workers: int) -> None:
    """Watches as many workers of plain Optuna."""
    storage = optuna_url(parse_database_url(search.url or ""))
    optuna.create_study(study_name=STUDY, storage=storage, direction="maximize")
    epochs, epoch_s = search.config.training.epochs, search.pace.epoch_s
    logs = [search.home / f"plain-{index}.log" for index in range(workers)]
    began_s = time.monotonic()
    with watched.watch(0.1) as seen:
        processes = [
            FORK.Process(
                target=_run_optuna, args=(search.url, search.n_trials, epochs, epoch_s, log)
            )
            for log in logs
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    trials = optuna.load_study(study_name=STUDY, storage=storage).get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state in FINISHED]
    states = {state.name: sum(t.state == state for t in trials) for state in TrialState}
    died = sum(process.exitcode != 0 for process in processes)
    refused = sum(
        "too many clients" in log.read_text() or "remaining connection" in log.read_text()
        for log in logs
    )
    first = min(trial.datetime_start for trial in trials if trial.datetime_start)
    last = max(trial.datetime_complete for trial in finished if trial.datetime_complete)
    span_s = (last - first).total_seconds()
    print(
        f"  plain Optuna, {workers} workers: {died} died, {refused} of them of too many "
        f"connections; {len(finished)} finished of {search.n_trials} ({states}), "
        f"{len(finished) / span_s:.1f} trials a second, {span_s:.1f} of "
        f"{time.monotonic() - began_s:.1f} s\n    {seen.text()}",
        flush=True,
    )


def _running(watched: Watched) -> int:
    return int(watched.scalar("SELECT count(*) FROM trials WHERE state = 'RUNNING'"))


def _wait_for(is_so: Callable[[], bool]) -> None:
    while not is_so():
        time.sleep(0.5)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--max-connections", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--epoch-s", type=float, default=5.0)
    parser.add_argument("--idle-s", type=float, default=60.0)
    parser.add_argument("--plain", type=int, nargs="*", default=(200, 97), help="Optuna's workers")
    parser.add_argument("--parts", nargs="+", default=("idle", "work", "plain"))
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--url", help="another server's, of a superuser, with its --data")
    parser.add_argument("--data", type=Path)
    return parser.parse_args()


def main() -> None:
    """Prints what was seen."""
    arguments = _arguments()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="many-"))  # a short path: it is that of a socket
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        write_planet_data(folder, images=40, image_px=16)
        url, data = arguments.url, arguments.data
        if url is None:
            server = EmbeddedPostgres(folder / "postgres")
            url, data = (
                server.start().render_as_string(hide_password=False),
                folder / "postgres/data",
            )
            stack.callback(server.stop)
            engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                limit = f"ALTER SYSTEM SET max_connections = {arguments.max_connections}"
                connection.execute(sqlalchemy.text(limit))
            engine.dispose()
            server.stop()
            server.start()
        print(machine_text() + f" · optuna {optuna.__version__}")
        run(arguments, folder, url, data)


def run(arguments: argparse.Namespace, folder: Path, url: str, data: Path) -> None:
    """Runs the parts, each in a database of its own."""
    place = parse_database_url(url)
    admin = sqlalchemy.create_engine(
        place, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.NullPool
    )
    with admin.connect() as connection:
        version = connection.scalar(sqlalchemy.text("SHOW server_version"))
        limit = connection.scalar(sqlalchemy.text("SHOW max_connections"))
    print(f"Postgres {version}, max_connections {limit}, {place.query.get('sslmode', 'no TLS')}")
    count = 0

    def new_search(epoch_s: float) -> tuple[Search, Watched]:
        nonlocal count
        count += 1
        name, home = f"many_{os.getpid()}_{count}", folder / f"home-{count}"
        with admin.connect() as connection:
            connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
        home.mkdir()
        own = place.set(database=name).render_as_string(hide_password=False)
        Workspace(home, own).open().close()
        pace = Pace(
            epoch_s, beat_s=2.5, gone_s=5.0, lease_s=30.0, recovery_s=10.0, idle_limit_s=30.0
        )
        config = settings(folder, arguments.epochs, pruner={"name": "median"})
        return Search(config, home, own, arguments.trials, pace), Watched(own, data)

    gc.collect()
    gc.freeze()  # what all share stays shared
    for _ in range(arguments.repeat):
        if "idle" in arguments.parts:
            beat_together(*new_search(_NEVER_S), arguments.workers, arguments.idle_s)
        if "work" in arguments.parts:
            work_together(*new_search(arguments.epoch_s), arguments.workers)
        if "plain" in arguments.parts:
            for workers in arguments.plain:
                work_with_optuna(*new_search(arguments.epoch_s), workers)


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    main()
