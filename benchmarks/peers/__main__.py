"""Compares Canopy with what people would use instead: ``make bench``, ``make bench-full``.

Simulated: every peer's own search code decides on epochs that are looked up, which cost everybody
the same; where it was measured what the peers' own loops and trials cost (`costs.json`), the same
searches as shipped. ``--full`` first trains every peer for real, by its own loop and by Canopy's,
and scores the winners on test; what has been completed is not trained again.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from benchmarks.machine import machine_text
from benchmarks.peers.measuring import RealPlace, RealRun, simulate_peer, train_peer
from benchmarks.peers.picture import PANELS, picture
from benchmarks.peers.record import read_record
from benchmarks.peers.roster import (
    CANOPY,
    CANOPY_2,
    HYPERBAND,
    PEERS,
    PLAIN,
    RANDOM,
    RAY,
    RAY_2,
    STOPPING,
    STOPPING_2,
    Peer,
)
from benchmarks.peers.summary import Costs, runs_of
from benchmarks.peers.table import Compared, overview_table, real_table, simulated_table
from benchmarks.peers.task import FOLDER, RATES, TRIALS, Lookup, curves_of
from benchmarks.peers.winners import test_aps
from benchmarks.shapes_data import write_shapes
from canopy_search.search.environment import state_home
from canopy_search.search.simulation.landscapes import FAMILIES
from canopy_search.storage.connection.urls import optuna_url
from canopy_search.storage.postgres.embedded import EmbeddedPostgres

COSTS = FOLDER / "peers" / "costs.json"
CURVES = FOLDER / "curves"
SHAPES_TABLE = str(CURVES / "shapes.parquet")
# Nothing of a search was chosen on these. Families of longer runs take longest, so name them.
KEPT = ["kept-plain-8", "kept-late-8", "kept-late-30", RATES]
CHOSEN_ON = [SHAPES_TABLE, str(CURVES / "demo.parquet")]
FIRST_SEED = 3000
"""No default was chosen with these seeds, which draw landscapes, too."""
JPEG_FACTOR = 2
TRAINED = ((PLAIN, HYPERBAND, RANDOM, RAY, STOPPING, RAY_2, STOPPING_2), (CANOPY, CANOPY_2))


def main() -> None:
    """Runs, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="train every peer first")
    parser.add_argument("--real-trials", type=int, default=TRIALS, help="of searches that train")
    parser.add_argument("--seeds", type=int, default=20, help="of simulated searches; 0 for none")
    parser.add_argument("--curves", nargs="+", metavar="NAME", help="families and tables")
    parser.add_argument("--keep-costs", action="store_true", help=f"write {COSTS.name}")
    parser.add_argument("--picture", type=Path, help="SVG to write")
    arguments = parser.parse_args()
    names = [_absolute(name) for name in arguments.curves or [*KEPT, *CHOSEN_ON]]
    if arguments.picture is not None and not set(PANELS) <= set(names):
        parser.error(f"the picture is of {' and '.join(PANELS)}; add them to --curves")
    home = state_home() / "peers"
    home.mkdir(parents=True, exist_ok=True)
    missing = [peer.title for peer in PEERS if not peer.is_installed]
    if missing:
        print(f"not installed, so left out: {', '.join(missing)}; make bench installs them\n")
    print(f"{machine_text()}\n")
    costs = _read_costs()
    data = home / "shapes"
    if arguments.full:
        real = _train(home, data, arguments.real_trials)
        print(
            f"really trained, one search each, from its command to its end:\n\n{real_table(real)}"
        )
        if arguments.keep_costs:
            lookup = Lookup(curves_of(SHAPES_TABLE, 0))
            costs |= {each.peer.key: each.costs(lookup) for each in real if each.own_loop}
            _write_costs(costs)
    if not arguments.seeds:
        return
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    spaces = _simulated(home, names, seeds, costs)
    for name, compared in spaces.items():
        test_ap = {}
        if arguments.full and name == SHAPES_TABLE:
            winners = [run.winner for each in compared for run in each.runs.values() if run.winner]
            test_ap = test_aps(data, home, winners)
        print(f"\n{_title(name)}: simulated, {TRIALS} trials, {len(seeds)} seeds\n")
        print(simulated_table(compared, test_ap))
    for title, was_chosen_on in (("not chosen on", False), ("chosen on", True)):
        overview = {
            name: each for name, each in spaces.items() if _was_chosen_on(name) == was_chosen_on
        }
        if overview:
            shown = ", ".join(map(_title, overview))
            print(f"\nover the spaces that were {title} ({shown}), simulated\n")
            print(overview_table(overview))
    if arguments.picture is not None:
        arguments.picture.write_text(picture({_title(name): each for name, each in spaces.items()}))


def _absolute(name: str) -> str:
    """Returns a family's name, or the path of a table, which peers read from another folder."""
    return name if name in {*FAMILIES, RATES} else str(Path(name).resolve())


def _was_chosen_on(name: str) -> bool:
    return name in CHOSEN_ON or (name in FAMILIES and not FAMILIES[name].is_held_out)


def _title(name: str) -> str:
    return Path(name).stem


def _simulated(
    home: Path, names: Sequence[str], seeds: Sequence[int], costs: dict[str, Costs]
) -> dict[str, list[Compared]]:
    """Runs all peers that are installed, as many at once as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        records = {
            name: {
                peer: pool.submit(simulate_peer, peer, home, name, seeds)
                for peer in PEERS
                # With more workers only where their costs are known.
                if peer.is_installed and (peer.workers == 1 or name == SHAPES_TABLE)
            }
            for name in names
        }
    compared: dict[str, list[Compared]] = {}
    for name, found in records.items():
        curves = {seed: curves_of(name, seed) for seed in seeds}
        best_ap = {seed: each.best_ap for seed, each in curves.items()}
        epochs = curves[seeds[0]].epochs
        compared[name] = []
        for peer, record in found.items():
            cost = costs.get(peer.key) or costs.get(peer.costs) or Costs()
            entries = read_record(record.result())
            is_shipped = name == SHAPES_TABLE
            shipped = runs_of(entries, epochs, cost, peer.workers) if is_shipped else {}
            compared[name].append(Compared(peer, best_ap, runs_of(entries, epochs), shipped, cost))
    return compared


def _train(home: Path, data: Path, trials: int) -> list[RealRun]:
    """Runs searches for real, one after the other, on a server that is there for plain Optuna."""
    if not (data / "labels.csv").exists():
        write_shapes(data, JPEG_FACTOR)
    peers, canopy = TRAINED
    planned: list[tuple[Peer, bool]] = [(peer, True) for peer in (*peers, *canopy)]
    planned += [(peer, False) for peer in peers]
    with tempfile.TemporaryDirectory(prefix="canopy-peers-") as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        place = RealPlace(home, data, optuna_url(server.start()), trials)
        try:
            runs = []
            for peer, own_loop in planned:
                if peer.is_installed:
                    loop = "its own" if own_loop else "Canopy's"
                    print(f"{peer.title}, {peer.workers} at once, {loop} loop", flush=True)
                    runs.append(train_peer(peer, place, own_loop=own_loop))
            return runs
        finally:
            server.stop()


def _read_costs() -> dict[str, Costs]:
    if not COSTS.exists():
        return {}
    document = json.loads(COSTS.read_text())
    return {key: Costs(**values) for key, values in document["costs"].items()}


def _write_costs(costs: dict[str, Costs]) -> None:
    rounded = {
        key: {name: value and round(value, 3) for name, value in asdict(each).items()}
        for key, each in sorted(costs.items())
    }
    document = {"measured": machine_text(), "costs": rounded}
    COSTS.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
