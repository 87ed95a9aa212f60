"""The stub, asked by the real SDK: it keeps what the server keeps, and refuses what it refuses."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.clearml_stub.misbehaviour import STATUSES
from tests.clearml_stub.schemas import check_event
from tests.clearml_stub.server import ACCESS_KEY, SECRET_KEY, Stub

PATIENCE_S = 240.0
LogIn = Callable[[], Any]


@pytest.fixture
def refused() -> Any:
    """The SDK's exception for a request that the server refuses."""
    from clearml.backend_api.session.client import APIError

    return APIError


def new_task(client: Any, name: str = "demo trial 0", **fields: Any) -> str:
    return str(client.tasks.create(name=name, type="training", **fields).id)


def scalar(task: str, value: float, iteration: int = 1, variant: str = "val") -> dict[str, Any]:
    return {
        "type": "training_stats_scalar",
        "task": task,
        "metric": "AP",
        "variant": variant,
        "iter": iteration,
        "value": value,
    }


def report(client: Any, *events: dict[str, Any]) -> Any:
    from clearml.backend_api.services import events as service

    return client.session.send(service.AddBatchRequest(requests=list(events)))


def test_a_task_from_its_creation_to_its_end(stub: Stub, client: Any) -> None:
    project = client.projects.create(name="Planet/search").id
    item = {"section": "search", "name": "gamma", "value": "0.9", "type": "float"}
    task = new_task(
        client,
        project=project,
        tags=["resnet18", "bce"],
        hyperparams={"search": {"gamma": item}},
        configuration={"settings": {"name": "settings", "value": "a: 1", "type": "yaml"}},
    )
    client.tasks.started(task=task)
    added = report(
        client,
        scalar(task, 0.5),
        scalar(task, 0.6, iteration=2),
        {"type": "plot", "task": task, "metric": "p", "variant": "v", "iter": 0, "plot_str": "{}"},
        {"type": "log", "task": task, "msg": "epoch 1", "level": "info"},
    )
    assert added.response.added == 4
    client.tasks.stopped(task=task, status_reason="pruned by asha")

    (held,) = stub.snapshot()["tasks"]
    assert held["status"] == "stopped"
    assert held["status_reason"] == "pruned by asha"
    assert held["tags"] == ["bce", "resnet18"]
    assert held["hyperparams"] == {"search": {"gamma": item}}
    assert held["last_iteration"] == 2
    (last,) = next(iter(held["last_metrics"].values())).values()
    assert (last["value"], last["min_value"], last["max_value"]) == (0.6, 0.5, 0.6)
    assert [event["value"] for event in held["events"] if "value" in event] == [0.5, 0.6]
    assert [line["msg"] for line in held["logs"]] == ["epoch 1"]
    names = {project["name"] for project in stub.snapshot()["projects"]}
    assert names == {"Planet", "Planet/search"}
    got = client.tasks.get_by_id(task=task)
    assert got.hyperparams["search"]["gamma"].value == "0.9"
    assert str(got.status) == "stopped"
    assert client.events.get_task_log(task=task).total == 1


def test_states_follow_each_other_as_the_server_lets_them(client: Any, refused: Any) -> None:
    task = new_task(client)
    with pytest.raises(refused, match="created -> completed"):
        client.tasks.completed(task=task)
    client.tasks.started(task=task)
    client.tasks.started(task=task)
    client.tasks.completed(task=task)
    client.tasks.completed(task=task)
    for move in (client.tasks.stopped, client.tasks.failed):
        with pytest.raises(refused, match="completed -> "):
            move(task=task)
    client.tasks.failed(task=task, force=True)
    assert str(client.tasks.get_by_id(task=task).status) == "failed"
    with pytest.raises(refused, match="Invalid task id"):
        client.tasks.started(task="nowhere")
    client.tasks.ping(task="nowhere")


