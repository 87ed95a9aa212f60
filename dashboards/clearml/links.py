"""Addresses of ClearML's pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from canopy_search.storage.study.mirror_rows import MirroredTask, MirrorState

_NEW_NAMES_FROM = (2, 31)
"""Version of the API that renamed experiments to tasks."""


@dataclass(frozen=True)
class Pages:
    """Pages in ClearML of a mirrored study.

    Attributes:
        state: state of the mirror, which knows the server's addresses.
        task_ids: trial number, or `storage.study.mirror_rows.STUDY_TASK` → id of its task.
    """

    state: MirrorState = field(default_factory=lambda: MirrorState(""))
    task_ids: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, state: MirrorState, rows: Mapping[int, MirroredTask]) -> "Pages":
        """Returns the pages of the tasks that exist."""
        return cls(state, {number: row.task for number, row in rows.items() if row.task})

    def task(self, number: int, page: str = "log") -> str | None:
        """Returns the address of a task's page, if it is known.

        Args:
            number: of the task's trial, or `STUDY_TASK`.
            page: page of its output: ``log``, or ``metrics/scalar``.
        """
        task = self.task_ids.get(number)
        return task and self._url(f"{self._word}/{task}/output/{page}")

    def comparison(self, numbers: Sequence[int]) -> str | None:
        """Returns the address that compares trials, if at least two of them were mirrored."""
        tasks = [self.task_ids[number] for number in numbers if number in self.task_ids]
        if len(tasks) < 2:
            return None
        return self._url(f"compare-{self._word};ids={','.join(tasks)}/scalars/graph")

    @property
    def _word(self) -> str:
        parts = (self.state.api_version or "").split(".")[:2]
        is_new = all(part.isdecimal() for part in parts)
        return "tasks" if is_new and tuple(map(int, parts)) >= _NEW_NAMES_FROM else "experiments"

    def _url(self, path: str) -> str | None:
        web, project = self.state.web, self.state.project or "*"
        return f"{web}/projects/{project}/{path}" if web else None
