"""What a trial of five epochs costs besides its training, beside plain Optuna.

``python -m benchmarks.bookkeeping``. Every cell of the table begins with a copy of the same filled
study on one embedded Postgres, with the settings that users have. Canopy's side is its real worker
with its real stage tree, whose epochs come at once and leave no checkpoints; each epoch is new, so
that all rows are written. The new trials are better than all others: none is pruned, and with asha
each is claimed three times, to begin, to go on after epoch 1 and to go on after epoch 4.
"""

import argparse
import cProfile
import multiprocessing
import pstats
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
import sqlalchemy
from optuna.trial import TrialState

from benchmarks.filled_studies import ENDLESS, EPOCHS, fill
from benchmarks.machine import machine_text
from canopy_search.filestore.retry import Retrier
from canopy_search.search.config.space import SearchSpace
from canopy_search.search.events import Event, TrialEnded
from canopy_search.search.study.configuration import checked, load_config
from canopy_search.search.study.plan import SearchPlan, StartedStudy, plan_search
from canopy_search.search.study.request import StudyRequest
from canopy_search.search.trial import stage_tree
from canopy_search.search.trial.stage_tree import StageTree
from canopy_search.search.workers import loop as worker
from canopy_search.search.workers.loop import open_objective, work
from canopy_search.storage.connection.urls import connect_options, optuna_url
from canopy_search.storage.database import Database
from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from canopy_search.storage.stages.stages import StageStore
from canopy_search.storage.workers.session import WorkerSession
from canopy_search.storage.workspace import Workspace
from canopy_search.training.data.dataset import Dataset, open_dataset
from canopy_search.training.resolve import resolve_settings

SIZES = (100, 1000, 5000)
WORKERS = (1, 8)
STUDY = "demo"
PLAIN = "Optuna, tpe + median"
SIDES = {PLAIN: "median", "Canopy, tpe + median": "median", "Canopy, tpe + asha": "asha"}

_CONTEXT = multiprocessing.get_context("forkserver")
_START_LIMIT_S = 300.0


class EnoughError(Exception):
    """All workers have done as many trials as are wanted."""


def val_ap() -> float:
    """Returns an AP above all earlier ones."""
    return 0.9 + time.time() % 1e6 * 1e-8


class InstantRun:
    """A training run whose epochs come at once."""

    def __init__(self, settings: Any, dataset: Dataset) -> None:
        self.settings, self.epoch = settings, 0
        shape = (len(dataset.split.validation), len(dataset.labels))
        self.validation_logits = np.zeros(shape, dtype=np.float32)

    def train_epoch(self, _on_batch: object) -> "InstantRun":
        """Comes to the next epoch."""
        self.epoch += 1
        return self

    def as_dict(self) -> dict[str, Any]:
        """Returns as many metrics as a real epoch has."""
        scores = dict.fromkeys(("f1", "f2", "precision", "recall", "hamming", "bce_loss"), 0.5)
        per_label = {f"digit {digit}": 0.5 for digit in range(10)}
        return {
            "epoch": self.epoch,
            "val_ap": val_ap(),
            "val_ap_per_label": per_label,
            "train_s": 0.0,
            "val_s": 0.0,
            **{f"val_{name}": score for name, score in scores.items()},
        }

    @property
    def is_finished(self) -> bool:
        """Whether it was its last epoch."""
        return self.epoch >= int(self.settings.epochs)

    def state(self) -> int:
        """Returns what `restore` takes."""
        return self.epoch

    def restore(self, state: int) -> None:
        """Goes on from a state."""
        self.epoch = state


class NoCheckpoints:
    """Stands for the writer of checkpoints: has every state that is asked for, and writes none."""

    def submit(self, key: str, state: int, *, is_end: bool) -> None:
        """Takes a state."""

    def place_id(self) -> None:
        """Says that there is no place."""

    def find(self, keys: Sequence[str]) -> set[str]:
        """Has them all."""
        return set(keys)

    def load(self, _key: str, epoch: int) -> int:
        """Returns a state that `InstantRun` takes."""
        return epoch


class OwnStages(StageTree):
    """The stage tree, in which no two trials share an epoch."""

    def plan(self, *arguments: Any, **options: Any) -> Any:
        """Looks up what is known of a run."""
        return super().plan(*arguments, **options | {"alone": True})


@dataclass
class Pace:
    """When each trial of one worker has ended.

    Args:
        trials: how many are wanted of each worker.
        workers: how many work at once.
        meeting: of all workers, when each has done one trial.
        done: how many workers have done theirs.
    """

    trials: int
    workers: int
    meeting: Any
    done: Any
    ends_s: list[float] = field(default_factory=list)
    began_s: float = field(default_factory=time.perf_counter)
    first_s: float = 0.0
    on_start: Callable[[], object] = lambda: None

    def trial_ended(self) -> None:
        """Counts one trial.

        Raises:
            EnoughError: no worker has any left.
        """
        if not self.first_s:
            # A process reads the whole study for its first trial.
            self.first_s = time.perf_counter() - self.began_s
            self.meeting.wait(_START_LIMIT_S)
            self.on_start()
        self.ends_s.append(time.perf_counter())
        if len(self.ends_s) == self.trials + 1:
            with self.done.get_lock():
                self.done.value += 1
        # Nobody works alone while others are still measured.
        if self.done.value == self.workers:
            raise EnoughError

    @property
    def times_ms(self) -> list[float]:
        """The time of each trial."""
        return [1e3 * (b - a) for a, b in zip(self.ends_s, self.ends_s[1:], strict=False)]


