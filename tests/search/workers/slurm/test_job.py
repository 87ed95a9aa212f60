"""A job leaves in time at every signal, and reports it."""

import os
import pickle
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.workers.node_agent import decisive_versions
from canopy_search.search.workers.slurm import job
from canopy_search.search.workers.slurm.event_log import EventLogTail
from canopy_search.search.workers.slurm.job import (
    CALLED_OFF,
    EVENTS,
    OVER,
    STARTED,
    left_s,
    margin_s,
)
from tests.waiting import HANG_S, wait_until

NOW_S = 1_800_000_000.0
_SCRIPT = """
import sys, time
from canopy_search.search.workers.slurm import job
job.warm_up = lambda: None
job._GRACE_S = 600.0  # a slow machine must not look like one that cannot be interrupted
def work(folder, event_log, versions, pickled):
    event_log.emit("note", ("at work",))
    if pickled == b"fails":
        raise ValueError("broken")
    time.sleep(600)
job._work = work
job.run_job(sys.argv[1], {}, sys.argv[2].encode())
"""


class Clock:
    """Clock that advances by `step_s` whenever it is read."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.now_s = NOW_S
        self.step_s = step_s

    def time(self) -> float:
        self.now_s += self.step_s
        return self.now_s

    monotonic = time


def start(folder: Path, how: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(folder), how], stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT], ids=lambda each: each.name
)
def test_whatever_slurm_and_submitit_send_a_job_leaves(
    tmp_path: Path, number: signal.Signals
) -> None:
    process, tail = start(tmp_path, "sleeps"), EventLogTail(tmp_path / EVENTS)
    events = []
    wait_until(lambda: events.extend(tail.read()) or len(events) == 2, "it is at work")  # type: ignore[func-returns-value]
    process.send_signal(signal.SIGCONT)  # comes with every SIGTERM
    process.send_signal(number)
    process.communicate(timeout=HANG_S)
    assert process.returncode == 0
    events += tail.read()
    assert events == [
        (STARTED, (socket.gethostname(),), ""),
        ("note", ("at work",), ""),
        ("left", ("it was asked to leave",), ""),
        (OVER, ("ended",), ""),
    ]


def test_a_job_that_dies_says_of_what(tmp_path: Path) -> None:
    process = start(tmp_path, "fails")
    _, stderr = process.communicate(timeout=HANG_S)
    assert process.returncode == 1
    assert stderr.rstrip().endswith("ValueError: broken")
    *_, log, over = EventLogTail(tmp_path / EVENTS).read()
    assert log[0] == "log"
    assert "Traceback" in log[1][0]
    assert over == (OVER, ("died of ValueError: broken",), "")


def test_the_clock_runs_since_the_job_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "time", Clock())
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    monkeypatch.setenv("SLURM_JOB_START_TIME", str(NOW_S - 100))
    assert left_s(3600) == 3500
    # An administrator may have shortened it.
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(NOW_S + 50))
    assert left_s(3600) == 50


def test_without_slurm_the_clock_runs_since_the_process_that_watches_the_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SLURM_JOB_START_TIME", "SLURM_JOB_END_TIME"):
        monkeypatch.delenv(name, raising=False)
    clock = Clock()
    clock.now_s = psutil.Process(os.getppid()).create_time() + 100
    monkeypatch.setattr(job, "time", clock)
    assert left_s(10_000) == pytest.approx(9_900)


def test_a_job_begins_to_leave_some_time_before_its_limit() -> None:
    assert [margin_s(limit_s) for limit_s in (60, 600, 86_400)] == [10, 30, 60]


def test_a_job_is_called_off_when_the_file_says_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "_CHECK_CANCELLED_EVERY_S", 0.0)
    is_cancelled = job._cancel_check(tmp_path / CALLED_OFF)
    assert not is_cancelled()
    (tmp_path / CALLED_OFF).touch()
    assert not is_cancelled()
    (tmp_path / CALLED_OFF).write_text("called off\n")
    assert is_cancelled()


def test_a_node_with_other_versions_says_so_and_reads_no_order(
    tmp_path: Path, words: SnapshotAssertion
) -> None:
    versions = decisive_versions() | {"torch": "0.1"}
    job._work(tmp_path, job.EventLog(tmp_path / EVENTS), versions, b"not a pickle")
    ((name, (reason, is_everywhere), _),) = EventLogTail(tmp_path / EVENTS).read()
    assert (name, is_everywhere) == ("failed", False)
    assert "torch" in reason
    assert "torch==0.1 " in reason
    here = reason.replace(decisive_versions()["torch"], "VERSION")
    assert re.sub(r"==[\w.+]+", "==VERSION", here) == words


def test_an_order_is_given_what_is_left_and_the_cores_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from canopy_search.search.workers import node_agent

    given = []
    monkeypatch.setattr(node_agent, "work_to_order", lambda order, *_: given.append(order))
    monkeypatch.setattr(job, "time", Clock())
    monkeypatch.setenv("SLURM_JOB_START_TIME", str(NOW_S))
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    order = node_agent.Order(None, "postgresql://x", workers=1)  # type: ignore[arg-type]
    pickled = pickle.dumps(job.Job(order, 3600))
    job._work(tmp_path, job.EventLog(tmp_path / EVENTS), decisive_versions(), pickled)
    assert given[0].threads == 3
    assert given[0].limit_s == 3540


def test_batches_are_told_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from canopy_search.search.workers.backend import WorkerEvent

    monkeypatch.setattr(job, "time", Clock(step_s=0.125))
    emit = job._throttled_emit(job.EventLog(tmp_path / EVENTS))
    for at in range(40):
        emit(WorkerEvent("batch_done", (1, at, 40)))
    emit(WorkerEvent("batch_done", (1, 0, 40), ".2"))
    emit(WorkerEvent("epoch_done", (1,)))
    assert EventLogTail(tmp_path / EVENTS).read() == [
        ("batch_done", (1, 0, 40), ""),
        ("batch_done", (1, 16, 40), ""),
        ("batch_done", (1, 32, 40), ""),
        ("batch_done", (1, 0, 40), ".2"),
        ("epoch_done", (1,), ""),
    ]
