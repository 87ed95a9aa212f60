"""Searches as a user runs them, with ClearML configured: the SDK, HTTP, and a stub of a server."""

import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy

from benchmarks.filled_studies import fill
from canopy_search.search.study.configuration import load_config
from canopy_search.search.study.record import study_record
from canopy_search.search.workflows.mirror import background
from canopy_search.storage.study.studies import StudyStore
from canopy_search.storage.workspace import Workspace
from canopy_search.training.resolve import resolve_settings
from tests.clearml_stub.api import Recorded
from tests.clearml_stub.comparison import differences
from tests.clearml_stub.schemas import check_event, request_class
from tests.clearml_stub.server import ACCESS_KEY, SECRET_KEY, Stub
from tests.databases import within
from tests.integration.in_process import InProcess
from tests.noise_data import noise_dataset
from tests.planet_data import write_planet_data
from tests.planned import planned
from tests.shared_servers import execute

PROJECT = "Planet search"
TRIALS = 6
PATIENCE_S = 250.0
CONFIG = f"""
data: {{labels: train_classes.csv, images: train-jpg, image_px: 32}}
training:
  {{epochs: 2, batch_size: 16, backbone: tinycnn_8, threads: 1, optimizer: {{lr: 3e-3}}}}
search:
  study: planet
  space:
    loss: [bce, weighted_bce, focal_bce]
    gamma: {{low: 0.80, high: 1.00, step: 0.05}}
clearml: {{project: {PROJECT}}}
"""


@pytest.fixture(scope="module")
def database_url(postgres_url: str) -> Iterator[str]:
    """URL of a database that all these tests share."""
    name = f"canopy_{uuid4().hex}"
    execute(postgres_url, f"CREATE DATABASE {name}")
    yield within(postgres_url, name)
    execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module", autouse=True)
def patient() -> Iterator[None]:
    """A search waits for its mirror as long as a busy machine takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(background, "QUIET_S", PATIENCE_S)
        patch.setattr(background, "LONGEST_END_S", PATIENCE_S)
        yield


@pytest.fixture
def many(pytestconfig: pytest.Config) -> int:
    """Trials of a study that nobody mirrored."""
    return 200 if pytestconfig.getoption("exhaustive") else 25


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    stub = Stub().start()
    yield stub
    stub.stop()


@pytest.fixture(scope="module")
def user(stub: Stub, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    """Somebody with 60 images who has configured ClearML."""
    folder = tmp_path_factory.mktemp("user")
    write_planet_data(folder, images=60)
    (folder / "canopy.yaml").write_text(CONFIG)
    variables = stub.variables() | {"HOME": str(folder), "no_proxy": "*"}
    return InProcess(folder, database_url, variables)


@pytest.fixture(scope="module")
def searched(user: InProcess) -> str:
    """What a search said, which is in the database and on the stub then."""
    run = user.run("search", "--trials", str(TRIALS))
    return run.stdout + run.stderr


@pytest.fixture
def here(user: InProcess, stub: Stub) -> Iterator[InProcess]:
    """The same user, whose commands start at once; the stub behaves again afterwards."""
    yield InProcess(user.folder, user.database_url, user.variables)
    stub.behave()


@contextmanager
def opened(user: InProcess) -> Iterator[StudyStore]:
    with closing(Workspace(user.folder / ".canopy", user.database_url).open()) as database:
        store = StudyStore(database)
        yield store
        store.close()


def unlike(user: InProcess, stub: Stub, study: str) -> list[str]:
    """Returns all differences between Postgres and the stub, of one study."""
    held = stub.snapshot()
    mine = [task for task in held["tasks"] if task["name"].startswith(f"{study} ")]
    with opened(user) as store:
        return differences(store, study, {**held, "tasks": mine}, PROJECT)


def test_a_search_is_all_there(searched: str, user: InProcess, stub: Stub) -> None:
    assert unlike(user, stub, "planet") == []
    tasks = stub.snapshot()["tasks"]
    assert sorted(task["type"] for task in tasks) == ["optimizer"] + ["training"] * TRIALS
    assert {task["status"] for task in tasks} == {"completed", "stopped"}
    assert "behind" not in searched


def test_its_pages_are_linked(searched: str, here: InProcess, stub: Stub) -> None:
    mirror = here.json("status")["clearml"]
    held = {task["name"]: task for task in stub.snapshot()["tasks"]}
    for number in range(TRIALS):
        task = held[f"planet trial {number}"]
        page = f"{stub.web_url}/projects/{task['project']}/tasks/{task['id']}/output/log"
        assert mirror["trials"][str(number)] == page
    assert (mirror["mirrored"], mirror["behind"], mirror["problem"]) == (TRIALS, 0, None)


def test_its_requests_are_as_the_official_schemas_say(searched: str, stub: Stub) -> None:
    requests = stub.requests()
    assert [each for each in requests if each.problem is not None] == []
    actions = {each.action for each in requests}
    assert {"tasks.create", "events.add_batch", "tasks.completed", "tasks.stopped"} <= actions
    for each in requests:
        check_by_the_sdk(each)


def check_by_the_sdk(recorded: Recorded) -> None:
    """Lets the SDK's own classes take a request apart, which know each field and its type."""
    service, _, action = recorded.action.partition(".")
    if action in {"login", "ping"}:
        return
    if action == "add_batch":
        assert [problem for event in recorded.body if (problem := check_event(event))] == []
        return
    fields = {name: value for name, value in recorded.body.items() if name != "method"}
    request = request_class(service, action, recorded.version).from_dict(fields, strict=True)
    request.validate()


