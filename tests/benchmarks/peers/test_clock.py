from dataclasses import dataclass, field
from typing import Any

from benchmarks.peers.clock import Begun, Decision, run_clock
from canopy_search.search.simulation.curves import CurvePoint

CURVES = {
    "fast": [CurvePoint("f1", 0.1, 1.0), CurvePoint("f2", 0.2, 1.0), CurvePoint("f3", 0.3, 1.0)],
    "slow": [CurvePoint("s1", 0.4, 5.0), CurvePoint("s2", 0.5, 5.0), CurvePoint("s3", 0.6, 5.0)],
}


def curve_of(params: dict[str, Any]) -> list[CurvePoint]:
    return CURVES[params["backbone"]]


@dataclass
class Listed:
    """Begins what it is given, decides as it is told, and remembers what it heard."""

    begins: list[Begun]
    decisions: dict[tuple[int, int], Decision] = field(default_factory=dict)
    heard: list[tuple[str, int, int]] = field(default_factory=list)

    def next_trial(self) -> Begun | None:
        return self.begins.pop(0) if self.begins else None

    def report(self, trial: int, epoch: int, val_ap: float) -> Decision:
        self.heard.append(("report", trial, epoch))
        return self.decisions.get((trial, epoch), Decision.GO_ON)

    def complete(self, trial: int, epoch: int, val_ap: float) -> None:
        self.heard.append(("complete", trial, epoch))


def begun(trial: int, backbone: str) -> Begun:
    return Begun(trial, {"backbone": backbone})


def test_with_one_worker_time_is_the_sum_of_all_epochs() -> None:
    entries = run_clock(Listed([begun(0, "fast"), begun(1, "slow")]), curve_of, 1, seed=3)
    assert [entry.at_s for entry in entries] == [1.0, 2.0, 3.0, 8.0, 13.0, 18.0]
    assert [entry.val_ap for entry in entries] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert {entry.seed for entry in entries} == {3}


def test_two_workers_train_side_by_side_and_results_come_in_the_order_of_time() -> None:
    scheduler = Listed([begun(0, "slow"), begun(1, "fast"), begun(2, "fast")])
    entries = run_clock(scheduler, curve_of, 2, seed=0)
    assert [(entry.at_s, entry.trial, entry.epoch) for entry in entries] == [
        (1.0, 1, 1),
        (2.0, 1, 2),
        (3.0, 1, 3),
        (4.0, 2, 1),
        (5.0, 0, 1),
        (5.0, 2, 2),
        (6.0, 2, 3),
        (10.0, 0, 2),
        (15.0, 0, 3),
    ]


def test_a_stopped_trial_frees_its_worker_and_is_not_told_to_be_complete() -> None:
    scheduler = Listed([begun(0, "slow"), begun(1, "fast")], {(0, 1): Decision.STOP})
    entries = run_clock(scheduler, curve_of, 1, seed=0)
    assert [(entry.at_s, entry.trial) for entry in entries] == [(5, 0), (6, 1), (7, 1), (8, 1)]
    assert [each for each in scheduler.heard if each[0] == "complete"] == [("complete", 1, 3)]


def test_a_paused_trial_goes_on_where_it_was() -> None:
    begins = [begun(0, "slow"), begun(1, "fast"), begun(0, "slow")]
    scheduler = Listed(begins, {(0, 1): Decision.PAUSE})
    entries = run_clock(scheduler, curve_of, 1, seed=0)
    assert [(entry.trial, entry.epoch, entry.at_s) for entry in entries if entry.trial == 0] == [
        (0, 1, 5.0),
        (0, 2, 13.0),
        (0, 3, 18.0),
    ]
