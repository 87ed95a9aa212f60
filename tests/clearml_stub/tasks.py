"""The actions of the tasks service: making, finding, changing states, deleting.

After `apiserver/services/tasks.py` and `apiserver/bll/task/` of the server.
"""

import copy
from typing import Any

from tests.clearml_stub.errors import (
    bad_document,
    bad_value,
    invalid,
    no_model,
    no_project,
    no_task,
    not_deletable,
    wrong_status,
)
from tests.clearml_stub.holdings import COMPANY, USER, Document, Holdings, new_id, now_text
from tests.clearml_stub.queries import find
from tests.clearml_stub.states import change_state

DELETED = "__DELETED__"
# `get_all_query_options` of the server's Task.
LISTS = (
    "id",
    "user",
    "tags",
    "system_tags",
    "type",
    "status",
    "project",
    "parent",
    "hyperparams.*",
    "runtime.*",
    "last_metrics.*",
)
_MADE_OF = (
    "name",
    "tags",
    "system_tags",
    "type",
    "comment",
    "parent",
    "project",
    "models",
    "container",
    "execution",
    "hyperparams",
    "configuration",
    "script",
    "runtime",
)
# What `tasks.update` changes at any time; `user_set_allowed` in the server's task.py.
_FREE = ("name", "comment", "created", "project", "tags", "system_tags")
_MERGED = ("execution", "script", "models")


