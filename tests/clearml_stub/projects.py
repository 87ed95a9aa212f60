"""The actions of the projects and models services, after those of the server."""

import copy

from tests.clearml_stub.errors import (
    bad_document,
    no_model,
    no_project,
    no_task,
    not_unique,
)
from tests.clearml_stub.holdings import COMPANY, USER, Document, Holdings, new_id, now_text
from tests.clearml_stub.queries import find
from tests.clearml_stub.tasks import check_tags


class ProjectActions:
    """Each method is an action of that name: request in, data of the reply out."""

    def __init__(self, holdings: Holdings) -> None:
        self.holdings = holdings

    def create(self, request: Document) -> Document:
        name = "/".join(part.strip() for part in request["name"].split("/") if part)
        if len(name) < 3:
            raise bad_document(f"name: String value is too short: {name!r}")
        if self._named(name):
            raise not_unique(f"Project with the same name already exists, name={name}")
        check_tags([*request.get("tags", ()), *request.get("system_tags", ())])
        return {"id": self._made(name, request)["id"]}

    def get_all(self, request: Document) -> Document:
        shallow = request.get("shallow_search", False)
        found = find(
            [
                each
                for each in self.holdings.projects.values()
                if not (shallow and each["parent"] is not None)
            ],
            request,
            lists=("id", "tags", "system_tags", "parent"),
            patterns=("name", "basename", "description"),
        )
        return {"projects": copy.deepcopy(found)}

    def get_by_id(self, request: Document) -> Document:
        return {"project": copy.deepcopy(self._project(request["project"]))}

    def update(self, request: Document) -> Document:
        project = self._project(request["project"])
        names = ("name", "description", "tags", "system_tags", "default_output_destination")
        fields = {name: request[name] for name in names if name in request}
        project.update(fields, last_update=now_text())
        return {"updated": 1, "fields": fields}

    def _project(self, project_id: str) -> Document:
        project = self.holdings.projects.get(project_id)
        if project is None:
            raise no_project(project_id)
        return project

    def _named(self, name: str) -> Document | None:
        projects = self.holdings.projects.values()
        return next((each for each in projects if each["name"] == name), None)

    def _made(self, name: str, request: Document) -> Document:
        """Makes a project, and those above it that are missing."""
        above, _, basename = name.rpartition("/")
        parent = (self._named(above) or self._made(above, {})) if above else None
        now = now_text()
        project = {
            "id": new_id(),
            "name": name,
            "basename": basename,
            "description": request.get("description", ""),
            "company": COMPANY,
            "user": USER,
            "created": now,
            "last_update": now,
            "tags": sorted(request.get("tags", ())),
            "system_tags": sorted(request.get("system_tags", ())),
            "default_output_destination": request.get("default_output_destination"),
            "parent": parent["id"] if parent else None,
        }
        self.holdings.projects[project["id"]] = project
        return project


class ModelActions:
    """Each method is an action of that name: request in, data of the reply out."""

    def __init__(self, holdings: Holdings) -> None:
        self.holdings = holdings

    def create(self, request: Document) -> Document:
        self._check(request)
        if not request["name"].strip():
            raise bad_document("name: Field is required")
        now = now_text()
        model = {
            "id": new_id(),
            "company": COMPANY,
            "user": USER,
            "created": now,
            "last_update": now,
            "ready": True,
            "tags": [],
            "system_tags": [],
            **{name: value for name, value in request.items() if name != "public"},
        }
        self.holdings.models[model["id"]] = model
        return {"id": model["id"], "created": True}

    def get_all(self, request: Document) -> Document:
        found = find(
            self.holdings.models.values(),
            request,
            lists=("id", "tags", "system_tags", "project", "task", "parent", "uri"),
            patterns=("name", "comment"),
        )
        return {"models": copy.deepcopy(found)}

    def get_by_id(self, request: Document) -> Document:
        return {"model": copy.deepcopy(self._model(request["model"]))}

    def edit(self, request: Document) -> Document:
        model = self._model(request["model"])
        self._check(request)
        fields = {
            name: value for name, value in request.items() if name not in {"model", "iteration"}
        }
        model.update(fields, last_update=now_text())
        return {"updated": 1, "fields": fields}

    update = edit

    def delete(self, request: Document) -> Document:
        model = self._model(request["model"])
        del self.holdings.models[model["id"]]
        return {"deleted": True, "url": model["uri"]}

    def _model(self, model_id: str) -> Document:
        model = self.holdings.models.get(model_id)
        if model is None:
            raise no_model(model_id)
        return model

    def _check(self, request: Document) -> None:
        check_tags([*request.get("tags", ()), *request.get("system_tags", ())])
        if request.get("project") and request["project"] not in self.holdings.projects:
            raise no_project(request["project"])
        if request.get("task") and request["task"] not in self.holdings.tasks:
            raise no_task(request["task"])
