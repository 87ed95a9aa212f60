"""What the mirror in ClearML takes: a study in one go, a second look, a search with no server.

``python -m benchmarks.mirror --trials 200 --runs 5``. The server is the tests' stub in a process of
its own: what it takes is part of what is measured, what a network takes is not. Each run mirrors
the same filled study to a new stub, then again. The searches are the demo's, in turns, each with a
state folder of its own: ClearML not configured, and configured with a server that refuses.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.filled_studies import fill
from benchmarks.machine import machine_text, spread_text
from benchmarks.workers import canopy, search
from canopy_search.search.environment import state_home
from canopy_search.search.study.configuration import checked, load_config
from canopy_search.search.study.plan import SearchPlan, plan_search
from canopy_search.search.study.record import study_record
from canopy_search.search.study.request import StudyRequest
from canopy_search.storage.database import Database
from canopy_search.storage.postgres.embedded import EmbeddedPostgres
from canopy_search.storage.workspace import Workspace
from canopy_search.training.data.dataset import open_dataset
from canopy_search.training.resolve import resolve_settings

STUDY = "demo"
_NOWHERE = {
    "CLEARML_API_HOST": "http://127.0.0.1:9",
    "CLEARML_API_ACCESS_KEY": "nobody",
    "CLEARML_API_SECRET_KEY": "nothing",
}


def main() -> None:
    """Prints a table of the mirror's times, and one of the searches in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200, help="of the filled study; 0 for none")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--search-trials", type=int, default=20, help="of each search; 0 for none")
    arguments = parser.parse_args()
    print(machine_text(), f"· clearml {version('clearml')}\n")
    if arguments.trials:
        mirrored(arguments.trials, arguments.runs)
    if arguments.search_trials:
        beside_searches(arguments.search_trials, arguments.runs)


def mirrored(trials: int, runs: int) -> None:
    """Mirrors a filled study to one new server after the other."""
    first_ms, cpu_ms, second_ms, requests = [], [], [], []
    with tempfile.TemporaryDirectory() as folder, filled(Path(folder), trials) as (plan, database):
        for _ in range(runs):
            with stub() as (variables, web), patch.dict(os.environ, variables):
                before_s = time.process_time()
                first_ms.append(mirror_s(plan, database) * 1000)
                cpu_ms.append((time.process_time() - before_s) * 1000)
                second_ms.append(mirror_s(plan, database) * 1000)
                requests.append(len(json.loads(fetched(f"{web}/requests"))))
    print(f"a study of {trials} trials that has ended, {runs} runs, median (smallest to largest)\n")
    print("| in one go, ms a trial | of it the mirror's CPU | second look, ms in all | requests |")
    print("|---|---|---|---|")
    print(
        f"| {spread_text([ms / trials for ms in first_ms], 1)} "
        f"| {spread_text([ms / trials for ms in cpu_ms], 1)} | {spread_text(second_ms, 0)} "
        f"| {spread_text([count / trials for count in requests], 1)} a trial |\n",
        flush=True,
    )


def mirror_s(plan: SearchPlan, database: Database) -> float:
    """Mirrors the study as `canopy mirror` does; returns the seconds from its login to its end."""
    from canopy_search.dashboards.clearml.mirror import MirrorEvents
    from canopy_search.dashboards.clearml.runner import mirror_once
    from canopy_search.search.workflows.mirror.process import mirror_plan

    desired = mirror_plan(plan.request, database, is_live=False)
    if desired is None:
        raise SystemExit("ClearML is not configured")
    began_s = time.perf_counter()
    snapshot = mirror_once(database, desired, MirrorEvents(print))
    took_s = time.perf_counter() - began_s
    if snapshot is None or snapshot.behind:
        raise SystemExit(f"the mirror is not done: {snapshot}")
    return took_s


@contextmanager
def filled(home: Path, trials: int) -> Iterator[tuple[SearchPlan, Database]]:
    """Yields a study of the demo's that has ended, pruned by the median."""
    config = load_config(None).settings
    pruner = config.search.pruner.model_copy(update={"name": "median"})
    config = config.model_copy(
        update={"search": config.search.model_copy(update={"pruner": pruner})}
    )
    plan = plan_search(StudyRequest(Workspace(home), checked(config), STUDY), trials)
    server = EmbeddedPostgres(home / "postgres")
    url = server.start().render_as_string(hide_password=False)
    try:
        database = Workspace(home, url).open()
        dataset = open_dataset(config.data, state_home(), lambda *_: None)
        record = study_record(config, plan.space, resolve_settings(config.training), dataset)
        fill(database, plan, trials, record=record, target=trials)
        yield plan, database
        database.close()
    finally:
        server.stop()


@contextmanager
def stub() -> Iterator[tuple[dict[str, str], str]]:
    """Yields the variables of a new stub, and where it shows what it holds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.clearml_stub", "--port", "0", "--control-port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        lines = [(process.stdout or sys.stdin).readline().strip() for _ in range(6)]
        variables = dict(line.removeprefix("export ").split("=", 1) for line in lines[:5])
        yield variables, lines[5].rpartition(" ")[2]
    finally:
        process.terminate()
        process.wait()


def fetched(address: str) -> Any:
    """Returns what a page says."""
    with urllib.request.urlopen(address, timeout=60) as answer:  # noqa: S310 - our own stub
        return answer.read()


def beside_searches(trials: int, runs: int) -> None:
    """Searches with a server that is away and without any, in turns."""
    images = state_home()
    search(images, ["--trials", str(trials), "--dry-run"])
    print(f"a search of {trials} trials of the demo, first trial to last\n")
    print("| run | ClearML not configured, s | its server away, s | ratio |")
    print("|---|---|---|---|")
    ratios = []
    for run in range(1, runs + 1):
        # Whoever comes second may find the machine warmer, so they take turns in that too.
        order = (False, True) if run % 2 else (True, False)
        took_s = {is_away: one_search(images, trials, is_away=is_away) for is_away in order}
        ratios.append(took_s[True] / took_s[False])
        print(
            f"| {run} | {took_s[False]:.1f} | {took_s[True]:.1f} | {ratios[-1]:.3f} |", flush=True
        )
    print(f"\naway / not configured: {spread_text(ratios, 3)}")


def one_search(images: Path, trials: int, *, is_away: bool) -> float:
    """Runs one search that begins with nothing known but the decoded images."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for part in ("cache", "demo", "digests"):
            if (images / part).exists():
                shutil.copytree(images / part, home / part)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("CLEARML_", "TRAINS_"))}
        # A folder without the user's own clearml.conf.
        kept |= {"HOME": str(home), **(_NOWHERE if is_away else {})}
        with patch.dict(os.environ, kept, clear=True):
            took_s = search(home, ["--trials", str(trials)])
            canopy(home, ["db", "stop"])
    return took_s


if __name__ == "__main__":
    main()
