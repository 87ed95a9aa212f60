import math
from pathlib import Path

import pytest

from benchmarks.peers.record import EpochEntry, Recorder, read_record
from benchmarks.peers.summary import Costs, overhead_s, runs_of, summarize, with_costs

EPOCHS = 2


def entry(trial: int, epoch: int, val_ap: float, at_s: float, train_s: float = 1.0) -> EpochEntry:
    params = {"backbone": f"net_{trial}", "loss": "bce", "gamma": 0.9}
    return EpochEntry(0, trial, epoch, val_ap, at_s, train_s, params)


SEARCH = [
    entry(0, 1, 0.5, 1.0),
    entry(0, 2, 0.3, 2.0),
    entry(1, 1, 0.9, 3.0),  # stopped: its AP is not that of a whole training
    entry(2, 1, 0.5, 3.25, train_s=0.0),
    entry(2, 2, 0.4, 4.5),
    entry(3, 2, 0.35, 6.0),
]


def test_only_trials_with_all_their_epochs_can_be_the_best() -> None:
    run = summarize(SEARCH, EPOCHS)
    assert run.improvements == [(2.0, 0.3), (4.5, 0.4)]
    assert (run.best_ap, run.finish_s) == (0.4, 6.0)
    assert run.winner is not None
    assert run.winner["backbone"] == "net_2"


def test_replayed_epochs_are_reported_but_not_trained() -> None:
    run = summarize(SEARCH, EPOCHS)
    assert (run.trials, run.reported, run.trained, run.trained_s) == (4, 6, 5, 5.0)


def test_when_an_ap_is_reached() -> None:
    run = summarize(SEARCH, EPOCHS)
    assert run.reached_s(0.3) == 2.0
    assert run.reached_s(0.31) == 4.5
    assert run.reached_s(0.41) == math.inf


def test_without_a_whole_training_nothing_is_found() -> None:
    run = summarize(SEARCH[:1], EPOCHS)
    assert (run.best_ap, run.winner, run.reached_s(0.0)) == (None, None, math.inf)


def test_costs_lengthen_epochs_and_delay_by_the_trials_begun_so_far() -> None:
    costs = Costs(epoch_factor=2.0, trial_s=0.5, start_s=10.0)
    assert [each.at_s for each in with_costs(SEARCH, costs, workers=1)] == pytest.approx(
        [12.5, 14.5, 17.0, 18.0, 20.5, 24.0]
    )
    # Two workers share the time outside of epochs.
    assert with_costs(SEARCH, costs, workers=2)[-1].at_s == pytest.approx(10 + 4 * 0.25 + 12)


def test_the_overhead_that_is_measured_is_the_one_that_was_added() -> None:
    alone = [entry(trial, 1, 0.1, trial + 1.0) for trial in range(4)]
    costs = Costs(epoch_factor=3.0, trial_s=0.7, start_s=5.0)
    run = summarize(with_costs(alone, costs, workers=1), EPOCHS)
    assert overhead_s(run, 1, start_s=5.0) == pytest.approx(0.7)


def test_a_record_is_read_as_it_was_written_seed_by_seed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "deep" / "record.jsonl")
    for each in reversed(SEARCH):
        recorder.add(each)
    assert read_record(recorder.path) == SEARCH
    assert list(runs_of(read_record(recorder.path), EPOCHS)) == [0]