def test_edits_end_with_the_task(client: Any, refused: Any) -> None:
    task = new_task(client)
    item = {"section": "search", "name": "loss", "value": "bce"}
    client.tasks.edit_hyper_params(task=task, hyperparams=[item])
    client.tasks.started(task=task)
    with pytest.raises(refused, match="expected=created"):
        client.tasks.edit_hyper_params(task=task, hyperparams=[item])
    client.tasks.edit_hyper_params(task=task, hyperparams=[item], force=True)
    client.tasks.add_or_update_artifacts(
        task=task, artifacts=[{"key": "best", "type": "custom", "uri": "http://x/y"}]
    )
    client.tasks.completed(task=task)
    with pytest.raises(refused, match="expected=created"):
        client.tasks.edit_hyper_params(task=task, hyperparams=[item], force=True)
    with pytest.raises(refused, match="expected=created"):
        client.tasks.edit(task=task, comment="late")
    client.tasks.edit(task=task, comment="late", force=True)
    client.tasks.update(task=task, tags=["best"])
    assert client.tasks.get_by_id(task=task).tags == ["best"]
    with pytest.raises(refused, match="use force=True"):
        client.tasks.delete(task=task)
    client.tasks.delete(task=task, force=True)
    assert list(client.tasks.get_all(id=[task])) == []


def test_what_is_not_as_the_schemas_say_is_refused(stub: Stub, client: Any, refused: Any) -> None:
    for name, said in (("ab", "too short"), ("  a  ", "too short")):
        with pytest.raises(refused, match=said):
            client.tasks.create(name=name, type="training")
    with pytest.raises(refused, match="invalid parent"):
        new_task(client, parent="nobody")
    with pytest.raises(refused, match="Invalid project id"):
        new_task(client, project="nowhere")
    with pytest.raises(refused, match=r"hyperparams\.a\.b\.value"):
        new_task(client, hyperparams={"a": {"b": {"section": "a", "name": "b"}}})
    with pytest.raises(refused, match="tag prefix"):
        new_task(client, tags=["__$all"])
    assert stub.snapshot()["tasks"] == []

    # The SDK itself would not send these.
    token = client.session.token
    for action, body, said in (
        ("tasks.create", {"name": "abc"}, "'type' is a required property"),
        ("tasks.create", {"name": 3, "type": "training"}, "name"),
        ("tasks.create", {"name": "abc", "type": "hobby"}, "hobby"),
        ("tasks.create", {"name": "abc", "type": "training", "colour": "red"}, "colour"),
        ("tasks.create", {"name": "abc", "type": "training", "script": {"x": "y"}}, "'x'"),
        ("tasks.ponder", {}, "Unable to find endpoint"),
    ):
        answer = requests.get(
            f"{stub.url}/v2.23/{action}",
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            timeout=PATIENCE_S,
        )
        assert answer.status_code in {400, 404}
        assert said in answer.json()["meta"]["result_msg"]
    assert stub.snapshot()["tasks"] == []
    assert sum(each.problem is not None for each in stub.requests()) >= 12


def test_events_overwrite_and_lines_double(stub: Stub, client: Any, refused: Any) -> None:
    task = new_task(client)
    line = {"type": "log", "task": task, "msg": "epoch 1"}
    for value in (0.5, 0.7):
        report(client, scalar(task, value), line)
    (held,) = stub.snapshot()["tasks"]
    assert [event["value"] for event in held["events"]] == [0.7]
    assert held["overwritten"] == 1
    assert len(held["logs"]) == 2

    for spoilt, said in (
        (scalar(task, float("nan")), "NaN"),
        (scalar(task, 0.5) | {"colour": "red"}, "colour"),
        (scalar(task, 0.5) | {"iter": 1.5}, "iter"),
        (scalar(task, 0.5) | {"value": "0.5"}, "value"),
        (scalar(task, 0.5) | {"value": True}, "value"),
        (scalar("nowhere", 0.5), "Invalid task id"),
        ({"type": "plot", "task": task, "plot_str": "{"}, "plot_str"),
        ({"type": "log", "task": task, "msg": "x", "level": "loud"}, "level"),
    ):
        with pytest.raises(refused, match=said):
            report(client, spoilt)
    mixed = report(client, scalar(task, 0.5, iteration=2), scalar("nowhere", 0.5))
    assert (mixed.response.added, mixed.response.errors) == (1, 1)
    client.tasks.delete(task=task)
    with pytest.raises(refused, match="Invalid task id"):
        report(client, scalar(task, 0.5))


