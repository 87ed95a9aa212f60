import re
from dataclasses import replace
from datetime import datetime

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.terminal.status import doing_text, state_text, status_lines
from canopy_search.storage.workers.registry import WorkerSummary
from tests.dashboards.summaries import at, study, trial, worker


def test_a_study_that_nobody_works_on_and_that_nothing_is_wrong_with_says_no_more(
    words: SnapshotAssertion,
) -> None:
    lines = status_lines(study([trial(0, "COMPLETE", 2)], [worker(1, end="left")]))
    assert len(lines) == 3
    assert "AP .2000: trial 0, " in lines[1]
    assert "\n".join(lines) == words


def test_every_worker_has_a_line_and_says_what_is_odd(words: SnapshotAssertion) -> None:
    workers = [
        worker(41, 7, doing=at(7, 3, 8)),
        worker(42),
        worker(43, 8, doing=at(8, 1, 2), idle_s=12.0),
        worker(44, 9, doing=at(9, 2, 20), stuck_s=200.0),
    ]
    running = [trial(number, "RUNNING") for number in (7, 8, 9)]
    lines = status_lines(study(running, workers))[2:]
    facts = [
        ["4"],
        ["(41)", "trial 7", "epoch 3 of 8", "40 %"],
        ["(42)"],
        ["(43)", "trial 8", "epoch 1 of 8", "10 %", "12 s"],
        ["(44)", "trial 9", "epoch 2 of 8", "100 %", "3 min"],
    ]
    for line, expected in zip(lines, facts, strict=True):
        assert all(fact in line for fact in expected), line
    assert "\n".join(lines) == words


def test_what_went_wrong_is_told_with_its_reason(words: SnapshotAssertion) -> None:
    failed = [
        trial(at, "FAIL", reason=f"OSError: disk {at}", ended=datetime(2026, 3, 1, 9, at))
        for at in (4, 1, 3)
    ]
    reasons = {20: "diverged: the loss is nan", 21: "max_trial_s: 9 s of training", 22: "asha: no"}
    failed += [trial(at, "PRUNED", reason=reason) for at, reason in reasons.items()]
    failed[3] = replace(failed[3], ended=datetime(2026, 3, 1, 9, 2))
    workers = [
        worker(41, end="died", idle_s=200.0),
        worker(42, end="left"),
        worker(43, end="died", idle_s=7200.0),  # no longer recent
        worker(44, 6, is_lost=True, is_connected=False),
        worker(45, is_lost=True),
    ]
    left = [trial(number, "INTERRUPTED") for number in range(5, 15)]
    lines = status_lines(study([*failed, *left], workers))
    seen = [each.seen.astimezone() for each in workers]
    facts = [
        ["(41)", f"{seen[0]:%H:%M:%S}"],
        ["(44)", f"{seen[3]:%H:%M:%S}"],
        ["(45)", f"{seen[4]:%H:%M:%S}"],
        ["5, 6, 7, 8, 9, 10, 11, 12 and 2 more"],
        ["trial 4 ", "OSError: disk 4"],
        ["trial 3 ", "OSError: disk 3"],
        ["trial 20 ", "diverged: the loss is nan"],
        ["2 trials"],
    ]
    for line, expected in zip(lines[2:], facts, strict=True):
        assert all(fact in line for fact in expected), line
    assert re.sub(r"\d\d:\d\d:\d\d", "TIME", "\n".join(lines[2:])) == words


def test_a_device_where_all_workers_die_is_one_line(words: SnapshotAssertion) -> None:
    dead = [worker(number, end="died", idle_s=100.0 - number) for number in range(41, 46)]
    (line,) = status_lines(study([], dead))[2:]
    assert "(45)" in line
    assert re.sub(r"\d\d:\d\d:\d\d", "TIME", line) == words
    *_, line = status_lines(study([], [*dead, worker(46)]))
    assert "none runs there" not in line


def test_what_an_error_says_cannot_colour_the_screen() -> None:
    (line,) = status_lines(study([trial(0, "FAIL", reason="\x1b[31mred\x07")], []))[2:]
    assert line == "trial 0 failed: \N{REPLACEMENT CHARACTER}[31mred\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("control", "living"),
    [
        ("pause", True),
        ("pause", False),
        ("stop-finishing", True),
        ("stop-pruning", True),
        ("stop-pruning", False),
    ],
)
def test_what_a_person_told_the_study_is_said(
    control: str, living: bool, words: SnapshotAssertion
) -> None:
    workers = [worker(41)] if living else []
    lines = status_lines(study([], workers, control=control))
    [line] = [line for line in lines if line not in status_lines(study([], workers))]
    assert line == words


@pytest.mark.parametrize(
    ("seen", "does", "state"),
    [
        (worker(1, 7, doing=at(7, 3, 8)), "trial 7, epoch 3 of 8, 40 %", "works"),
        (worker(1, 8, doing=at(7, 8, 20)), "trial 8", "works"),  # it still reports the last one
        (worker(1, 8), "trial 8", "works"),
        (worker(1, doing=at(7, 8, 20)), "waits", "waits"),
        (worker(1, 7, idle_s=9.0), "trial 7", "silent"),
        (worker(1, 7, doing=at(7, 1, 1), is_lost=True), "–", "answers no more"),
        (worker(1, 7, is_lost=True, is_connected=False), "–", "died"),
        (worker(1, end="left"), "–", "left"),
        (worker(1, 7, doing={"trial": 7, "epoch": 2}), "trial 7, epoch 2", "works"),
    ],
)
def test_what_a_worker_does_and_how_it_is(seen: WorkerSummary, does: str, state: str) -> None:
    assert (doing_text(seen), state_text(seen)) == (does, state)


def test_json_tells_of_workers_failures_and_orders() -> None:
    trials = [trial(0, "COMPLETE", 1), trial(1, "FAIL", reason="OSError: x"), trial(2, "RUNNING")]
    trials += [trial(3, "INTERRUPTED"), trial(4, "PAUSED", 1)]
    workers = [worker(41, 2, doing=at(2, 1, 1)), worker(42, is_lost=True)]
    document = study(trials, workers, control="pause").as_json()
    counts = document["trials"]
    assert (counts["running"], counts["interrupted"], counts["paused"]) == (1, 1, 1)
    assert document["control"] == "pause"
    assert document["target"] == 20
    assert document["failures"] == [{"number": 1, "state": "FAIL", "reason": "OSError: x"}]
    assert [each["living"] for each in document["workers"]] == [True, False]
    assert [each["end_reason"] for each in document["workers"]] == [None, "answers no more"]
    assert document["workers"][0]["doing"] == at(2, 1, 1)
    assert document["workers"][0]["started"] == "2026-03-01T11:00:00+00:00"


def test_a_study_is_over_when_nothing_begins_any_more() -> None:
    done = [trial(number, "PRUNED", 1) for number in range(3)]
    assert study(done, [], target=3).is_over
    assert not study(done, [], target=4).is_over
    assert not study(done, [], target=4, control="pause").is_over
    assert study(done, [], target=4, control="stop-finishing").is_over
    assert study([], [], target=None).is_over
