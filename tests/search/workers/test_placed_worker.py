"""A worker of a search on another machine: what it is given, and what it answers."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.errors import (
    AcceleratorFailedError,
    SearchFailedError,
    SickWorkerError,
)
from canopy_search.search.events import Ending, WorkerEnded
from canopy_search.search.scheduling.next_trial import SearchEnd
from canopy_search.search.study.configuration import load_config
from canopy_search.search.study.plan import SearchPlan, plan_search
from canopy_search.search.workers import placed_worker as placed_workers
from canopy_search.search.workers.command import (
    ASKED_TO_LEAVE,
    DIED,
    DONE,
    FAILED,
    INTERRUPTED,
    PLACED_VARIABLE,
    SICK,
    TIME_IS_UP,
    UNFIT,
    CanopyWorker,
)
from canopy_search.search.workers.placed_worker import Placed, placed_worker
from canopy_search.search.workers.remote_search import RemoteSearch, worker_ended
from tests.faults.searching import quiet
from tests.planned import requested

SERVER = "postgresql://user:hunter2@db.example/canopy"


def plan_of(folder: Path, url: str | None = SERVER, **search: Any) -> SearchPlan:
    data = {"labels": folder / "labels.csv", "images": folder / "ä 😀"}
    config = CanopyConfig.model_validate({"data": data, "search": search})
    return plan_search(requested(config, folder / "home", "planet/confirm", url, 90), 7)


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The standard input of a placed worker; returns the end that its search holds."""
    reader, writer = os.pipe()
    with os.fdopen(reader) as given:
        monkeypatch.setattr(sys, "stdin", given)
        yield writer


def test_a_machine_gets_the_same_configuration(tmp_path: Path) -> None:
    enqueue = [{"gamma": 0.85}, {"gamma": 0.9, "full": True}]
    plan = plan_of(tmp_path, enqueue=enqueue, sampler={"name": "random"}, max_trial_s=1e-3)
    (tmp_path / "canopy.yaml").write_text(
        RemoteSearch(plan, print).command(threads=2, number=1).config
    )
    given = load_config(tmp_path / "canopy.yaml").settings
    assert given == plan.config
    assert given.search.model_fields_set == plan.config.search.model_fields_set


def test_secrets_are_in_the_environment_alone(tmp_path: Path) -> None:
    command = RemoteSearch(plan_of(tmp_path), print).command(threads=None, number=1)
    assert command.environment == {"DATABASE_URL": SERVER}
    assert "hunter2" not in repr(command)
    assert "hunter2" not in repr((command.arguments, command.config, command.placed))
    assert command.arguments == ("--study", "planet/confirm", "--database-patience", "1.5")
    embedded = RemoteSearch(plan_of(tmp_path, None), print).command(threads=None, number=1)
    assert embedded.environment == {"DATABASE_URL": "", "CANOPY_HOME": str(tmp_path / "home")}
    assert embedded.placed["worker_id"] != command.placed["worker_id"]


def test_a_machine_with_another_canopy_says_so_and_runs_nothing(tmp_path: Path) -> None:
    command = RemoteSearch(plan_of(tmp_path), print).command(threads=None, number=1)
    worker = CanopyWorker(replace(command, version="0.0.9"))
    assert worker.is_there()
    exit_status, reason = worker.wait()
    worker.leave()
    assert exit_status == UNFIT
    here = version("canopy-search")
    assert "expected canopy-search 0.0.9" in reason
    assert f"found canopy-search {here}" in reason
    assert "pip install canopy-search==0.0.9" in reason


def test_what_it_was_placed_with_is_in_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PLACED_VARIABLE, raising=False)
    assert placed_worker() is None
    placed = {"worker_id": 2**62 - 1, "n_trials": 7, "workers": 1, "threads": None}
    monkeypatch.setenv(PLACED_VARIABLE, json.dumps(placed))
    assert placed_worker() == Placed(2**62 - 1, 7)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, DONE),
        (SearchFailedError("3 trials failed in a row"), FAILED),
        (OSError("no space left"), UNFIT),
        (SickWorkerError("3 trials failed in a row here"), SICK),
        (AcceleratorFailedError("CUDA error: unknown error", 3), DIED),
        (KeyboardInterrupt(), INTERRUPTED),
    ],
    ids=["done", "failed", "unfit", "sick", "died", "interrupted"],
)
@pytest.mark.usefixtures("stdin")
def test_its_exit_status_says_how_it_ended(
    error: BaseException | None,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given: list[SearchPlan] = []

    def search(plan: SearchPlan, *_arguments: Any, **_options: Any) -> SearchEnd:
        given.append(plan)
        if error is not None:
            raise error
        return SearchEnd.COMPLETE

    monkeypatch.setattr(placed_workers, "search_in_study", search)
    assert Placed(5, 7, threads=1, number=2).run(plan_of(tmp_path).request, quiet) == status
    reason = "" if error is None else str(error)
    assert capsys.readouterr().err.strip() == reason
    [plan] = given
    assert (plan.worker_id, plan.n_trials, plan.threads, plan.study) == (
        5,
        7,
        1,
        "planet/confirm",
    )
    assert plan.slot in {"cpu 2", "cuda:0"}


def test_it_leaves_when_the_search_that_placed_it_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stdin: int
) -> None:
    def search(*_arguments: Any, **_options: Any) -> None:
        os.close(stdin)
        threading.Event().wait(600)

    monkeypatch.setattr(placed_workers, "search_in_study", search)
    monkeypatch.setattr("canopy_search.search.workers.graceful_exit.GRACE_S", 600.0)
    assert Placed(5, 7).run(plan_of(tmp_path).request, quiet) == INTERRUPTED


def test_a_device_that_a_machine_lacks_is_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placed_workers, "device_slots", no_gpu)
    assert Placed(5, 7).run(plan_of(tmp_path).request, quiet) == UNFIT
    assert "no GPU" in capsys.readouterr().err


def no_gpu(*_arguments: Any) -> Any:
    raise OSError("no GPU")


@pytest.mark.parametrize(
    ("end", "event"),
    [
        ((0, "a warning"), WorkerEnded(Ending.DONE, "a warning")),
        ((FAILED, "why"), WorkerEnded(Ending.FAILED, "why")),
        ((SICK, "why"), WorkerEnded(Ending.SICK, "why")),
        ((UNFIT, "two\nlines"), WorkerEnded(Ending.UNFIT, "two\nlines")),
        ((INTERRUPTED, TIME_IS_UP), WorkerEnded(Ending.LEFT, TIME_IS_UP)),
        ((INTERRUPTED, "Aborted."), WorkerEnded(Ending.LEFT, ASKED_TO_LEAVE)),
        ((-signal.SIGKILL, ""), WorkerEnded(Ending.DIED, "was killed by SIGKILL")),
        ((1, "x\nlast"), WorkerEnded(Ending.DIED, "ended with exit status 1: last")),
    ],
)
def test_the_search_reads_it(end: tuple[int, str], event: WorkerEnded) -> None:
    assert worker_ended(end) == event