def test_a_log_comes_in_pages_and_no_line_is_lost_between_them(client: Any) -> None:
    task = new_task(client)
    moments = [1000, 2000, 2000, 2000, 3000]
    lines = [
        {"type": "log", "task": task, "msg": f"line {index}", "timestamp": moment}
        for index, moment in enumerate(moments)
    ]
    report(client, *lines)

    def page(**options: Any) -> list[str]:
        events = client.events.get_task_log(task=task, batch_size=2, **options).events
        return [event["msg"][-1] for event in events]

    assert page(order="asc", navigate_earlier=False) == ["0", "1", "2", "3"]
    assert page(order="asc", navigate_earlier=False, from_timestamp=2000) == ["4"]
    assert sorted(page(order="desc")) == ["1", "2", "3", "4"]
    assert page(from_timestamp=2000) == ["0"]


def test_every_type_of_event_is_checked() -> None:
    for event in (
        scalar("t", 1),
        {"type": "training_stats_vector", "task": "t", "values": [1, 2.5]},
        {"type": "training_debug_image", "task": "t", "url": "http://x", "key": "k"},
    ):
        assert check_event(event) is None
        assert "unknown field" in str(check_event(event | {"x": 1}))
    assert "is none of" in str(check_event({"type": "smell", "task": "t"}))
    assert "task is missing" in str(check_event({"type": "log", "msg": "x"}))
    vector = {"type": "training_stats_vector", "task": "t", "values": ["1"]}
    assert "values" in str(check_event(vector))


def test_tasks_are_found_as_the_server_finds_them(client: Any) -> None:
    project = client.projects.create(name="Planet").id
    parent = new_task(client, name="demo", project=project)
    for number in range(5):
        item = {"section": "Canopy", "name": "trial", "value": str(number)}
        new_task(
            client,
            name=f"demo trial {number}",
            project=project,
            parent=parent,
            tags=[f"canopy:demo/{number}", "even" if number % 2 == 0 else "odd"],
            hyperparams={"Canopy": {"trial": item}},
        )

    def found(**query: Any) -> list[str]:
        return [task.name[-1] for task in client.tasks.get_all(order_by=["name"], **query)]

    assert found(tags=["canopy:demo/3"]) == ["3"]
    assert found(tags=["even"], parent=parent) == ["0", "2", "4"]
    assert found(tags=["even", "canopy:demo/1"]) == ["0", "1", "2", "4"]
    assert found(tags=["__$all", "even", "canopy:demo/2"]) == ["2"]
    assert found(tags=["-even"], parent=parent) == ["1", "3"]
    assert found(name="trial [34]$") == ["3", "4"]
    assert found(_any_={"fields": ["name"], "pattern": "TRIAL 1"}) == ["1"]
    assert found(parent=parent, page=1, page_size=2) == ["2", "3"]
    assert found(status=["in_progress"]) == []
    by_parameter = client.tasks.get_all(
        _allow_extra_fields_=True, **{"hyperparams.Canopy.trial.value": ["4"]}
    )
    assert [task.name for task in by_parameter] == ["demo trial 4"]
    (slim,) = client.tasks.get_all(
        tags=["canopy:demo/0"], only_fields=["name", "hyperparams.Canopy.trial"]
    )
    assert slim.name == "demo trial 0"
    assert slim.data.tags is None
    assert slim.hyperparams["Canopy"]["trial"].value == "0"
    assert [each.name for each in client.projects.get_all(name="^Plan")] == ["Planet"]


