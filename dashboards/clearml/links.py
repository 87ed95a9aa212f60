"""Addresses of ClearML's pages."""

from collections.abc import Sequence

_NEW_NAMES_FROM = (2, 31)


def task_url(
    web: str | None,
    api_version: str | None,
    project: str | None,
    task: str,
    page: str = "log",
) -> str | None:
    """Returns the address of a task's page; None if the address of the pages is unknown.

    Args:
        web: address of the server's pages.
        api_version: version of the server's API; 2.31 renamed experiments to tasks.
        project: id of the task's project; None for any.
        task: id of the task.
        page: page of its output: ``log``, or ``metrics/scalar``.
    """
    if not web:
        return None
    word = "tasks" if _has_new_names(api_version) else "experiments"
    return f"{web}/projects/{project or '*'}/{word}/{task}/output/{page}"


def comparison_url(
    web: str | None, api_version: str | None, project: str | None, tasks: Sequence[str]
) -> str | None:
    """Returns the address of the page that compares tasks by their scalars.

    Args:
        web: address of the server's pages.
        api_version: version of the server's API.
        project: id of the tasks' project; None for any.
        tasks: their ids.
    """
    if not web or not tasks:
        return None
    word = "compare-tasks" if _has_new_names(api_version) else "compare-experiments"
    return f"{web}/projects/{project or '*'}/{word};ids={','.join(tasks)}/scalars/graph"


def _has_new_names(api_version: str | None) -> bool:
    parts = (api_version or "").split(".")[:2]
    return all(part.isdecimal() for part in parts) and tuple(map(int, parts)) >= _NEW_NAMES_FROM
