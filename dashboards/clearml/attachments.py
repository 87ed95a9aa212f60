"""Files of a task: artifacts and models."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from canopy_search.dashboards.clearml.server import TrackerServer
from canopy_search.storage.study.mirror_rows import MirroredTask

_MOST_PREVIEW_CHARACTERS = 65_536


@dataclass(frozen=True)
class Attachment:
    """One file of one task.

    Attributes:
        number: number of the task's trial, or `storage.study.mirror_rows.STUDY_TASK`.
        kind: how the page lists it.
        name: file name, ASCII; it replaces the file of the same name.
        version: changes when the content changes.
        read: returns the content.
        labels: names of a model's outputs.
        comment: description of a model.
    """

    number: int
    kind: Literal["artifact", "model"]
    name: str
    version: str
    read: Callable[[], bytes] = field(repr=False)
    labels: Sequence[str] = ()
    comment: str = ""


def differ(attachments: Sequence[Attachment], row: MirroredTask) -> bool:
    """Whether a task exists and its files differ from the desired ones."""
    sent = {name: file["version"] for name, file in row.sent.get("files", {}).items()}
    return row.task is not None and sent != {
        attachment.name: attachment.version for attachment in attachments
    }


def attach(server: TrackerServer, attachments: Sequence[Attachment], row: MirroredTask) -> None:
    """Uploads files to the file server, and registers them with their task; updates the row.

    The API's own actions for artifacts and models fail for a finished task; an edit works.

    Args:
        server: the server of the task.
        attachments: all desired files of the task.
        row: what was sent of the task.

    Raises:
        TrackerError: the file server or the API server does not accept it.
        OSError: a file cannot be read.
    """
    sent: dict[str, dict[str, Any]] = row.sent.get("files", {})
    if row.task is None:
        return
    files = {
        attachment.name: sent[attachment.name]
        if sent.get(attachment.name, {}).get("version") == attachment.version
        else {"version": attachment.version, **_uploaded(server, attachment, row.task)}
        for attachment in attachments
    }
    server.set_files(
        row.task,
        artifacts=[file["artifact"] for file in files.values() if "artifact" in file],
        models={name: file["model"] for name, file in files.items() if "model" in file},
    )
    row.sent["files"] = files


def _uploaded(server: TrackerServer, attachment: Attachment, task: str) -> dict[str, Any]:
    """Uploads a file; returns how it is registered with its task."""
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