def test_models_and_files(stub: Stub, client: Any, refused: Any) -> None:
    task = new_task(client)
    path = "Planet/demo.0/models/best.pt"
    sent = requests.post(
        stub.files_url, files={path: ("best.pt", b"\0weights")}, timeout=PATIENCE_S
    )
    assert sent.json() == [path]
    uri = f"{stub.files_url}/{path}"
    assert requests.get(uri, timeout=PATIENCE_S).content == b"\0weights"
    model = client.models.create(name="best", uri=uri, task=task, framework="PyTorch").id
    client.tasks.add_or_update_model(task=task, name="best", type="output", model=model)
    client.tasks.add_or_update_model(task=task, name="best", type="output", model=model)
    (held,) = stub.snapshot()["tasks"]
    assert held["models"]["output"] == [{"name": "best", "model": model}]
    with pytest.raises(refused, match="Invalid model id"):
        client.tasks.add_or_update_model(task=task, name="x", type="output", model="nowhere")
    assert requests.delete(uri, timeout=PATIENCE_S).status_code == 200
    assert stub.snapshot()["files"] == {}


def test_misbehaviour_that_the_client_sees(stub: Stub, client: Any, refused: Any) -> None:
    for kind, status in STATUSES.items():
        # The SDK raises another exception for the statuses at which it would try again.
        expected = refused if kind == "500" else requests.exceptions.RetryError
        stub.misbehave(kind, times=1)
        with pytest.raises(expected, match=f"{status}"):
            client.tasks.get_all()
        assert stub.mood.struck == 1
        assert list(client.tasks.get_all()) == []

    stub.misbehave("lost", times=1, actions="tasks.create")
    with pytest.raises(requests.exceptions.ConnectionError):
        new_task(client)
    assert len(stub.snapshot()["tasks"]) == 1

    stub.misbehave("down")
    with pytest.raises(requests.exceptions.ConnectionError):
        client.tasks.get_all()
    with pytest.raises(requests.exceptions.ConnectionError, match="refused"):
        requests.get(stub.url, timeout=PATIENCE_S)
    stub.behave()
    assert len(client.tasks.get_all()) == 1

    stub.misbehave("hang")
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(f"{stub.url}/debug.ping", timeout=0.2)
    stub.behave()
    assert requests.get(f"{stub.url}/debug.ping", timeout=PATIENCE_S).ok


def test_tokens_end_and_credentials_are_refused(
    stub: Stub, client: Any, log_in: LogIn, refused: Any
) -> None:
    from clearml.backend_api.session.session import LoginError

    logins = [each.action for each in stub.requests()].count("auth.login")
    stub.tokens.expire()
    # The SDK logs in again and then repeats the request with the old token.
    with pytest.raises(refused, match="expired"):
        client.tasks.get_all()
    assert list(client.tasks.get_all()) == []
    actions = [each.action for each in stub.requests()]
    assert actions.count("auth.login") == logins + 1
    stub.misbehave("refused")
    with pytest.raises(LoginError, match="invalid credentials"):
        client.tasks.get_all()
    with pytest.raises(LoginError, match="invalid credentials"):
        log_in()
    stub.behave()
    assert list(client.tasks.get_all()) == []


def test_another_process_sees_and_switches_it(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.clearml_stub", "--port", "0", "--control-port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(6)]
        web = said[-1].split()[-1]
        variables = json.loads(ask(f"{web}/variables"))
        assert variables["CLEARML_API_ACCESS_KEY"] == ACCESS_KEY
        assert SECRET_KEY in "".join(said)
        assert json.loads(ask(f"{web}/holdings"))["tasks"] == []
        assert b"0 tasks" in ask(web)
        ask(f"{web}/misbehave", {"kind": "500"})
        host = variables["CLEARML_API_HOST"]
        assert requests.get(f"{host}/debug.ping", timeout=PATIENCE_S).status_code == 500
        ask(f"{web}/behave", {})
        assert requests.get(f"{host}/debug.ping", timeout=PATIENCE_S).status_code == 200
        (request,) = json.loads(ask(f"{web}/requests"))
        assert not request["writes"]
    finally:
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        process.stdout.close()


def ask(address: str, body: object = None) -> bytes:
    method = "GET" if body is None else "POST"
    answer = requests.request(method, address, json=body, timeout=PATIENCE_S)
    assert answer.ok
    return answer.content
