import math
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from syrupy.assertion import SnapshotAssertion

from benchmarks import peers
from benchmarks.peers.measuring import RealRun
from benchmarks.peers.picture import PANELS, picture
from benchmarks.peers.record import EpochEntry
from benchmarks.peers.roster import CANOPY, CANOPY_2, PEERS, PLAIN, RANDOM, RAY_2, Peer
from benchmarks.peers.summary import Costs, SearchRun
from benchmarks.peers.table import Compared, overview_table, real_table, simulated_table

SETTING = {"backbone": "tinycnn_8", "loss": "bce", "gamma": 0.9}
BEST_AP = 0.42


def searches(peer: Peer, finish_s: float, trained: int, aps: list[float]) -> Compared:
    """A search for each AP, which finds it halfway; as shipped it takes ten times as long."""
    runs, shipped = (
        {
            seed: SearchRun(seed, end_s, 40, trained, trained, 1.0, ap, SETTING, [(end_s / 2, ap)])
            for seed, ap in enumerate(aps)
        }
        for end_s in (finish_s, 10 * finish_s)
    )
    best = dict.fromkeys(runs, BEST_AP)
    return Compared(peer, best, runs, shipped, Costs(trial_s=0.25, peak_mib=1234.0))


COMPARED = [
    searches(PLAIN, 400, 200, [0.40, 0.42, 0.42]),
    searches(RANDOM, 900, 360, [0.30, 0.31, 0.29]),
    searches(CANOPY, 100, 50, [0.42, 0.42, 0.412]),
    searches(RAY_2, 200, 150, [0.42, 0.42, 0.42]),
    searches(CANOPY_2, 50, 50, [0.40, 0.42, 0.42]),
]


def cells_of(table: str, title: str) -> list[str]:
    row = next(line for line in table.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_regret_stands_beside_both_times(words: SnapshotAssertion) -> None:
    table = simulated_table(COMPARED, {"tinycnn_8 bce 0.9": 0.5})
    assert table == words
    plain, random = cells_of(table, PLAIN.title), cells_of(table, RANDOM.title)
    assert plain[2:6] == [".0067 ± .0115", ".0160", "67%", "67%"]
    assert plain[7:11] == ["200", "400", "4.00", "200"]
    assert random[10:13] == ["never", "9000", "9.00"]
    # against Canopy with two workers
    assert cells_of(table, RAY_2.title)[9] == "4.00"


def test_what_was_not_measured_has_no_column() -> None:
    bare = [Compared(each.peer, each.best_ap, each.runs, {}, Costs()) for each in COMPARED]
    head = simulated_table(bare, {}).splitlines()[0]
    assert "as shipped" not in head
    assert "test" not in head


def test_the_interval_is_of_differences_paired_by_seed() -> None:
    low, high = COMPARED[1].excess(COMPARED[2])
    # .12, .11 and .122 more: mean .1173, deviation .0064, t of two degrees of freedom 4.303
    assert math.isclose(low, 0.1173 - 4.303 * 0.00643 / math.sqrt(3), abs_tol=2e-4)
    assert math.isclose(high, 0.1173 + 4.303 * 0.00643 / math.sqrt(3), abs_tol=2e-4)


def test_the_overview_counts_spaces_in_which_a_peer_regrets_more_or_less() -> None:
    worse = [
        searches(CANOPY, 100, 50, [0.2, 0.21, 0.2]),
        searches(PLAIN, 50, 100, [0.4, 0.41, 0.4]),
        searches(RANDOM, 50, 100, [0.4, 0.41, 0.4]),
    ]
    table = overview_table({"one": COMPARED, "another": worse, "third": COMPARED[::-1]})
    assert cells_of(table, PLAIN.title)[1:] == ["2.00", "0.50", "4.00", "3.17", "0", "2", "1"]


def test_a_search_that_failed_to_train_anything_fully_regrets_all() -> None:
    run = SearchRun(0, 10.0, 40, 50, 50, 1.0, None, None, [])
    nothing = Compared(PLAIN, {0: BEST_AP}, {0: run}, {}, Costs())
    assert nothing.regrets == [BEST_AP]
    assert math.isinf(nothing.within_s(0.01))


def test_a_real_search_shows_what_it_takes_outside_of_epochs() -> None:
    entries = [
        EpochEntry(0, trial, epoch, 0.3, 5 + 9.5 * trial + epoch, 1.0, SETTING)
        for trial in range(2)
        for epoch in range(1, 10)
    ]
    row = cells_of(
        real_table([RealRun(PLAIN, False, entries, 900.4, "today · a CPU")]), PLAIN.title
    )
    assert row[1:6] == ["Canopy's", "1", "2", "23.5", "18"]
    assert row[7:] == ["5.0", "0.25", ".3000", "900", "today · a CPU"]


def test_keys_of_peers_are_their_own_and_costs_are_of_a_peer() -> None:
    keys = [peer.key for peer in PEERS]
    assert len(set(keys)) == len(keys)
    assert {peer.costs for peer in PEERS} - {""} <= set(keys)


def test_no_module_hides_a_package_from_a_script_that_is_started_beside_it() -> None:
    names = {path.stem for path in Path(peers.__path__[0]).glob("[!_]*.py")}
    assert not [name for name in names if find_spec(name)]


def test_the_picture_says_what_it_shows_and_that_it_is_simulated() -> None:
    spaces = dict.fromkeys(PANELS, COMPARED[:3])
    drawn = ElementTree.fromstring(picture(spaces))  # noqa: S314 - of our own making
    texts = [each.text or "" for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Canopy", PLAIN.title, "AP below the best of the space"} <= set(texts)
    assert "simulated seconds of training" in texts
    assert any(text.startswith("Simulated") for text in texts)
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}polyline"))) == 3 * len(PANELS)
