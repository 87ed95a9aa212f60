"""What many tests need: real servers, an environment that is the same everywhere, and seeds."""

import gc
import importlib
import os
import pkgutil
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import uuid4

import optuna.storages._rdb.storage
import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser
from syrupy.assertion import SnapshotAssertion

import canopy_search
from canopy_search.search.openmp import spin_briefly
from canopy_search.storage.database import Database
from canopy_search.storage.workspace import Workspace
from tests.bucket import Bucket, BucketServer
from tests.chromium import connected
from tests.databases import Databases, within
from tests.shared_servers import SharedServers, execute
from tests.warm_start import WARM, copy_this_process, import_all

_PREPARED = "canopy_prepared"
_EXHAUSTIVE_LIMIT_S = 1800
_SERVERS = pytest.StashKey[SharedServers]()
# Set by a user's terminal, CI system, tracker or cluster, they change what is printed and done.
_VARIABLES = (
    *("CI", "BUILD_NUMBER", "GITHUB_ACTIONS", "NO_COLOR", "FORCE_COLOR", "CLICOLOR"),
    *("CLICOLOR_FORCE", "COLORTERM", "TERM", "TERM_PROGRAM", "COLUMNS", "LINES", "TTY_COMPATIBLE"),
    *(
        "TTY_INTERACTIVE",
        "PAGER",
        "BROWSER",
        "EDITOR",
        "VISUAL",
        "DISPLAY",
        "TZ",
        "LANG",
        "LANGUAGE",
    ),
    *("DATABASE_URL", "CANOPY_HOME", "PYTHONWARNINGS", "PYTHONPATH", "PYTHONUNBUFFERED"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TMOUT", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"),
)
_PREFIXES = ("LC_", "CLEARML_", "TRAINS_", "AWS_", "S3_", "PG", "SLURM_", "SBATCH_", "RAY_")

for _name in list(os.environ):
    if _name in _VARIABLES or _name.startswith(_PREFIXES):
        del os.environ[_name]
# Without them every process compiles all of ours anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ["TZ"] = "UTC"
time.tzset()
spin_briefly()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the switch between `make test` and `make test-all`."""
    group = parser.getgroup("canopy")
    group.addoption(
        "--exhaustive", action="store_true", help="run all tests, with many and new random examples"
    )
    group.addoption("--seed", type=int, help="of all random examples of --exhaustive")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Makes all surroundings alike, and tells the processes of the run where its servers are."""
    _take_signals()
    # How long an example takes depends on what else the machine does. A quick run has the same
    # examples each time, so that it fails by what was changed.
    patient: Any = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("quick", derandomize=True, max_examples=50, **patient)
    settings.register_profile("exhaustive", max_examples=2_000, print_blob=True, **patient)
    exhaustive = config.getoption("exhaustive")
    settings.load_profile("exhaustive" if exhaustive else "quick")
    given = getattr(config, "workerinput", None)
    if given is not None:
        config.option.seed = given["seed"]
    elif config.getoption("seed") is None:
        config.option.seed = random.SystemRandom().randrange(10**6) if exhaustive else 0
    if exhaustive:
        config.option.hypothesis_seed = str(config.option.seed)
        config.option.timeout = config.option.timeout or _EXHAUSTIVE_LIMIT_S
    if given is None and config.getoption("update_snapshots") and config.getoption("numprocesses"):
        raise pytest.UsageError("two processes would overwrite each other's snapshots: JOBS=0")
    config.stash[_SERVERS] = SharedServers(Path(given["servers"]) if given else None)
    if WARM and (given is not None or not config.getoption("numprocesses")):
        import_all()
        copy_this_process()


def pytest_configure_node(node: Any) -> None:
    """Tells a process of the run what its controller chose."""
    node.workerinput["servers"] = str(node.config.stash[_SERVERS].folder)
    node.workerinput["seed"] = node.config.option.seed


def pytest_report_header(config: pytest.Config) -> str | None:
    """Says how to repeat a run with random examples."""
    if not config.getoption("exhaustive"):
        return None
    return f"random seed: {config.option.seed} (again: make test-all SEED={config.option.seed})"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stops the servers, in the process that ends last."""
    if not hasattr(config, "workerinput") and _SERVERS in config.stash:
        config.stash[_SERVERS].stop()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what `make test-all` alone runs."""
    if config.getoption("exhaustive"):
        return
    skipped = [item for item in items if item.get_closest_marker("exhaustive")]
    for item in skipped:
        if "snapshot" in getattr(item, "fixturenames", ()):
            # `make test` would call its snapshot unused, and fail.
            raise pytest.UsageError(f"{item.nodeid}: a test of `make test-all` keeps no snapshots")
    if skipped:
        items[:] = [item for item in items if item not in set(skipped)]
        config.hook.pytest_deselected(items=skipped)


