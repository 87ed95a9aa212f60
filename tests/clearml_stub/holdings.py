"""What the server holds: projects, tasks with their events, models, uploaded files."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Document = dict[str, Any]

COMPANY = "d1bd92a3b039400cbafc60a7a5b1e52b"
USER = "__stub_user__"


def new_id() -> str:
    return uuid.uuid4().hex


def now_text() -> str:
    return datetime.now(UTC).isoformat()


@dataclass
class TaskEvents:
    """The events of one task.

    Attributes:
        latest: those that overwrite, by type, metric, variant and iteration (and key of an image).
        logs: all lines, in the order in which they came.
        overwritten: how often one of `latest` came again.
    """

    latest: dict[tuple[Any, ...], Document] = field(default_factory=dict)
    logs: list[Document] = field(default_factory=list)
    overwritten: int = 0

    def of_type(self, kind: str) -> list[Document]:
        return [event for key, event in self.latest.items() if key[0] == kind]


@dataclass
class Holdings:
    """All of it, by ids.

    Attributes:
        files: bytes that the file server has, by their path.
    """

    projects: dict[str, Document] = field(default_factory=dict)
    tasks: dict[str, Document] = field(default_factory=dict)
    events: dict[str, TaskEvents] = field(default_factory=dict)
    models: dict[str, Document] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def events_of(self, task_id: str) -> TaskEvents:
        return self.events.setdefault(task_id, TaskEvents())

    def as_json(self) -> Document:
        """Returns everything as JSON values; of files their sizes."""
        return {
            "projects": list(self.projects.values()),
            "tasks": [
                {
                    **task,
                    "events": list(self.events_of(task["id"]).latest.values()),
                    "logs": list(self.events_of(task["id"]).logs),
                    "overwritten": self.events_of(task["id"]).overwritten,
                }
                for task in self.tasks.values()
            ],
            "models": list(self.models.values()),
            "files": {path: len(content) for path, content in self.files.items()},
        }