def follow(pace: Pace, event: Event) -> None:
    """Tells a pace of every trial that is over."""
    if isinstance(event, TrialEnded) and event.state == TrialState.FAIL:
        raise RuntimeError(f"trial {event.number} failed: {event.reason}")
    if isinstance(event, TrialEnded) and event.state == TrialState.COMPLETE:
        pace.trial_ended()


def run_plain(plan: SearchPlan, url: str, pace: Pace) -> None:
    """Runs trials as a program with Optuna alone does."""
    place = sqlalchemy.make_url(url)
    storage = optuna.storages.RDBStorage(
        optuna_url(place), engine_kwargs={"connect_args": connect_options(place, "plain")}
    )
    study = optuna.load_study(
        study_name=plan.study,
        storage=storage,
        sampler=optuna.samplers.TPESampler(),
        pruner=optuna.pruners.MedianPruner(),
    )
    while True:
        trial = study.ask()
        plan.space.suggest(trial)
        value = 0.0
        for epoch in range(1, EPOCHS + 1):
            value = val_ap()
            trial.report(value, epoch)
            if epoch < EPOCHS and trial.should_prune():
                raise RuntimeError("the trial was pruned, and should be the best")
        study.tell(trial, value)
        pace.trial_ended()


def run_canopy(plan: SearchPlan, url: str, pace: Pace) -> None:
    """Runs trials as a worker of Canopy does, without training."""

    @contextmanager
    def open_tree(
        started: StartedStudy, database: Database, session: WorkerSession, retrier: Retrier
    ) -> Iterator[StageTree]:
        writer: Any = NoCheckpoints()
        yield OwnStages(StageStore(database, session), writer, started.dataset, retrier)

    dataset = open_dataset(plan.config.data, plan.workspace.home)
    space = SearchSpace(resolve_settings(plan.space.training), plan.space.distributions)
    database = Workspace(plan.workspace.home, url).open()
    retrier = plan.workspace.retrier()
    pace.began_s = time.perf_counter()
    with (
        patch.object(worker, "open_tree", open_tree),
        patch.object(stage_tree, "TrainingRun", InstantRun),
        open_objective(
            StartedStudy(replace(plan, space=space), dataset),
            database,
            partial(follow, pace),
            retrier,
        ) as objective,
    ):
        work(plan, objective, retrier)


@dataclass(frozen=True)
class Job:
    """What one worker process does.

    Attributes:
        side: one of `SIDES`.
        plan: of the study.
        url: of the database.
        trials: how many are wanted.
        workers: how many processes work at once.
        profile: where the profile goes, if one is wanted.
    """

    side: str
    plan: SearchPlan
    url: str
    trials: int
    workers: int
    profile: Path | None = None