def test_its_keys_are_nowhere(searched: str, user: InProcess, stub: Stub) -> None:
    texts = [searched, repr(stub.snapshot())]
    logs = list((user.folder / ".canopy" / "logs").rglob("*.log"))
    assert any(log.name == "mirror.log" for log in logs)
    texts += [log.read_text() for log in logs]
    engine = sqlalchemy.create_engine(str(user.database_url), poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        tables = sqlalchemy.inspect(connection).get_table_names()
        assert "canopy_clearml_task" in tables
        for table in tables:
            rows = connection.execute(sqlalchemy.text(f'SELECT t::text FROM "{table}" AS t'))  # noqa: S608
            texts += [str(row[0]) for row in rows]
    for text in texts:
        assert SECRET_KEY not in text
        assert ACCESS_KEY not in text


def test_a_second_look_sends_nothing(searched: str, here: InProcess, stub: Stub) -> None:
    before = len(stub.requests())
    said = here.run("mirror").stdout
    assert f": {TRIALS + 1} tasks " in said
    assert "0 were sent" in said
    assert [each for each in stub.requests()[before:] if each.writes] == []


def test_no_trial_suffers_from_a_server_that_misbehaves(
    searched: str, here: InProcess, stub: Stub, random_seed: int
) -> None:
    """The trials are known already, so that the search is quick; the mirror has as much to do."""
    dice, over, struck = random.Random(random_seed), threading.Event(), []

    def disturb() -> None:
        stub.misbehave("500")
        while not stub.mood.struck and not over.wait(0.02):
            pass
        struck.append(stub.mood.struck)
        for kind in itertools.cycle(["lost", "down", "500", "lost", "429", "503", "refused"]):
            stub.misbehave(kind)
            is_over = over.wait(dice.uniform(0.1, 0.4))
            struck.append(stub.mood.struck)
            stub.behave()
            stub.tokens.expire()
            if is_over or over.wait(dice.uniform(0, 0.2)):
                return

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    try:
        here.run("search", "--trials", str(TRIALS), "--study", "disturbed")
    finally:
        over.set()
        disturbing.join()
    assert sum(struck) > 0
    counts = here.json("status", "--study", "disturbed")["trials"]
    assert (counts["finished"], counts["failed"]) == (TRIALS, 0)
    here.run("mirror", "--study", "disturbed")
    assert unlike(here, stub, "disturbed") == []


def test_a_server_that_is_away_from_start_to_end_changes_nothing(
    searched: str, here: InProcess, stub: Stub
) -> None:
    stub.misbehave("down")
    run = here.run("search", "--trials", "4", "--study", "alone")
    output = run.stdout + run.stderr
    assert "study alone: 4 finished" in output
    assert output.count("refused") in {1, 2}  # when it begins, and at the end
    assert "canopy mirror --study alone" in output
    status = here.json("status", "--study", "alone")
    assert status["trials"]["failed"] == 0
    failed = here.run("mirror", "--study", "alone", status=1)
    assert "refused" in failed.stderr
    stub.behave()
    here.run("mirror", "--study", "alone")
    assert unlike(here, stub, "alone") == []


def test_a_study_that_ended_before_there_was_a_server(
    searched: str, here: InProcess, stub: Stub, many: int
) -> None:
    config = load_config(here.folder / "canopy.yaml").settings
    pruner = config.search.pruner.model_copy(update={"name": "median"})
    config = config.model_copy(
        update={"search": config.search.model_copy(update={"pruner": pruner})}
    )
    plan = planned(config, here.folder / ".canopy", "old", many)
    record: Any = study_record(
        config, plan.space, resolve_settings(config.training), noise_dataset(12, 6, 6)
    )
    with closing(Workspace(here.folder / ".canopy", here.database_url).open()) as database:
        fill(database, plan, many, record=record, target=many)
    before = len(stub.requests())
    said = here.run("mirror", "--study", "old").stdout
    assert f": {many + 1} tasks " in said
    assert unlike(here, stub, "old") == []
    sent = stub.requests()[before:]
    assert [each for each in sent if each.problem is not None] == []

    said = here.run("mirror", "--study", "old").stdout
    assert "0 were sent" in said
    assert [each for each in stub.requests()[before + len(sent) :] if each.writes] == []
