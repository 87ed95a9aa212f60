"""Compares Canopy with what people would use instead: ``make bench``, ``make bench-full``.

First some searches that really train, then every peer's own search code on looked-up epochs, with
the seconds that its real epochs and trials take (`costs.json`, of real searches too), then the
ratios. ``--full`` trains every peer, measures its costs anew, and scores the winners on test.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.machine import machine_text
from benchmarks.peers.measuring import RealRun, simulate_peer, train_peer
from benchmarks.peers.picture import picture
from benchmarks.peers.record import read_record
from benchmarks.peers.roster import CANOPY, CANOPY_2, PEERS, PLAIN, RANDOM, Peer
from benchmarks.peers.summary import Costs, runs_of
from benchmarks.peers.table import TOLERANCE, Compared, ratio_lines, real_table, simulated_table
from benchmarks.peers.task import SHAPES, TRIALS, Curves
from benchmarks.peers.winners import test_aps
from benchmarks.shapes_data import write_shapes
from canopy_search.search.environment import state_home
from canopy_search.storage.connection.urls import optuna_url
from canopy_search.storage.postgres.embedded import EmbeddedPostgres

FOLDER = Path(__file__).parent
TABLE = FOLDER.parent / "curves" / "shapes.parquet"
COSTS = FOLDER / "costs.json"
JPEG_FACTOR = 2
SHORT_TRIALS = 12
SHORT = (PLAIN, RANDOM, CANOPY, CANOPY_2)


def main() -> None:
    """Runs, and prints the tables and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="train every peer")
    parser.add_argument("--only", nargs="+", metavar="KEY", help="train these peers")
    parser.add_argument("--real-trials", type=int, help="of searches that really train; 0 for none")
    parser.add_argument("--seeds", type=int, default=20, help="of simulated searches; 0 for none")
    parser.add_argument("--table", type=Path, default=TABLE, help="learning curves to look up")
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, help="an AP so far below is the same"
    )
    parser.add_argument("--keep-costs", action="store_true", help=f"write {COSTS.name}")
    parser.add_argument("--picture", type=Path, help="SVG to write")
    arguments = parser.parse_args()
    home = state_home() / "peers"
    home.mkdir(parents=True, exist_ok=True)
    missing = [peer.title for peer in PEERS if not peer.is_installed]
    if missing:
        print(f"not installed, so left out: {', '.join(missing)}; make bench installs them\n")
    print(f"{machine_text()}\n")
    data = home / "shapes"
    if not (data / "labels.csv").exists():
        write_shapes(data, JPEG_FACTOR)

    curves = Curves(arguments.table)
    costs = _read_costs()
    trials = arguments.real_trials
    if trials is None:
        trials = TRIALS if arguments.full else SHORT_TRIALS
    if trials:
        chosen = _to_train(arguments.only, full=arguments.full)
        real = _train(chosen, home, data, trials)
        print(f"\nreally trained, {trials} trials each:\n\n{real_table(real, SHAPES.epochs)}\n")
        if arguments.keep_costs:
            measured = Curves(TABLE)
            costs |= {each.peer.key: each.costs(measured) for each in real}
            _write_costs(costs)

    if not arguments.seeds:
        return
    compared = []
    for peer in PEERS:
        if peer.is_installed:
            record = simulate_peer(
                peer, home, arguments.table, TRIALS, list(range(arguments.seeds))
            )
            cost = costs.get(peer.key) or costs.get(peer.costs) or Costs()
            runs = runs_of(read_record(record), curves.space.epochs, cost, peer.workers)
            compared.append(Compared(peer, runs, cost))
    test_ap = {}
    if arguments.full and arguments.table == TABLE:
        winners = [run.winner for each in compared for run in each.runs.values() if run.winner]
        test_ap = test_aps(data, home, winners)
    print(f"simulated on {arguments.table.name}, {TRIALS} trials, {arguments.seeds} seeds:\n")
    print(simulated_table(compared, test_ap, arguments.tolerance))
    print("\nhow many times sooner Canopy is:\n")
    print("\n".join(ratio_lines(compared, arguments.tolerance)))
    if arguments.picture is not None:
        arguments.picture.write_text(picture(compared))


def _to_train(only: list[str] | None, *, full: bool) -> list[Peer]:
    if only:
        return [peer for peer in PEERS if peer.key in only]
    if full:
        return [peer for peer in PEERS if peer.is_installed]
    return list(SHORT)


def _train(peers: list[Peer], home: Path, data: Path, trials: int) -> list[RealRun]:
    """Runs searches for real, one after the other, on a server that is there for plain Optuna."""
    with tempfile.TemporaryDirectory(prefix="canopy-peers-") as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        url = optuna_url(server.start())
        try:
            runs = []
            for peer in peers:
                print(f"training: {peer.title}, {peer.workers} at once", flush=True)
                runs.append(train_peer(peer, home, data, trials, url))
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
