"""Progress of a study's mirror, from what the database records; asks no server."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from canopy_search.dashboards.clearml.desired_state import task_state
from canopy_search.dashboards.clearml.links import Pages
from canopy_search.dashboards.clearml.reconcile import is_gone
from canopy_search.dashboards.formatting.values import counted
from canopy_search.dashboards.study.model import StudyData
from canopy_search.storage.study.mirror_rows import STUDY_TASK, MirroredTask, MirrorState
from canopy_search.storage.study.studies import StudyStore

_COMPARED = 3


@dataclass(frozen=True)
class MirrorSummary:
    """The mirror of a study, for text and JSON.

    Attributes:
        server: address of the server.
        mirrored: number of trials whose epochs and state were sent.
        behind: number of trials of which something is missing.
        deleted: number of trials whose task a user deleted on the server.
        problem: the current problem, if any.
        since: when the problem started.
        url: address of the study's page, if it is known.
        comparison: address of the page that compares the best trials, if it is known.
        trials: trial number → address of its page.
    """

    server: str
    mirrored: int
    behind: int
    deleted: int
    problem: str | None
    since: datetime | None
    url: str | None
    comparison: str | None
    trials: dict[int, str]

    def lines(self) -> list[str]:
        """Returns what ``canopy status`` prints."""
        parts = [f"{counted(self.mirrored, 'trial')} mirrored, {self.behind} behind"]
        if self.deleted:
            parts.append(
                f"{self.deleted} deleted there (canopy mirror --recreate creates them again)"
            )
        if self.problem:
            since = f" (since {self.since.astimezone():%Y-%m-%d %H:%M:%S})" if self.since else ""
            parts.append(f"{self.problem}{since}")
        return [f"ClearML: {'; '.join(parts)}", *([f"  {self.url}"] if self.url else [])]

    def as_json(self) -> dict[str, Any]:
        """Returns what ``canopy status --json`` prints."""
        return {
            **vars(self),
            "since": self.since and self.since.isoformat(timespec="seconds"),
            "trials": {str(number): url for number, url in self.trials.items()},
        }


def read_mirror(store: StudyStore, summary: StudyData) -> MirrorSummary | None:
    """Returns the progress of a study's latest mirror; None if it has none.

    Raises:
        UnknownStudyError: the study was deleted.
    """
    mirrors = store.mirrors(summary.name)
    return mirror_summary(summary, *mirrors[0]) if mirrors else None


def mirror_summary(
    summary: StudyData, state: MirrorState, rows: dict[int, MirroredTask]
) -> MirrorSummary:
    """Compares a study with what was sent of it.

    Args:
        summary: the study in its current state.
        state: state of the mirror.
        rows: what was sent of each task.
    """
    deleted = sum(is_gone(row) for number, row in rows.items() if number != STUDY_TASK)
    mirrored = sum(
        (row := rows.get(trial.number)) is not None
        and row.task is not None
        and row.problem is None
        and row.state == task_state(trial)
        and row.epochs == len(trial.metrics)
        for trial in summary.trials
    )
    pages = Pages.of(state, rows)
    urls = {number: pages.task(number) for number in pages.task_ids}
    return MirrorSummary(
        server=state.server,
        mirrored=mirrored,
        behind=len(summary.trials) - mirrored - deleted,
        deleted=deleted,
        problem=state.problem,
        since=state.since,
        url=urls.get(STUDY_TASK),
        comparison=pages.comparison([t.number for t in summary.best_settings[:_COMPARED]]),
        trials={number: url for number, url in urls.items() if url and number != STUDY_TASK},
    )
