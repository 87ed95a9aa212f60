"""Files reach the file server, and the tasks that they belong to, also those that have ended."""

import warnings
from typing import Any

import pytest

from canopy_search.dashboards.clearml.attachments import Attachment, attach, differ
from canopy_search.dashboards.clearml.credentials import tracker_settings
from canopy_search.dashboards.clearml.desired_state import DesiredTask
from canopy_search.dashboards.clearml.server import TrackerServer
from canopy_search.dashboards.errors import TrackerError, TrackerRejectsError
from canopy_search.storage.study.mirror_rows import MirroredTask
from tests.clearml_stub.server import FilesHandler, Stub


@pytest.fixture
def server(stub: Stub) -> TrackerServer:
    from canopy_search.dashboards.clearml.session import TrackerSession

    settings = tracker_settings()
    assert settings is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the SDK's own parser, as it reads its settings
        return TrackerServer(TrackerSession(settings))


@pytest.fixture
def row(server: TrackerServer) -> MirroredTask:
    """A task that has ended."""
    desired = DesiredTask(0, "canopy:1", "a trial", "training", "completed", tags=("canopy:1",))
    task = server.create(desired, server.project("Canopy/files"), None)
    server.start(task)
    server.end(task, "completed", "")
    return MirroredTask(0, task, "completed")


def files(version: str = "1", content: bytes = b"loss: bce\n") -> list[Attachment]:
    return [
        Attachment(0, "artifact", "best.yaml", version, read=lambda: content),
        Attachment(0, "model", "best.pt", "1", read=lambda: b"weights", labels=("a", "b")),
    ]


def held(stub: Stub) -> dict[str, Any]:
    [task] = stub.snapshot()["tasks"]
    return dict(task)


def test_an_artifact_and_a_model(stub: Stub, server: TrackerServer, row: MirroredTask) -> None:
    assert differ(files(), row)
    attach(server, files(), row)
    assert not differ(files(), row)
    task = held(stub)
    [artifact] = task["execution"]["artifacts"]
    assert (artifact["key"], artifact["content_size"]) == ("best.yaml", 10)
    assert artifact["type_data"]["preview"] == "loss: bce\n"
    [output] = task["models"]["output"]
    [model] = stub.snapshot()["models"]
    assert (output["name"], output["model"]) == ("best.pt", model["id"])
    assert model["labels"] == {"a": 0, "b": 1}
    assert artifact["uri"].endswith(f"/canopy/{row.task}/artifacts/best.yaml")
    assert task["status"] == "completed"


def test_only_what_is_new_is_uploaded_again(
    stub: Stub, server: TrackerServer, row: MirroredTask
) -> None:
    attach(server, files(), row)
    before = stub.snapshot()["models"]
    attach(server, files("2", b"loss: focal\n"), row)
    assert stub.snapshot()["models"] == before
    [artifact] = held(stub)["execution"]["artifacts"]
    assert artifact["type_data"]["preview"] == "loss: focal\n"
    assert [each["name"] for each in held(stub)["models"]["output"]] == ["best.pt"]


@pytest.mark.parametrize("status", [302, 307])
def test_a_file_server_that_redirects_gets_no_file_elsewhere(
    stub: Stub,
    server: TrackerServer,
    row: MirroredTask,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    def redirect(handler: FilesHandler) -> None:
        handler.content()
        handler.send_response(status)
        handler.send_header("Location", f"{stub.files_url}/elsewhere")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    monkeypatch.setattr(FilesHandler, "do_POST", redirect)
    with pytest.raises(TrackerRejectsError, match="redirects to another address"):
        attach(server, files(), row)


def test_a_lost_answer_makes_no_second_model(
    stub: Stub, server: TrackerServer, row: MirroredTask
) -> None:
    stub.misbehave("lost", times=1, actions="models.create")
    with pytest.raises(TrackerError):
        attach(server, files(), row)
    assert differ(files(), row)
    attach(server, files(), row)
    assert len(stub.snapshot()["models"]) == 1
    assert len(held(stub)["models"]["output"]) == 1
