"""The actions of the tasks service that change parts of a task: parameters, artifacts, models.

After `apiserver/bll/task/hyperparams.py` and `artifacts.py` of the server.
"""

import copy
from collections import defaultdict

from tests.clearml_stub.errors import invalid, no_model
from tests.clearml_stub.holdings import Document, now_text
from tests.clearml_stub.states import check_editable
from tests.clearml_stub.tasks import TaskActions, check_configuration, check_key, check_param

_PROPERTIES = "properties"


class TaskPartActions(TaskActions):
    """All actions of the tasks service."""

    def get_hyper_params(self, request: Document) -> Document:
        tasks = [self.task(task_id) for task_id in request["tasks"]]
        return {
            "params": [
                {
                    "task": task["id"],
                    "hyperparams": [
                        copy.deepcopy(item)
                        for section in task["hyperparams"].values()
                        for item in section.values()
                    ],
                }
                for task in tasks
            ]
        }

    def edit_hyper_params(self, request: Document) -> Document:
        task, items = self.task(request["task"]), _filled(request["hyperparams"], "hyperparams")
        if any(item.get("section", "").lower() != _PROPERTIES for item in items):
            check_editable(task, force=bool(request.get("force")))
        sections: defaultdict[str, Document] = defaultdict(dict)
        for item in items:
            check_key(item.get("section", ""))
            check_param(item, section=item["section"], name=item.get("name", ""))
            sections[item["section"]][item["name"]] = copy.deepcopy(item)
        replaced = request.get("replace_hyperparams", "none")
        if replaced == "all":
            task["hyperparams"] = dict(sections)
        for section, params in sections.items():
            kept = {} if replaced == "section" else task["hyperparams"].get(section, {})
            task["hyperparams"][section] = {**kept, **params}
        return self._touched(task)

    def delete_hyper_params(self, request: Document) -> Document:
        task, keys = self.task(request["task"]), _filled(request["hyperparams"], "hyperparams")
        check_editable(task, force=bool(request.get("force")))
        for key in keys:
            section = task["hyperparams"].get(key["section"], {})
            if key.get("name"):
                section.pop(key["name"], None)
            else:
                task["hyperparams"].pop(key["section"], None)
        return {"deleted": self._touched(task)["updated"]}

    def get_configurations(self, request: Document) -> Document:
        names = request.get("names")
        return {
            "configurations": [
                {
                    "task": task_id,
                    "configuration": [
                        copy.deepcopy(item)
                        for name, item in self.task(task_id)["configuration"].items()
                        if not names or name in names
                    ],
                }
                for task_id in request["tasks"]
            ]
        }

    def edit_configuration(self, request: Document) -> Document:
        task, items = self.task(request["task"]), _filled(request["configuration"], "configuration")
        check_editable(task, force=bool(request.get("force")))
        for item in items:
            check_key(item.get("name") or "")
            check_configuration(item, item["name"])
        if request.get("replace_configuration"):
            task["configuration"] = {}
        task["configuration"] |= {item["name"]: copy.deepcopy(item) for item in items}
        return self._touched(task)

    def add_or_update_artifacts(self, request: Document) -> Document:
        task, added = self.task(request["task"]), _filled(request["artifacts"], "artifacts")
        check_editable(task, force=True)
        kept = {_artifact_key(each): each for each in task["execution"].get("artifacts") or ()}
        kept |= {_artifact_key(each): {"mode": "output", **copy.deepcopy(each)} for each in added}
        task["execution"]["artifacts"] = sorted(kept.values(), key=lambda each: str(each["key"]))
        return self._touched(task)

    def delete_artifacts(self, request: Document) -> Document:
        task, gone = self.task(request["task"]), _filled(request["artifacts"], "artifacts")
        check_editable(task, force=True)
        keys = {_artifact_key(each) for each in gone}
        kept = task["execution"].get("artifacts") or ()
        task["execution"]["artifacts"] = [each for each in kept if _artifact_key(each) not in keys]
        return {"deleted": self._touched(task)["updated"]}

    def add_or_update_model(self, request: Document) -> Document:
        task = self.task(request["task"])
        check_editable(task, force=True)
        if request["model"] not in self.holdings.models:
            # Ours: the server would keep a link that leads nowhere.
            raise no_model(request["model"])
        items = task["models"].setdefault(request["type"], [])
        item = {"name": request["name"], "model": request["model"]}
        items[:] = [each for each in items if each["name"] != item["name"]]
        items.append(item)
        task["last_iteration"] = max(task["last_iteration"], request.get("iteration", 0))
        return self._touched(task)

    def delete_models(self, request: Document) -> Document:
        task = self.task(request["task"])
        check_editable(task, force=True)
        for gone in _filled(request["models"], "models"):
            items = task["models"].get(gone["type"], [])
            items[:] = [each for each in items if each["name"] != gone["name"]]
        return self._touched(task)

    @staticmethod
    def _touched(task: Document) -> Document:
        task["last_update"] = task["last_change"] = now_text()
        return {"updated": 1}


def _filled(items: list[Document], what: str) -> list[Document]:
    if not items:
        raise invalid(f"{what}: at least one is needed")
    return items


def _artifact_key(artifact: Document) -> tuple[str, str]:
    return artifact["key"], artifact.get("mode", "output")
