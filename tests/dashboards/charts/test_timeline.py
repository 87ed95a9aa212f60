import re
from datetime import timedelta

from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.charts.timeline import (
    WorkClock,
    lanes,
    sentence,
    stints,
    timeline_charts,
)
from canopy_search.dashboards.study.model import TrialData
from tests.dashboards.studies import BEGIN, RUNNING, Epochs, data, trial
from tests.dashboards.summaries import worker

DAY_S = 86_400.0


def at(seconds: float) -> timedelta:
    return BEGIN + timedelta(seconds=seconds)


def test_epochs_that_follow_each_other_are_one_stint() -> None:
    study = data([trial(0, [0.1, 0.2, 0.3], epochs=Epochs(begin_s=0, trained=[2, 3]))])
    (stint,) = stints(study)
    assert (stint.first, stint.last, stint.seconds) == (2, 3, 20.0)
    assert stint.begin == at(10)


def test_trials_at_the_same_time_lie_in_lanes() -> None:
    study = data(
        [
            trial(0, [0.1, 0.2], epochs=Epochs(begin_s=0)),
            trial(1, [0.1], epochs=Epochs(begin_s=5)),
            trial(2, [0.1], epochs=Epochs(begin_s=15)),
            trial(3, [0.1], epochs=Epochs(begin_s=20)),
        ]
    )
    found = stints(study)
    assert lanes(found) == [0, 1, 1, 0]
    by_lane: dict[int, list[TrialData]] = {}
    for stint, lane in zip(found, lanes(found), strict=True):
        by_lane.setdefault(lane, []).append(stint.trial)
    assert [[t.number for t in by_lane[lane]] for lane in (0, 1)] == [[0, 3], [1, 2]]


def test_a_pause_is_cut_out_of_the_clock() -> None:
    study = data(
        [
            trial(0, [0.1] * 8, epochs=Epochs(begin_s=0)),
            trial(1, [0.1] * 8, epochs=Epochs(begin_s=DAY_S)),
        ]
    )
    clock = WorkClock(stints(study))
    assert clock.at(at(0)) == 0
    assert clock.at(at(80)) == 80
    assert clock.at(at(DAY_S)) == 80 + 0.02 * 160
    assert clock.at(at(DAY_S + 80)) == 160 + 0.02 * 160
    ((where, length),) = clock.pauses
    assert 80 < where < clock.at(at(DAY_S))
    assert length == DAY_S - 80
    assert "a pause of 23 h 58 min" in sentence(study, stints(study))


def test_short_breaks_stay() -> None:
    study = data(
        [
            trial(0, [0.1] * 8, epochs=Epochs(begin_s=0)),
            trial(1, [0.1] * 8, epochs=Epochs(begin_s=300)),
        ]
    )
    clock = WorkClock(stints(study))
    assert clock.pauses == []
    assert clock.at(at(300)) == 300


def test_the_sentence_says_how_busy_the_workers_were(words: SnapshotAssertion) -> None:
    there = worker(7, started=at(0), seen=at(200), ended=at(200), end_reason="left")
    study = data([trial(0, [0.1] * 8, epochs=Epochs(begin_s=0))], workers=[there])
    says = sentence(study, stints(study))
    assert "40 %" in says
    assert re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", says) == words  # it is local


def test_every_stint_and_worker_has_its_bar() -> None:
    there = worker(7, started=at(0), seen=at(200), ended=at(200), end_reason="left")
    study = data(
        [
            trial(0, [0.1] * 8, epochs=Epochs(begin_s=0)),
            trial(1, [0.1] * 4, epochs=Epochs(begin_s=10)),
        ],
        workers=[there],
    )
    (chart,) = timeline_charts(study)
    bars, presence = chart.figures[0].data
    assert sorted(bars.text) == ["0", "1"]
    assert sorted(bars.y) == [0, 1]
    assert list(presence.x) == [0, 80]  # the axis ends with the work
    assert list(chart.figures[0].layout.yaxis.ticktext)[-1] == "forest cuda:0 (7)"


def test_plain_optuna_says_when_a_trial_began_and_ended() -> None:
    from dataclasses import replace

    local = (BEGIN.astimezone().replace(tzinfo=None), (at(30)).astimezone().replace(tzinfo=None))
    plain = replace(trial(0), began=local[0], ended=local[1])
    (stint,) = stints(data([plain, trial(1, state=RUNNING)]))
    assert (stint.begin, stint.seconds) == (BEGIN, 30.0)
    assert timeline_charts(data([])) == []
