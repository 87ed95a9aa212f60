"""What the server has and the mirror does not know is put right."""

from collections.abc import Callable

import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from canopy_search.dashboards.clearml import mirror
from canopy_search.dashboards.errors import TrackerUnavailableError
from canopy_search.storage.study.mirror_rows import MirrorStore
from tests.clearml_stub.server import Stub
from tests.dashboards.clearml.conftest import STUDY
from tests.dashboards.clearml.growing_study import EPOCHS, GrowingStudy
from tests.dashboards.clearml.mirror_here import MirrorHere
from tests.dashboards.clearml.test_mirror_faults import ask, unlike
from tests.waiting import wait_until

NewStudy = Callable[[int], GrowingStudy]
NewMirror = Callable[..., MirrorHere]


def states(stub: Stub) -> dict[str, str]:
    return {task["name"]: task["status"] for task in stub.snapshot()["tasks"]}


def test_a_running_task_is_pinged_and_a_finished_one_is_not(
    stub: Stub, new_study: NewStudy, new_mirror: NewMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PING_S", 0.01)
    study, following = new_study(2), new_mirror()
    study.run()
    running = study.begin()
    following.start()

    def pinged() -> set[str]:
        requests = [each for each in stub.requests() if each.action == "tasks.ping"]
        names = {task["id"]: task["name"] for task in stub.snapshot()["tasks"]}
        return {names[str(each.body["task"])] for each in requests}

    expected = {f"{STUDY} trial {running}", f"{STUDY} search"}
    wait_until(lambda: pinged() == expected, "what runs is pinged")
    assert f"{STUDY} trial 0" not in pinged()


def test_what_the_server_took_for_dead_runs_again(
    stub: Stub, new_study: NewStudy, new_mirror: NewMirror
) -> None:
    study, first = new_study(1), new_mirror()
    running = study.begin()
    study.report(running, 1)
    name = f"{STUDY} trial {running}"
    first.start()
    wait_until(lambda: states(stub).get(name) == "in_progress", "it runs")
    first.stop()
    for task in stub.snapshot()["tasks"]:
        ask(stub, "tasks.stopped", task=task["id"], force=True, status_reason="non-responsive")
    assert states(stub)[name] == "stopped"
    second = new_mirror().start()
    wait_until(lambda: set(states(stub).values()) == {"in_progress"}, "it runs again")
    study.report(running, 2)
    study.report(running, EPOCHS)
    study.end(running, TrialState.COMPLETE)
    second.wait()
    assert unlike(study, stub) == []


def test_a_tag_whose_acknowledgement_was_lost_passes_all_the_same(
    stub: Stub, new_study: NewStudy, new_mirror: NewMirror
) -> None:
    study = new_study(2)
    running = study.begin()
    new_mirror().once()
    stub.misbehave("lost", times=2, actions="events.add_batch")
    study.report(running, 1)
    with pytest.raises(TrackerUnavailableError):
        new_mirror().once()
    for epoch in range(2, EPOCHS + 1):
        study.report(running, epoch)
    study.end(running, TrialState.COMPLETE)
    with pytest.raises(TrackerUnavailableError):
        new_mirror().once()  # has called it the best, and does not know that it has
    study.run()
    new_mirror().once()
    assert unlike(study, stub) == []


def test_a_search_whose_end_was_not_acknowledged_goes_on(
    stub: Stub, new_study: NewStudy, new_mirror: NewMirror
) -> None:
    study = new_study(2)
    study.run()
    new_mirror().once()
    study.store.launch(STUDY, 1, {})
    stub.misbehave("lost", times=1, actions="tasks.completed")
    with pytest.raises(TrackerUnavailableError):
        new_mirror().once()  # has ended the study's own task, and does not know that it has
    assert states(stub)[f"{STUDY} search"] == "completed"
    study.store.launch(STUDY, 2, {})
    study.begin()
    new_mirror().once()
    assert states(stub)[f"{STUDY} search"] == "in_progress"


def test_what_a_killed_mirror_left_as_wrong_is_wrong_no_more(
    stub: Stub, new_study: NewStudy, new_mirror: NewMirror
) -> None:
    study = new_study(2)
    study.run()
    new_mirror(is_live=False).once()
    following = new_mirror(is_live=False)
    left = MirrorStore(study.database, study.study_id, following.plan.server)
    left.write_problem("it does not answer in time")
    following.start()
    wait_until(lambda: bool(following.outcomes), "a round, in which nothing is sent")
    state = left.read_state()
    assert (state.problem, state.since) == (None, None)


def test_a_database_that_is_away_together_with_the_server_ends_no_mirror(
    stub: Stub, new_study: NewStudy, new_mirror: NewMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, following = new_study(1), new_mirror()
    study.run()
    stub.misbehave("down")
    failures = [OperationalError("INSERT", {}, Exception("the connection is closed"))]
    write = MirrorStore.write_problem

    def write_problem(store: MirrorStore, problem: str | None) -> None:
        if failures:
            raise failures.pop()
        write(store, problem)

    monkeypatch.setattr(MirrorStore, "write_problem", write_problem)
    following.start()
    wait_until(lambda: bool(following.outcomes), "the database is back, the server is not")
    assert failures == []
    stub.behave()
    following.wait()
    assert unlike(study, stub) == []
