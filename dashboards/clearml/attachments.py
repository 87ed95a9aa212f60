"""Files that belong to a task: an artifact, or the model that it gave."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dashboards.clearml.server import TrackerServer
from storage.mirrored import MirroredTask

_MOST_PREVIEW_CHARACTERS = 65_536


@dataclass(frozen=True)
class Attachment:
    """One file of one task.

    Attributes:
        number: of the task's trial, or `storage.mirrored.STUDY_TASK`.
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


def differs_from(attachment: Attachment, row: MirroredTask) -> bool:
    """Whether a file is still to be sent."""
    sent = row.sent.get("files", {}).get(attachment.name)
    return row.task is not None and bool(sent != attachment.version)


def attach(server: TrackerServer, attachment: Attachment, row: MirroredTask) -> None:
    """Puts a file on the file server and makes it known to its task; the row says so then.

    Raises:
        TrackerError: the file server or the server does not take it.
        OSError: the file cannot be read.
    """
    task = row.task
    if task is None:
        return
    content = attachment.read()
    folder = "models" if attachment.kind == "model" else "artifacts"
    text = attachment.kind == "artifact"
    kind = "text/yaml" if text else "application/octet-stream"
    uri = server.session.upload(f"canopy/{task}/{folder}/{attachment.name}", content, kind)
    if text:
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
        server.add_artifact(task, artifact)
    else:
        server.add_model(
            task,
            name=attachment.name,
            uri=uri,
            labels=attachment.labels,
            comment=attachment.comment,
        )
    row.sent["files"] = row.sent.get("files", {}) | {attachment.name: attachment.version}
