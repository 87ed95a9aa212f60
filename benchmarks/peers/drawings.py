"""Compares Canopy with plain Optuna on real drawings that nobody tuned to.

``python -m benchmarks.peers.drawings PACKAGE`` writes the data set of `benchmarks.emoji_data` and
searches `benchmarks/emoji.yaml`'s space with both for each seed, one after the other: Canopy by its
command with everything by default, plain Optuna with TPE and median pruning, one process with two
threads and two that load. Seconds are from the start to the last epoch.
"""

import argparse
import time
from pathlib import Path
from statistics import mean

import optuna

from benchmarks.emoji_data import write_emoji
from benchmarks.machine import machine_text
from benchmarks.peers import canopy_search, plain_optuna
from benchmarks.peers.record import EpochEntry
from benchmarks.peers.summary import SearchRun, summarize
from benchmarks.peers.task import EMOJI_TASK, RealSearch
from canopy_search.dashboards.formatting.values import ap_text, params_text
from canopy_search.search.environment import state_home


def main() -> None:
    """Searches, and prints a row for each search and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path, help="an unpacked emoji-datasource-google")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2, help="of Canopy")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data = state_home().resolve() / "peers" / "emoji"
    if not (data / "labels.csv").exists():
        write_emoji(arguments.package, data)
    print(
        f"{machine_text()}\n\n| search | seed | finished, s | epochs trained | best val AP | it |"
    )
    print("|---|---|---|---|---|---|")
    plain, canopy = [], []
    for seed in arguments.seeds:
        plain.append(_plain(data, seed, arguments.trials))
        _print_row("Optuna, TPE + median", plain[-1])
        search = RealSearch(data, seed, arguments.trials, arguments.workers, time.time())
        entries = canopy_search.trained(EMOJI_TASK, search, shares=True)
        canopy.append(summarize(entries, EMOJI_TASK.space.epochs))
        _print_row("Canopy", canopy[-1])
    theirs_s, ours_s = (mean(run.finish_s for run in runs) for runs in (plain, canopy))
    theirs, ours = (mean(run.trained for run in runs) for runs in (plain, canopy))
    print(
        f"\nplain Optuna / Canopy: {theirs_s / ours_s:.1f}× in time, {theirs / ours:.1f}× in epochs"
    )


def _plain(data: Path, seed: int, trials: int) -> SearchRun:
    from benchmarks.peers.torch_training import TorchTraining

    began = time.time()
    training = TorchTraining(data, EMOJI_TASK, threads=2, loader_workers=2)
    entries: list[EpochEntry] = []
    note = plain_optuna.noting(entries.append, seed, began)
    method = plain_optuna.Method("tpe", "median", seed, trials)
    plain_optuna.search(EMOJI_TASK.space, method, training.epochs, note)
    return summarize(entries, EMOJI_TASK.space.epochs)


def _print_row(name: str, run: SearchRun) -> None:
    print(
        f"| {name} | {run.seed} | {run.finish_s:.0f} | {run.trained} | {ap_text(run.best_ap)} "
        f"| {params_text(run.winner or {})} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
