"""Which state of a task may follow which; from `apiserver/bll/task/utils.py` of the server."""

from tests.clearml_stub.errors import wrong_status
from tests.clearml_stub.holdings import Document, now_text

NEXT: dict[str, set[str]] = {
    "created": {"queued", "in_progress"},
    "queued": {"created", "in_progress", "stopped"},
    "in_progress": {"stopped", "failed", "created", "completed"},
    "stopped": {
        "closed",
        "created",
        "failed",
        "queued",
        "in_progress",
        "published",
        "publishing",
        "completed",
    },
    "closed": {"created", "failed", "published", "publishing", "stopped"},
    "failed": {"created", "stopped", "published", "queued"},
    "publishing": {"published"},
    "published": set(),
    "completed": {"published", "in_progress", "created"},
}


def change_state(task: Document, state: str, request: Document) -> Document:
    """Brings a task into a state, and says why; a state may be repeated, which says why anew.

    Args:
        task: is changed.
        state: the new one.
        request: may say ``status_reason``, ``status_message`` and ``force``.

    Raises:
        ApiError: it may not follow the task's, and ``force`` is not set.
    """
    before = task["status"]
    if state not in {before, *NEXT[before]} and not request.get("force"):
        raise wrong_status(f"Invalid status change: {before} -> {state} (task {task['id']})")
    now = now_text()
    fields = {
        "status": state,
        "status_reason": request.get("status_reason", ""),
        "status_message": request.get("status_message", ""),
        "status_changed": now,
        "last_update": now,
        "last_change": now,
    }
    if state == "in_progress":
        fields["started"] = task.get("started") or now
    if state in {"completed", "stopped"}:
        fields["completed"] = now
    task.update(fields)
    return {"updated": 1, "fields": fields}


def check_editable(task: Document, *, force: bool) -> None:
    """Raises ApiError unless a task's hyperparameters and the like may be changed.

    Even with force that is over once the task has ended (`get_task_for_update` of the server).
    """
    allowed = {"created", "in_progress"} if force else {"created"}
    if task["status"] not in allowed:
        raise wrong_status(f"expected=created status={task['status']} (task {task['id']})")