def pytest_collection_finish() -> None:
    """Imports all of the product, and lets garbage be looked for among what tests make alone.

    A module that a command imports would keep what a test has put in place of a function for good.
    And where memory ran out the product looks for garbage, and with torch's that takes seconds.
    """
    for found in pkgutil.walk_packages(canopy_search.__path__, "canopy_search."):
        if ".migrations." not in found.name and "__main__" not in found.name:
            importlib.import_module(found.name)
    gc.freeze()


def _take_signals() -> None:
    """Lets processes that tests start take signals, also under ``nohup`` and in a background job.

    What a process ignores its children ignore; what it handles, programs that it starts do not
    inherit. A fork does, and is told.
    """

    def ignore(_signal: int, _frame: FrameType | None) -> None:
        """Does nothing, in this process alone."""

    numbers = {signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ignored = [number for number in numbers if signal.getsignal(number) == signal.SIG_IGN]
        for number in ignored:
            signal.signal(number, ignore)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, *numbers})
        os.register_at_fork(
            after_in_child=lambda: (
                [signal.signal(each, signal.SIG_DFL) for each in ignored] and None
            )
        )


@pytest.fixture(autouse=True, scope="session")
def head_version_read_once() -> Iterator[None]:
    """Optuna imports all its migrations for each storage, which takes longer than most tests."""
    with pytest.MonkeyPatch.context() as patch:
        versions: Any = optuna.storages._rdb.storage._VersionManager
        read = versions.get_head_version
        known: list[str] = []

        def read_once(manager: Any) -> str:
            if not known:
                known.append(read(manager))
            return known[0]

        patch.setattr(versions, "get_head_version", read_once)
        yield


@pytest.fixture
def words(snapshot: SnapshotAssertion, tmp_path: Path) -> SnapshotAssertion:
    """What a person reads, as a file beside the test: ``assert text == words``.

    `make test JOBS=0 ARGS="--snapshot-update tests/..."` writes the files anew.
    """

    def plain(data: Any, **_: Any) -> Any:
        return data.replace(str(tmp_path), "TMP_PATH") if isinstance(data, str) else data

    return snapshot.with_defaults(matcher=plain)


@pytest.fixture(scope="session")
def random_seed(pytestconfig: pytest.Config) -> int:
    """The seed of what a test draws at random: the same in each quick run."""
    seed: int = pytestconfig.option.seed
    return seed


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> SharedServers:
    """The servers of this run, which its processes share."""
    return pytestconfig.stash[_SERVERS]


@pytest.fixture(scope="session")
def postgres_url(servers: SharedServers) -> str:
    """URL of the server of this run; do no harm to it, other tests use it at the same time."""
    return servers.postgres_url()


@pytest.fixture
def database_url(databases: Databases, postgres_url: str) -> Iterator[str]:
    """URL of a database that is this test's alone, with all tables and nothing in them."""
    name = databases.take()
    yield within(postgres_url, name)
    databases.give_back(name)


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """URL of a database that is there for this test only, without tables."""
    name = f"canopy_{uuid4().hex}"
    execute(postgres_url, f"CREATE DATABASE {name}")
    yield within(postgres_url, name)
    execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    """The database of `database_url`, opened."""
    opened = Workspace(tmp_path / "home", database_url).open()
    yield opened
    opened.close()


@pytest.fixture
def bucket(servers: SharedServers, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket, which the environment leads to."""
    opened = Bucket(BucketServer(servers.moto()))
    for name, value in opened.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return opened


@pytest.fixture(scope="module")
def browser(servers: SharedServers) -> Iterator[Browser]:
    """The browser of this run."""
    with connected(servers.chromium_url()) as browser:
        yield browser


@pytest.fixture(scope="session")
def databases(
    servers: SharedServers, postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Databases]:
    """Databases of the server of this run."""
    with FileLock(servers.folder / "prepared.lock"):
        if (_PREPARED,) not in execute(postgres_url, "SELECT datname FROM pg_database"):
            name = f"{_PREPARED}_in_the_making"
            execute(postgres_url, f"CREATE DATABASE {name}")
            Workspace(tmp_path_factory.mktemp("home"), within(postgres_url, name)).open().close()
            execute(postgres_url, f"ALTER DATABASE {name} RENAME TO {_PREPARED}")
    with closing(Databases(postgres_url, _PREPARED)) as databases:
        yield databases
