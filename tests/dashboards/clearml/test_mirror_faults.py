"""Whatever becomes of the server or the mirror: in the end all is there, and nothing twice."""

import base64
import json
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy
from optuna.trial import TrialState

from canopy_search.dashboards.clearml import mirror, session
from canopy_search.storage.database import Database
from canopy_search.storage.schema.tables import CLEARML_TASK
from tests.clearml_stub.comparison import differences
from tests.clearml_stub.server import ACCESS_KEY, SECRET_KEY, Stub
from tests.dashboards.clearml.conftest import STUDY
from tests.dashboards.clearml.growing_study import EPOCHS, GrowingStudy
from tests.dashboards.clearml.mirror_here import PROJECT, MirrorHere
from tests.waiting import wait_until

NewStudy = Callable[[int], GrowingStudy]
NewMirror = Callable[..., MirrorHere]
ENDS = "tasks.(completed|stopped|failed)"
LOSSES = (
    "projects.create",
    "tasks.create",
    "tasks.started",
    "tasks.edit",
    "events.add_batch",
    ENDS,
)
# Of answers that are handled alike, `make test` has one.
ONE_OF_A_KIND = [
    pytest.param(actions, marks=pytest.mark.exhaustive)
    if actions in {"tasks.started", "tasks.edit"}
    else actions
    for actions in LOSSES
]


def unlike(study: GrowingStudy, stub: Stub) -> list[str]:
    """Returns all differences between Postgres and the stub."""
    return differences(study.store, STUDY, stub.snapshot(), PROJECT.format(study=STUDY))


def scalars_of(stub: Stub, name: str) -> int:
    """Returns how many points the stub has of a trial's curves."""
    for task in stub.snapshot()["tasks"]:
        if task["name"] == name:
            return sum(event["type"] == "training_stats_scalar" for event in task["events"])
    return 0


def disturbed(
    study: GrowingStudy, following: MirrorHere, stub: Stub, disturb: Callable[[], None]
) -> None:
    """Lets a search go on, disturbs it in the middle, and ends it after a while."""
    study.run()
    study.run(1, TrialState.PRUNED)
    under_way = study.begin()
    study.report(under_way, 1)
    following.start()
    wait_until(lambda: scalars_of(stub, f"{STUDY} trial {under_way}") > 0, "the first epoch")
    disturb()
    study.report(under_way, 2)
    study.run(2, TrialState.FAIL)
    study.run(state=TrialState.PRUNED)


def finish(study: GrowingStudy, following: MirrorHere, under_way: int = 2) -> None:
    """Ends a search, and waits for the mirror."""
    study.report(under_way, EPOCHS)
    study.end(under_way, TrialState.COMPLETE)
    study.run()
    status = following.wait()
    assert (status.behind, status.gone, status.rejected) == (0, 0, None)


@pytest.mark.parametrize(
    "kind",
    [
        *("down", "hang", "500", "429", "502", "refused"),
        pytest.param("503", marks=pytest.mark.exhaustive),
    ],
)
def test_a_server_that_misbehaves_in_the_middle(
    stub: Stub, new_study: NewStudy, new_mirror: NewMirror, kind: str
) -> None:
    study, following = new_study(5), new_mirror()
    failures = lambda: [each for each in following.outcomes if isinstance(each, str)]  # noqa: E731
    with pytest.MonkeyPatch.context() as patched:

        def disturb() -> None:
            if kind == "hang":  # a slow machine is not to be taken for a server that hangs
                for name in ("_session_timeout", "_session_initial_timeout"):
                    patched.setattr(session._PromptSession, name, (0.5, 0.2))
            stub.misbehave(kind)

        disturbed(study, following, stub, disturb)
        wait_until(lambda: len(failures()) >= 3, "the mirror is in trouble")
    said = [note for note in following.notes if "trials continue" in note]
    assert said == list(dict.fromkeys(said)), "it says the same again and again"
    assert 1 <= len(said) <= 2
    stub.behave()
    finish(study, following)
    assert unlike(study, stub) == []
    assert following.notes[-1] == "ClearML answers again"
    assert_no_secret(*following.notes, *(str(each) for each in following.outcomes))


@pytest.mark.parametrize("actions", ONE_OF_A_KIND)
def test_an_answer_that_is_lost_doubles_nothing(
    stub: Stub, new_study: NewStudy, new_mirror: NewMirror, actions: str
) -> None:
    study, following = new_study(5), new_mirror()
    if actions == "projects.create":
        stub.misbehave("lost", 2, actions)
        disturbed(study, following, stub, lambda: None)
    else:
        disturbed(study, following, stub, lambda: stub.misbehave("lost", 2, actions))
    wait_until(lambda: stub.mood.struck > 0, "an answer was lost")
    finish(study, following)
    assert unlike(study, stub) == []


def test_any_answer_may_be_lost(
    stub: Stub, new_study: NewStudy, new_mirror: NewMirror, random_seed: int
) -> None:
    dice = random.Random(random_seed)
    study, following = new_study(8), new_mirror()
    following.start()
    for _ in range(6):
        stub.misbehave("lost", dice.randint(1, 4), dice.choice([*LOSSES, "", "get_all", "login"]))
        study.run(dice.randint(1, EPOCHS), dice.choice([TrialState.COMPLETE, TrialState.PRUNED]))
        time.sleep(dice.uniform(0, 0.1))
    stub.behave()
    study.run()
    study.run()
    following.wait()
    assert unlike(study, stub) == []