def run_job(job: Job, meeting: Any, done: Any, results: Any) -> None:
    """Runs in a process of its own, and puts the times of its trials into `results`."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pace = Pace(job.trials, job.workers, meeting, done)
    profile = cProfile.Profile() if job.profile else None
    if profile:
        pace.on_start = profile.enable
    try:
        (run_plain if job.side == PLAIN else run_canopy)(job.plan, job.url, pace)
    except EnoughError:
        if profile:
            profile.disable()
            profile.dump_stats(str(job.profile))
        results.put((pace.first_s, pace.times_ms))
    except BaseException as error:
        meeting.abort()
        results.put(error)
        raise


@dataclass
class Cell:
    """What was measured of one side with some workers on a study of some size.

    Attributes:
        times_ms: of every trial.
        first_s: of the first trial of every process, which reads the study.
        means_ms: a repetition's mean time of a trial.
        per_s: trials a second, of all workers together, of each repetition.
    """

    times_ms: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    means_ms: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)

    def add(self, workers: int, results: Sequence[tuple[float, list[float]]]) -> None:
        """Adds one repetition."""
        times = [time_ms for _, times_ms in results for time_ms in times_ms]
        self.times_ms += times
        self.first_s += [first_s for first_s, _ in results]
        self.means_ms.append(sum(times) / len(times))
        self.per_s.append(1e3 * workers / self.means_ms[-1])


class Bench:
    """One server with a template database for each pruner and size.

    Args:
        folder: for the server.
        home: the state folder that has the demo data.
        sizes: trials in a study.
    """

    def __init__(self, folder: Path, home: Path, sizes: Sequence[int]) -> None:
        self.server = EmbeddedPostgres(folder / "postgres")
        self._url = self.server.start()
        self._home = home
        self._sizes = sizes

    def prepare(self) -> None:
        """Fills the templates; what they hold survives, so that nothing is slower than later."""
        for pruner in sorted(set(SIDES.values())):
            for size in self._sizes:
                name = f"{pruner}_{size}"
                self.execute(f"CREATE DATABASE {name}")
                database = Workspace(self._home, self.url(name)).open()
                fill(database, self.plan(pruner), size)
                database.close()

    def plan(self, pruner: str) -> SearchPlan:
        """Returns the demo's search with five epochs, and nothing enqueued."""
        config = load_config(None).settings
        training = config.training.model_copy(update={"epochs": EPOCHS})
        settings = config.search.pruner.model_copy(update={"name": pruner})
        changes = {"enqueue": (), "pruner": settings}
        config = config.model_copy(
            update={"training": training, "search": config.search.model_copy(update=changes)}
        )
        return plan_search(StudyRequest(Workspace(self._home), checked(config), STUDY), ENDLESS)

    def url(self, name: str) -> str:
        """Returns the URL of one database."""
        return self._url.set(database=name).render_as_string(hide_password=False)

    def execute(self, statement: str) -> None:
        """Executes what cannot be in a transaction."""
        engine = sqlalchemy.create_engine(self._url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(statement))
        engine.dispose()

    @contextmanager
    def copy(self, pruner: str, size: int) -> Iterator[str]:
        """Yields the URL of a database with a filled study, which is removed afterwards."""
        self.execute("DROP DATABASE IF EXISTS measured WITH (FORCE)")
        self.execute(f"CREATE DATABASE measured TEMPLATE {pruner}_{size}")
        self.execute("CHECKPOINT")
        yield self.url("measured")
        self.execute("DROP DATABASE measured WITH (FORCE)")

    def measure(
        self, side: str, size: int, workers: int, trials: int, profile: Path | None = None
    ) -> list[tuple[float, list[float]]]:
        """Returns the times of each worker's trials."""
        plan = self.plan(SIDES[side])
        with self.copy(SIDES[side], size) as url:
            meeting, done = _CONTEXT.Barrier(workers), _CONTEXT.Value("i", 0)
            results = _CONTEXT.SimpleQueue()
            job = Job(side, plan, url, trials, workers, profile)
            processes = [
                _CONTEXT.Process(target=run_job, args=(job, meeting, done, results))
                for _ in range(workers)
            ]
            for process in processes:
                process.start()
            found = [results.get() for _ in processes]
            for process in processes:
                process.join()
        for result in found:
            if isinstance(result, BaseException):
                raise result
        return found


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="trials in the study")
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--trials", type=int, default=20, help="of each worker")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--sides", nargs="+", choices=[*SIDES], default=[*SIDES])
    parser.add_argument("--profile", type=Path, help="a folder for profiles; slows what it times")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _CONTEXT.set_forkserver_preload(["canopy_search.search.workers.loop"])
    if arguments.profile:
        arguments.profile.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # A short path: it is that of a socket.
        folder = Path(tempfile.mkdtemp(prefix="book-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        home = folder / "home"
        open_dataset(load_config(None).settings.data, home)
        bench = Bench(folder, home, arguments.sizes)
        stack.callback(bench.server.stop)
        bench.prepare()
        print(machine_text() + f" · optuna {optuna.__version__}")
        cells: dict[tuple[int, int, str], Cell] = {}
        for _ in range(arguments.repeat):
            for size in arguments.sizes:
                for workers in arguments.workers:
                    for side in arguments.sides:
                        cell = cells.setdefault((size, workers, side), Cell())
                        path = arguments.profile and arguments.profile / f"{side} {size}.prof"
                        cell.add(
                            workers, bench.measure(side, size, workers, arguments.trials, path)
                        )
                        if path:
                            pstats.Stats(str(path)).sort_stats("cumulative").print_stats(60)
        print_table(cells)


def print_table(cells: dict[tuple[int, int, str], Cell]) -> None:
    """Prints what was measured: median of all trials, and where four of five of them lie."""
    print("| trials | workers | | ms a trial | of plain | each run | trials/s | first trial, s |")
    print("|---|---|---|---|---|---|---|---|")
    for (size, workers, side), cell in cells.items():
        middle = median(cell.times_ms)
        tenths = quantiles(cell.times_ms, n=10)
        ratio, ratios = "", ""
        plain = cells.get((size, workers, PLAIN))
        if plain is not None and side != PLAIN:
            ratio = f"{middle / median(plain.times_ms):.2f}"
            each = [own / other for own, other in zip(cell.means_ms, plain.means_ms, strict=True)]
            ratios = f"{min(each):.2f} to {max(each):.2f}"
        print(
            f"| {size:,} | {workers} | {side} | {middle:.0f} ({tenths[0]:.0f} to {tenths[-1]:.0f}) "
            f"| {ratio} | {ratios} | {median(cell.per_s):.1f} | {median(cell.first_s):.2f} |"
        )


if __name__ == "__main__":
    main()
