import math
from xml.etree import ElementTree

from syrupy.assertion import SnapshotAssertion

from benchmarks.peers.picture import picture
from benchmarks.peers.roster import CANOPY, CANOPY_2, PEERS, PLAIN, RANDOM, Peer
from benchmarks.peers.summary import Costs, SearchRun
from benchmarks.peers.table import Compared, ratio_lines, simulated_table, targets_of

SETTING = {"backbone": "tinycnn_8", "loss": "bce", "gamma": 0.9}


def searches(peer: Peer, finish_s: float, trained: int, aps: list[float]) -> Compared:
    """A search for each AP, which finds it halfway."""
    runs = {
        seed: SearchRun(
            seed, finish_s, 40, trained, trained, 1.0, ap, SETTING, [(finish_s / 2, ap)]
        )
        for seed, ap in enumerate(aps)
    }
    return Compared(peer, runs, Costs(trial_s=0.25, peak_mib=1234.0))


COMPARED = [
    searches(PLAIN, 400, 200, [0.40, 0.42]),
    searches(RANDOM, 900, 360, [0.40, 0.30]),
    searches(CANOPY, 100, 50, [0.40, 0.42]),
    searches(CANOPY_2, 50, 50, [0.40, 0.42]),
]


def test_targets_are_plain_optunas_best_of_the_same_seed() -> None:
    assert targets_of(COMPARED[0], 0.0) == {0: 0.40, 1: 0.42}
    assert COMPARED[1].reached_s(targets_of(COMPARED[0], 0.0)) == [450, math.inf]


def test_the_table_says_how_many_seeds_reached_the_ap() -> None:
    rows = simulated_table(COMPARED, {"tinycnn_8 bce 0.9": 0.5}).splitlines()
    assert len(rows) == 2 + len(COMPARED)
    cells = [cell.strip() for cell in rows[3].strip("|").split("|")]
    assert cells[:5] == ["random search, no pruning", "1", "900 ± 0", "never", "1 of 2"]
    assert cells[5:] == ["360 ± 0", ".3500 ± .0707", ".5000 ± .0000", "0.25", "1,234"]


def test_each_aim_is_called_met_or_missed(words: SnapshotAssertion) -> None:
    lines = ratio_lines(COMPARED)
    assert lines[0].endswith(": met")
    # Random search finds it in one of two seeds alone.
    ratios = {0: "4.0×", 1: "9.0×", 2: "4.0×", 4: "∞", -1: "4.0×"}
    assert {at: lines[at].split()[0] for at in ratios} == ratios
    assert ".0050" in lines[2]
    blind = [*COMPARED[:2], searches(CANOPY, 100, 50, [0.30, 0.30]), COMPARED[3]]
    assert "\n".join([*lines, ratio_lines(blind)[2]]) == words
    assert ratio_lines(blind)[2].endswith(": missed")
    slow = [COMPARED[0], COMPARED[1], searches(CANOPY, 300, 150, [0.40, 0.42]), COMPARED[3]]
    assert ratio_lines(slow)[0].endswith(": missed")


def test_keys_of_peers_are_their_own_and_costs_are_of_a_peer() -> None:
    keys = [peer.key for peer in PEERS]
    assert len(set(keys)) == len(keys)
    assert {peer.costs for peer in PEERS} - {""} <= set(keys)


def test_the_picture_is_svg_and_names_who_is_drawn() -> None:
    drawn = ElementTree.fromstring(picture(COMPARED))  # noqa: S314 - of our own making
    texts = [each.text for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Canopy", "Optuna, TPE + median", "validation AP", "seconds"} <= set(texts)
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}polyline"))) == 3