class TaskActions:
    """Each method is an action of that name: request in, data of the reply out."""

    def __init__(self, holdings: Holdings) -> None:
        self.holdings = holdings

    def task(self, task_id: Any) -> Document:
        """Returns a task.

        Raises:
            ApiError: there is none.
        """
        task = self.holdings.tasks.get(task_id)
        if task is None:
            raise no_task(task_id)
        return task

    def create(self, request: Document) -> Document:
        fields = self._fields(request, _MADE_OF)
        now = now_text()
        task: Document = {
            "id": new_id(),
            "status": "created",
            "status_reason": "",
            "status_message": "",
            "company": COMPANY,
            "user": USER,
            "created": now,
            "last_update": now,
            "last_change": now,
            "last_iteration": 0,
            "last_metrics": {},
            "tags": [],
            "system_tags": [],
            "hyperparams": {},
            "configuration": {},
            "script": {},
            "runtime": {},
            "execution": {"artifacts": []},
            "models": {"input": [], "output": []},
        }
        for name in _MERGED:
            task[name] |= fields.pop(name, None) or {}
        task.update(fields)
        self.holdings.tasks[task["id"]] = task
        return {"id": task["id"]}

    def get_all(self, request: Document) -> Document:
        found = find(
            self.holdings.tasks.values(),
            request,
            lists=LISTS,
            patterns=("name", "comment"),
        )
        return {"tasks": copy.deepcopy(found)}

    def get_by_id(self, request: Document) -> Document:
        return {"task": copy.deepcopy(self.task(request["task"]))}

    def started(self, request: Document) -> Document:
        data = change_state(self.task(request["task"]), "in_progress", request)
        return {**data, "started": 1}

    def completed(self, request: Document) -> Document:
        task = self.task(request["task"])
        data = change_state(task, "completed", request)
        if request.get("publish"):
            change_state(task, "published", request)
        return {**data, "published": int(bool(request.get("publish")))}

    def stopped(self, request: Document) -> Document:
        return change_state(self.task(request["task"]), "stopped", request)

    def stop(self, request: Document) -> Document:
        # No agent runs our tasks, so that they stop at once.
        why = {**request, "status_message": "Stopped by stub"}
        return change_state(self.task(request["task"]), "stopped", why)

    def failed(self, request: Document) -> Document:
        return change_state(self.task(request["task"]), "failed", request)

    def close(self, request: Document) -> Document:
        return change_state(self.task(request["task"]), "closed", request)

    def publish(self, request: Document) -> Document:
        return change_state(self.task(request["task"]), "published", request)

    def ping(self, request: Document) -> Document:
        # A task that is not there is no error to the server.
        task = self.holdings.tasks.get(request["task"])
        if task is not None:
            task["last_update"] = task["last_change"] = now_text()
        return {}

    def edit(self, request: Document) -> Document:
        task = self.task(request["task"])
        if task["status"] != "created" and not request.get("force"):
            raise wrong_status(f"expected=created status={task['status']} (task {task['id']})")
        fields = self._fields(request, _MADE_OF)
        for name in _MERGED:
            if name in fields:
                fields[name] = {**task[name], **fields[name]}
        return self._change(task, fields)

    def update(self, request: Document) -> Document:
        return self._change(self.task(request["task"]), self._fields(request, _FREE))

    def reset(self, request: Document) -> Document:
        task = self.task(request["task"])
        if task["status"] == "published" and not request.get("force"):
            raise wrong_status(f"status=published (task {task['id']})")
        data = change_state(task, "created", request)
        self.holdings.events.pop(task["id"], None)
        task.update(last_iteration=0, last_metrics={}, runtime={})
        task["models"]["output"] = []
        task["execution"]["artifacts"] = []
        return data

    def archive(self, request: Document) -> Document:
        for task in [self.task(task_id) for task_id in request["tasks"]]:
            task["system_tags"] = sorted({*task["system_tags"], "archived"})
            if task["status"] in {"queued", "in_progress"}:
                change_state(task, "stopped", {**request, "force": True})
        return {"archived": len(request["tasks"])}

    def delete(self, request: Document) -> Document:
        task = self.task(request["task"])
        archived = "archived" in task["system_tags"]
        if task["status"] != "created" and not archived and not request.get("force"):
            raise not_deletable(f"due to status, use force=True (task {task['id']})")
        children = [
            each for each in self.holdings.tasks.values() if each.get("parent") == task["id"]
        ]
        for child in children:
            child["parent"] = f"{DELETED}{task['id']}"
        models = self.holdings.models
        for model in [each for each in models.values() if each.get("task") == task["id"]]:
            if request.get("delete_output_models", True) and not model["ready"]:
                del models[model["id"]]
            else:
                model["task"] = f"{DELETED}{task['id']}"
        del self.holdings.tasks[task["id"]]
        self.holdings.events.pop(task["id"], None)
        return {"deleted": True, "updated_children": len(children), "updated_models": 0}

    def delete_many(self, request: Document) -> Document:
        for task_id in request["ids"]:
            self.delete({**request, "task": task_id})
        return {"succeeded": [{"id": task_id} for task_id in request["ids"]], "failed": []}

    def _change(self, task: Document, fields: Document) -> Document:
        if fields:
            fields["last_change"] = now_text()
            task.update(fields)
        return {"updated": int(bool(fields)), "fields": copy.deepcopy(fields)}

    def _fields(self, request: Document, names: tuple[str, ...]) -> Document:
        """Those fields of a request that make a task, checked as the server's database does."""
        fields = {name: copy.deepcopy(request[name]) for name in names if name in request}
        if "name" in fields:
            fields["name"] = fields["name"].strip()
            if len(fields["name"]) < 3:
                raise bad_document(f"name: String value is too short: {fields['name']!r}")
        for name in ("tags", "system_tags"):
            if name in fields:
                check_tags(fields[name])
                fields[name] = sorted(fields[name])
        parent = fields.get("parent")
        if parent and not parent.startswith(DELETED) and parent not in self.holdings.tasks:
            raise no_task(f"invalid parent {parent}")
        if fields.get("project") and fields["project"] not in self.holdings.projects:
            raise no_project(fields["project"])
        for section, params in (fields.get("hyperparams") or {}).items():
            check_key(section)
            for name, item in params.items():
                check_param(item, section=section, name=name)
        for name, item in (fields.get("configuration") or {}).items():
            check_key(name)
            check_configuration(item, name)
        for part in ("input", "output"):
            for item in (fields.get("models") or {}).get(part) or ():
                if item["model"] not in self.holdings.models:
                    raise no_model(item["model"])
        return fields


def check_tags(tags: list[str]) -> None:
    """Raises ApiError if a tag looks like an operator of a query."""
    reserved = [tag for tag in tags if tag.startswith("__$")]
    if reserved:
        raise bad_value(f"unsupported tag prefix: {reserved}")


def check_key(name: str) -> None:
    """Raises ApiError if a section or a name is empty."""
    if not name.strip():
        raise invalid("Empty key is not allowed")


def check_param(item: Document, *, section: str, name: str) -> None:
    """Raises ApiError unless a hyperparameter says its section, name and value, as the key does."""
    check_key(name)
    for field in ("section", "name", "value"):
        if item.get(field) is None:
            raise bad_document(f"hyperparams.{section}.{name}.{field}: Field is required")
    if (item["section"], item["name"]) != (section, name):
        raise invalid(f"hyperparams.{section}.{name} says that it is another: {item}")


def check_configuration(item: Document, name: str) -> None:
    """Raises ApiError unless an item of configuration has its name and a value."""
    for field in ("name", "value"):
        if item.get(field) is None:
            raise bad_document(f"configuration.{name}.{field}: Field is required")
    if item["name"] != name:
        raise invalid(f"configuration.{name} says that it is another: {item['name']}")
