"""How large the report of a full study is, and how long it takes to write and to open.

``python -m benchmarks.report_size``. Studies are those of `benchmarks.filled_studies`, one epoch
after the other and with predictions of the best trials, on an embedded Postgres; what is timed is
reading the study, writing the page, and Chromium until the first and the last figure is drawn.
"""

import argparse
import shutil
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import numpy as np
import optuna
import sqlalchemy
from playwright.sync_api import Browser

from benchmarks.filled_studies import EPOCHS, fill
from benchmarks.machine import machine_text, spread_text
from canopy_search.dashboards.html.page import page_html
from canopy_search.dashboards.report.page import report_page
from canopy_search.dashboards.study.read_study import read_study
from canopy_search.search.study.configuration import checked, load_config
from canopy_search.search.study.plan import plan_search
from canopy_search.search.study.request import StudyRequest
from canopy_search.storage.database import Database
from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from canopy_search.storage.study.predictions import ValidationSet, predicting
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workspace import Workspace
from tests.chromium import connected
from tests.shared_servers import SharedServers

SIZES = (40, 1000)
STUDY = "full"
IMAGES = 2000
BEST = 3
LIMIT_MS = 120_000

_ONE_AFTER_THE_OTHER = sqlalchemy.text("""
    UPDATE canopy_epoch SET recorded = now() - later.place * interval '1.2 seconds'
    FROM (
        SELECT trial_id, epoch, row_number() OVER (ORDER BY trial_id DESC, epoch DESC) AS place
        FROM canopy_epoch
    ) AS later
    WHERE later.trial_id = canopy_epoch.trial_id AND later.epoch = canopy_epoch.epoch
""")
_BEST = sqlalchemy.text("""
    SELECT stage FROM canopy_epoch JOIN trial_values USING (trial_id)
    WHERE epoch = :epochs ORDER BY value DESC LIMIT :count
""")


def full_study(database: Database, home: Path, size: int) -> None:
    """Fills a study by median pruning, whose best trials have predictions of ten labels."""
    config = load_config(None).settings
    settings = config.search.pruner.model_copy(update={"name": "median"})
    config = config.model_copy(
        update={"search": config.search.model_copy(update={"pruner": settings})}
    )
    fill(database, plan_search(StudyRequest(Workspace(home), checked(config), STUDY), size), size)
    dice = np.random.default_rng(0)
    targets = (dice.random((IMAGES, 10)) < np.linspace(0.5, 0.02, 10)).astype(np.uint8)
    images = ValidationSet("images", tuple(f"digit {digit}" for digit in range(10)), targets)
    with database.engine.begin() as connection:
        connection.execute(_ONE_AFTER_THE_OTHER)
        for key in connection.scalars(_BEST, {"epochs": EPOCHS, "count": BEST}).all():
            logits = (targets + dice.normal(size=targets.shape)).astype(np.float32)
            predicting(key, images, logits)(connection)


def open_s(browser: Browser, file: Path) -> tuple[float, float]:
    """Returns how long a page takes to show its first and its last figure."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    started = time.perf_counter()
    page.goto(file.as_uri())
    page.wait_for_selector(".plot .main-svg", timeout=LIMIT_MS)
    first = time.perf_counter() - started
    page.wait_for_selector("html[data-drawn=all]", timeout=LIMIT_MS)
    last = time.perf_counter() - started
    page.close()
    return first, last


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="trials in the study")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="rep-"))  # a short path: it is that of a socket
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = EmbeddedPostgres(folder / "postgres")
        url = server.start()
        stack.callback(server.stop)
        servers = SharedServers()
        stack.callback(servers.stop)
        browser = stack.enter_context(connected(servers.chromium_url()))
        print(machine_text() + f" · optuna {optuna.__version__}, Chromium {browser.version}")
        print("| trials | size, MB | read, s | write, s | first figure, s | all figures, s |")
        print("|---|---|---|---|---|---|")
        for size in arguments.sizes:
            engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(sqlalchemy.text(f"CREATE DATABASE full_{size}"))
            engine.dispose()
            named = url.set(database=f"full_{size}").render_as_string(hide_password=False)
            database = Workspace(folder / "home", named).open()
            full_study(database, folder / "home", size)
            print(row(browser, database, folder / "report.html", size, arguments.repeat))
            database.close()


def row(browser: Browser, database: Database, file: Path, size: int, repeat: int) -> str:
    """Returns what was measured of one study."""
    reads, writes, opens = [], [], []
    for _ in range(repeat):
        started = time.perf_counter()
        store = StudyStore(database)
        data = read_study(store, database, STUDY, datetime.now())
        reads.append(time.perf_counter() - started)
        started = time.perf_counter()
        file.write_text(page_html(report_page(data)), encoding="utf-8")
        writes.append(time.perf_counter() - started)
        store.close()
        opens.append(open_s(browser, file))
    first, last = zip(*opens, strict=True)
    times = [spread_text(list(each)) for each in (reads, writes, first, last)]
    return f"| {size:,} | {file.stat().st_size / 1e6:.1f} | {' | '.join(times)} |"


if __name__ == "__main__":
    main()
