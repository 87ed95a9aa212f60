"""Files that belong to a task: an artifact, or the model that it gave."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from canopy_search.dashboards.clearml.server import TrackerServer
from canopy_search.storage.study.mirrored import MirroredTask

_MOST_PREVIEW_CHARACTERS = 65_536


@dataclass(frozen=True)
class Attachment:
    """One file of one task.

    Attributes:
        number: of the task's trial, or `storage.study.mirrored.STUDY_TASK`.
        kind: what it is on the page.
        name: of the file, ASCII; it replaces the one of the same name.
        version: another one if the content is another one.
        read: returns the content.
        labels: of a model's outputs.
        comment: of a model, for people.
    """

    number: int
    kind: Literal["artifact", "model"]
    name: str
    version: str
    read: Callable[[], bytes] = field(repr=False)
    labels: Sequence[str] = ()
    comment: str = ""


def differ(attachments: Sequence[Attachment], row: MirroredTask) -> bool:
    """Whether a task is there and lacks any of the files that it should have."""
    sent = {name: file["version"] for name, file in row.sent.get("files", {}).items()}
    return row.task is not None and sent != {each.name: each.version for each in attachments}


def attach(server: TrackerServer, attachments: Sequence[Attachment], row: MirroredTask) -> None:
    """Puts files on the file server and makes them known to their task; the row says so then.

    A task that has ended takes neither artifacts nor models by the actions that are made for it,
    but takes both as an edit.

    Args:
        server: that the task is on.
        attachments: all that the task should have.
        row: of the task.

    Raises:
        TrackerError: the file server or the server does not take it.
        OSError: a file cannot be read.
    """
    sent: dict[str, dict[str, Any]] = row.sent.get("files", {})
    if row.task is None:
        return
    files = {
        each.name: sent[each.name]
        if sent.get(each.name, {}).get("version") == each.version
        else {"version": each.version, **_uploaded(server, each, row.task)}
        for each in attachments
    }
    server.set_files(
        row.task,
        artifacts=[file["artifact"] for file in files.values() if "artifact" in file],
        models={name: file["model"] for name, file in files.items() if "model" in file},
    )
    row.sent["files"] = files


def _uploaded(server: TrackerServer, attachment: Attachment, task: str) -> dict[str, Any]:
    """Returns how a file is made known, now that it is on the file server."""
    content = attachment.read()
    if attachment.kind == "model":
        uri = server.session.upload(
            f"canopy/{task}/models/{attachment.name}", content, "application/octet-stream"
        )
        model = server.model(
            task,
            name=attachment.name,
            uri=uri,
            labels=attachment.labels,
            comment=attachment.comment,
        )
        return {"model": model}
    kind = "text/yaml"
    uri = server.session.upload(f"canopy/{task}/artifacts/{attachment.name}", content, kind)
    artifact = {
        "key": attachment.name,
        "type": "custom",
        "mode": "output",
        "uri": uri,
        "content_size": len(content),
        "hash": hashlib.sha256(content).hexdigest(),
        "timestamp": int(time.time()),
        "type_data": {
            "preview": content.decode(errors="replace")[:_MOST_PREVIEW_CHARACTERS],
            "content_type": kind,
        },
    }
    return {"artifact": artifact}