def test_a_mirror_that_finds_tasks_by_their_tags_leaves_a_persons(
    stub: Stub, new_study: NewStudy, new_mirror: NewMirror, database: Database
) -> None:
    study = new_study(3)
    study.run()
    second = study.run()
    new_mirror().once()
    add_tag(stub, second, "look at this")
    with database.engine.begin() as connection:
        connection.execute(sqlalchemy.delete(CLEARML_TASK))
    assert "best" in held_trial(stub, second)["tags"]
    study.run()  # is better
    new_mirror().once()
    assert unlike(study, stub) == []
    assert "look at this" in held_trial(stub, second)["tags"]


def test_a_token_that_expires_is_replaced(
    stub: Stub, new_study: NewStudy, new_mirror: NewMirror
) -> None:
    study, following = new_study(5), new_mirror()
    disturbed(study, following, stub, stub.tokens.expire)
    finish(study, following)
    assert unlike(study, stub) == []
    assert [each.action for each in stub.requests()].count("auth.login") >= 2
    assert [note for note in following.notes if "refuses" in note] == []


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.exhaustive)])
def test_a_mirror_that_is_killed_again_and_again(
    stub: Stub, new_study: NewStudy, new_mirror: NewMirror, random_seed: int, kills: int
) -> None:
    dice = random.Random(random_seed)
    study = new_study(2 * kills + 1)
    study.database.engine.dispose()  # no process is to inherit a connection
    for _ in range(kills):
        # Two trials, so that every mirror has something to do.
        study.run(dice.randint(1, EPOCHS), dice.choice([TrialState.COMPLETE, TrialState.PRUNED]))
        study.run()
        seen, enough = len(stub.requests()), dice.randint(1, 18)
        process = new_mirror().process()
        deadline_s = time.monotonic() + 2.0  # with nothing left to ask it is killed as it waits
        wait_until(
            lambda: len(stub.requests()) >= seen + enough or time.monotonic() > deadline_s,  # noqa: B023
            "the mirror works",
        )
        time.sleep(dice.uniform(0, 0.004))
        assert process.is_alive()
        process.kill()
        process.join()
    study.run()
    last = new_mirror().start()
    last.wait()
    assert unlike(study, stub) == []


def test_the_last_of_a_search_is_in_its_own_task_however_seldom_that_is_sent(
    stub: Stub, new_study: NewStudy, new_mirror: NewMirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "STUDY_EVERY_S", 3600.0)
    study, following = new_study(3), new_mirror()
    following.start()
    for _ in range(3):
        rounds = len(following.outcomes)
        study.run()
        wait_until(lambda: len(following.outcomes) > rounds, "a look")  # noqa: B023
    following.wait()
    assert unlike(study, stub) == []


def test_of_two_mirrors_one_stands_by(
    stub: Stub, new_study: NewStudy, new_mirror: NewMirror
) -> None:
    study = new_study(3)
    study.run()
    first, second = new_mirror(), new_mirror()
    first.start()
    wait_until(lambda: bool(first.outcomes), "the first one works")
    second.start()
    wait_until(lambda: bool(second.notes), "the second one says something")
    assert "another mirror is active" in second.notes[0]
    study.run()
    assert {type(outcome) for outcome in second.outcomes} <= {str}, "it works"
    assert new_mirror().once() is None
    first.stop()
    study.run()
    second.wait()
    assert len(second.notes) == 1
    assert unlike(study, stub) == []


def test_a_task_that_a_person_deleted_stays_away_until_it_is_asked_for(
    stub: Stub, new_study: NewStudy, new_mirror: NewMirror
) -> None:
    study = new_study(3)
    study.run()
    study.run()
    new_mirror().once()
    ask(stub, "tasks.delete", task=held_trial(stub, 1)["id"], force=True)
    study.run()  # becomes the best, so that something of the deleted one would change too
    status = new_mirror().once()
    assert status is not None
    assert status.gone == 1
    assert unlike(study, stub) == ["trial 1: 0 tasks"]
    assert new_mirror().once() is not None
    assert unlike(study, stub) == ["trial 1: 0 tasks"]

    status = new_mirror(recreate=True).once()
    assert status is not None
    assert status.gone == 0
    assert unlike(study, stub) == []


def add_tag(stub: Stub, number: int, tag: str) -> None:
    """Does what a person does on a task's page."""
    task = held_trial(stub, number)
    ask(stub, "tasks.update", task=task["id"], tags=[*task["tags"], tag])


def held_trial(stub: Stub, number: int) -> dict[str, Any]:
    """Returns the task of a trial, as the stub has it."""
    tasks = stub.snapshot()["tasks"]
    (found,) = [task for task in tasks if task["name"] == f"{STUDY} trial {number}"]
    return dict(found)


def ask(stub: Stub, action: str, **fields: object) -> None:
    """Does something as a person would on the server's pages."""
    token = stub.tokens.login(basic(), None)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    status, envelope = stub.api.call(action, "2.23", headers, json.dumps(fields).encode(), {})
    assert status == 200, envelope


def basic() -> str:
    return f"Basic {base64.b64encode(f'{ACCESS_KEY}:{SECRET_KEY}'.encode()).decode()}"


def assert_no_secret(*texts: str) -> None:
    for text in texts:
        assert SECRET_KEY not in text
        assert ACCESS_KEY not in text
