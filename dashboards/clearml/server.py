"""Calls of ClearML's API that the mirror needs, in as few requests as possible."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from canopy_search.dashboards.clearml.desired_state import (
    PASSING_TAGS,
    DesiredTask,
    LogLine,
    Plot,
    Scalar,
)
from canopy_search.dashboards.errors import TrackerRejectsError

if TYPE_CHECKING:
    from canopy_search.dashboards.clearml.session import TrackerSession

_SEARCHED_AT_ONCE = 100
_LINES_AT_ONCE = 1000
# ClearML shows only the latest iteration of a plot; one fixed iteration replaces it in place.
_PLOT_STEP = 0
_WORKER = "canopy"


@dataclass(frozen=True)
class FoundTask:
    """A task that exists on the server.

    Attributes:
        id: its id on the server.
        tags: its tags.
        state: its status in ClearML.
    """

    id: str
    tags: tuple[str, ...]
    state: str


class TrackerServer:
    """The server's projects, tasks and events.

    Args:
        session: an open session.
    """

    def __init__(self, session: "TrackerSession") -> None:
        self.session = session

    def project(self, name: str) -> str:
        """Returns the id of the project of that name, which is created if it does not exist.

        Spaces around the parts of a nested name (``parent/child``) are ignored.
        """
        name = "/".join(part.strip() for part in name.split("/") if part.strip())
        pattern = f"^{re.escape(name)}$"
        found = self.session.call("projects", "get_all", name=pattern, only_fields=["id", "name"])
        for project in found:
            if project.name == name:
                return str(project.id)
        return str(self.session.call("projects", "create", name=name).id)

    def find(self, identities: Sequence[str]) -> dict[str, FoundTask]:
        """Returns the tasks with one of some tags, by tag; the oldest if there are several."""
        found: dict[str, FoundTask] = {}
        for batch in _batches(list(identities), _SEARCHED_AT_ONCE):
            for task in self._tasks(tags=batch, order_by=["created"]):
                for identity in set(batch) & set(task.tags):
                    found.setdefault(identity, task)
        return found

    def existing(self, ids: Sequence[str]) -> dict[str, FoundTask]:
        """Returns the tasks that exist on the server, by id."""
        return {
            task.id: task
            for batch in _batches(list(ids), _SEARCHED_AT_ONCE)
            for task in self._tasks(id=batch)
        }

    def create(self, desired: DesiredTask, project: str, parent: str | None) -> str:
        """Creates a task; returns its id."""
        fields: dict[str, Any] = {
            "type": desired.type,
            "project": project,
            "tags": list(desired.tags),
            **_parts(desired),
        }
        if parent is not None:
            fields["parent"] = parent
        if self.session.wants_input_view:
            fields["input"] = {"view": {}}
        return str(self.session.call("tasks", "create", **fields).id)

    def edit(self, task: str, desired: DesiredTask, parts: Sequence[str]) -> None:
        """Changes some parts of a task; their names are the keys of `DesiredTask.parts`."""
        fields = {name: value for name, value in _parts(desired).items() if name in parts}
        self.session.call("tasks", "edit", task=task, force=True, **fields)

    def set_tags(self, task: str, canopy_tags: Sequence[str]) -> None:
        """Sets Canopy's tags of a task; tags that a user added stay."""
        found = self.existing([task]).get(task)
        if found is None:
            raise TrackerRejectsError(f"task {task} does not exist")
        kept = [tag for tag in found.tags if tag not in PASSING_TAGS]
        tags = list(dict.fromkeys([*kept, *canopy_tags]))
        if set(tags) != set(found.tags):
            self.session.call("tasks", "edit", task=task, force=True, tags=tags)

    def start(self, task: str) -> None:
        """Marks a task as running."""
        self.session.call("tasks", "started", task=task, force=True)

    def end(self, task: str, state: str, reason: str) -> None:
        """Marks a task as completed, stopped or failed, with the reason."""
        fields = {"status_reason": reason, "status_message": reason} if reason else {}
        self.session.call("tasks", state, task=task, force=True, **fields)

    def ping(self, task: str) -> None:
        """Tells the server that a running task is alive."""
        self.session.call("tasks", "ping", task=task)

    def add_events(
        self,
        task: str,
        scalars: Sequence[Scalar],
        plots: Sequence[Plot],
        lines: Sequence[LogLine],
        at_ms: int,
    ) -> None:
        """Adds events to a task; scalars and plots replace those of the same name and step.

        Args:
            task: id of the task.
            scalars: points of its curves.
            plots: its figures.
            lines: lines of its log; they are appended even if the log has them already.
            at_ms: when the figures were drawn, in milliseconds since 1970.
        """
        events: list[dict[str, Any]] = [
            {
                "type": "training_stats_scalar",
                "task": task,
                "metric": scalar.group,
                "variant": scalar.series,
                "iter": scalar.step,
                "value": scalar.value,
                "timestamp": scalar.at_ms,
            }
            for scalar in scalars
        ]
        events += [
            {
                "type": "plot",
                "task": task,
                "metric": plot.group,
                "variant": plot.series,
                "iter": _PLOT_STEP,
                "plot_str": plot.figure,
                "timestamp": at_ms,
            }
            for plot in plots
        ]
        events += [
            {
                "type": "log",
                "task": task,
                "timestamp": line.at_ms,
                "level": line.level,
                "msg": line.text,
                "worker": _WORKER,
            }
            for line in lines
        ]
        if not events:
            return
        answer = self.session.call("events", "add_batch", requests=events)
        if answer.errors:
            raise TrackerRejectsError(f"{answer.errors} of {len(events)} events were not added")

    def lines(self, task: str) -> set[tuple[int, str]]:
        """Returns the lines of a task's log, as (milliseconds since 1970, text)."""
        found: set[tuple[int, str]] = set()
        since: float | None = None
        while True:
            fields: dict[str, Any] = {"task": task, "batch_size": _LINES_AT_ONCE, "order": "asc"}
            if since is not None:
                fields |= {"from_timestamp": since, "navigate_earlier": False}
            events = self.session.call("events", "get_task_log", **fields).events or []
            page = {(int(event["timestamp"]), str(event["msg"])) for event in events}
            if len(events) < _LINES_AT_ONCE or page <= found:
                return found | page
            found |= page
            since = max(at_ms for at_ms, _ in page)

    def set_files(
        self, task: str, *, artifacts: Sequence[dict[str, Any]], models: Mapping[str, str]
    ) -> None:
        """Replaces a task's artifacts and its output models.

        Args:
            task: id of the task.
            artifacts: in the API's format.
            models: name → id.
        """
        self.session.call(
            "tasks",
            "edit",
            task=task,
            force=True,
            execution={"artifacts": list(artifacts)},
            models={"output": [{"name": name, "model": id_} for name, id_ in models.items()]},
        )

    def model(self, task: str, *, name: str, uri: str, labels: Sequence[str], comment: str) -> str:
        """Returns the id of the model of a task's file, which is created if it does not exist."""
        found = self.session.call(
            "models", "get_all", task=[task], only_fields=["id", "name", "uri"]
        )
        for model in found:
            if (model.name, model.uri) == (name, uri):
                return str(model.id)
        created = self.session.call(
            "models",
            "create",
            name=name,
            uri=uri,
            task=task,
            framework="PyTorch",
            labels={label: index for index, label in enumerate(labels)},
            comment=comment,
            ready=True,
        )
        return str(created.id)

    def _tasks(self, **query: Any) -> list[FoundTask]:
        answer = self.session.call(
            "tasks",
            "get_all",
            only_fields=["id", "tags", "status"],
            search_hidden=True,
            page=0,
            page_size=5 * _SEARCHED_AT_ONCE,
            **query,
        )
        return [
            FoundTask(
                str(task.id),
                tuple(task.tags or ()),
                str(getattr(task.status, "value", task.status)),
            )
            for task in answer
        ]


def _parts(desired: DesiredTask) -> dict[str, Any]:
    """Returns the editable parts in the API's format; their names are those of `parts`."""
    return {
        "name": desired.name,
        "comment": desired.comment,
        "hyperparams": {
            section: {
                name: {"section": section, "name": name, "value": value}
                for name, value in values.items()
            }
            for section, values in desired.hyperparams.items()
        },
        "configuration": {
            name: {"name": name, "type": kind, "value": text}
            for name, (kind, text) in desired.configuration.items()
        },
    }


def _batches(items: list[str], size: int) -> list[list[str]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
