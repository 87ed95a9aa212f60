"""Compares Canopy with plain Optuna on real drawings that nobody tuned to.

``python -m benchmarks.peers.drawings PACKAGE`` writes the data set of `benchmarks.emoji_data` and
searches `benchmarks/emoji.yaml`'s space for each seed, one after the other: Canopy by its command
with everything by default; plain Optuna with TPE and median pruning in one process with two
threads, by its own loop (two more processes load) and by Canopy's. Seconds are from the start to
the last epoch. What has been completed is not trained again.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import optuna

from benchmarks.emoji_data import write_emoji
from benchmarks.machine import machine_text
from benchmarks.peers import canopy, plain_optuna
from benchmarks.peers.record import Recorder, read_record
from benchmarks.peers.summary import SearchRun, summarize
from benchmarks.peers.task import EMOJI, RealSearch
from canopy_search.dashboards.formatting.values import ap_text, params_text
from canopy_search.search.environment import state_home
from canopy_search.search.study.configuration import load_config


def main() -> None:
    """Searches, and prints a row for each search and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path, help="an unpacked emoji-datasource-google")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=16)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    epochs = load_config(EMOJI).settings.training.epochs
    home = state_home().resolve() / "peers"
    data = home / "emoji"
    if not (data / "labels.csv").exists():
        write_emoji(arguments.package, data)
    print(f"{machine_text()}\n\n| search | seed | finished, s | epochs | best val AP | it |")
    print("|---|---|---|---|---|---|")
    runs: dict[str, list[SearchRun]] = {title: [] for title in SEARCHES}
    for seed in arguments.seeds:
        for title, (train, own_loop, workers) in SEARCHES.items():
            record = home / f"drawings-{title.replace(' ', '-')}-{arguments.trials}-{seed}.jsonl"
            if not record.exists():
                began = time.time()
                search = RealSearch(EMOJI, data, seed, arguments.trials, workers, began, own_loop)
                unfinished = Recorder(record.with_suffix(".part"))
                unfinished.path.unlink(missing_ok=True)
                train(search, unfinished)
                unfinished.path.rename(record)
            runs[title].append(summarize(read_record(record), epochs))
            _print_row(title, runs[title][-1])
    ours = runs["Canopy"]
    for title, theirs in runs.items():
        time_ratio = mean(run.finish_s for run in theirs) / mean(run.finish_s for run in ours)
        epoch_ratio = mean(run.trained for run in theirs) / mean(run.trained for run in ours)
        print(f"{title} / Canopy: {time_ratio:.1f}× in time, {epoch_ratio:.1f}× in epochs")


def _plain(search: RealSearch, recorder: Recorder) -> None:
    method = plain_optuna.Method("tpe", "median", search.seed, search.trials)
    plain_optuna.train(search, method, recorder, storage=None)


def _canopy(search: RealSearch, recorder: Recorder) -> None:
    for entry in canopy.trained(search, shares=True):
        recorder.add(entry)


SEARCHES: dict[str, tuple[Callable[[RealSearch, Recorder], None], bool, int]] = {
    "Optuna, its own loop": (_plain, True, 1),
    "Optuna, Canopy's loop": (_plain, False, 1),
    "Canopy": (_canopy, True, 2),
}
"""Title → what searches, whether by a loop of its own, and with how many workers."""


def _print_row(name: str, run: SearchRun) -> None:
    print(
        f"| {name} | {run.seed} | {run.finish_s:.0f} | {run.trained} | {ap_text(run.best_ap)} "
        f"| {params_text(run.winner or {})} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
