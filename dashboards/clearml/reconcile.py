"""Computes the difference between a task's desired state and what was sent, and sends it.

What was sent is recorded after the server has acknowledged it, so after a crash or a lost answer it
is sent again. Every request can therefore be repeated with the same result: a task is looked up by
its tag before it is created, scalars and plots replace those of the same name and step, and states
can be set again. Only log lines would be duplicated, so when it is unknown whether they arrived,
the log is read first.
"""

import time
from collections.abc import Sequence
from typing import Any

from canopy_search.dashboards.clearml.desired_state import (
    CREATED,
    FINAL,
    RUNNING,
    DesiredTask,
    LogLine,
    Plot,
    digest,
)
from canopy_search.dashboards.clearml.server import FoundTask, TrackerServer
from canopy_search.dashboards.errors import TrackerRejectsError
from canopy_search.storage.study.mirror_rows import STUDY_TASK, MirroredTask, MirrorStore

GONE = "a person deleted it on the server; canopy mirror --recreate makes it again"
"""Stored as a task's problem, and compared with it; so the wording must not change."""


def is_gone(row: MirroredTask) -> bool:
    """Whether a user deleted the task, and it was not recreated."""
    return row.task is None and row.problem == GONE


def differs(desired: DesiredTask, row: MirroredTask) -> bool:
    """Whether any part of a task still has to be sent."""
    if is_gone(row):
        return False
    return row.task is None or bool(
        _state_differs(desired, row)
        or _changed_parts(desired, row)
        or _tags_differ(desired, row)
        or _scalars_from(desired, row) is not None
        or _new_plots(desired, row)
        or _lines_differ(desired, row)
    )


class Reconciler:
    """Updates tasks on a server to their desired state.

    Args:
        server: the server.
        store: records what was sent.
        project: id of the project for new tasks.
    """

    def __init__(self, server: TrackerServer, store: MirrorStore, project: str) -> None:
        self._server = server
        self._store = store
        self._project = project

    def update(
        self,
        desired: DesiredTask,
        row: MirroredTask,
        *,
        found: FoundTask | None = None,
        parent: str | None = None,
    ) -> None:
        """Sends the difference.

        Args:
            desired: the desired state of the task.
            row: what was sent of it; is updated and written to the store.
            found: the task on the server with its tag, if `row` has no task and one exists.
            parent: id of a new task's parent.

        Raises:
            TrackerUnavailableError: the server does not answer, or its answer is invalid.
            TrackerRejectsError: it rejects a request; the row records why.
        """
        row.problem = None
        try:
            is_new = row.task is None and found is None
            task = row.task or self._create_or_adopt(desired, row, found, parent)
            self._send(task, desired, row, is_new=is_new)
        except TrackerRejectsError as error:
            self._note_rejection(row, error)
            raise

    def _create_or_adopt(
        self, desired: DesiredTask, row: MirroredTask, found: FoundTask | None, parent: str | None
    ) -> str:
        """Returns the id of the task."""
        forget(row)
        # If this process ends now, the next one cannot know whether lines arrived.
        row.lines_unsure = True
        if found is None:
            row.task, row.state = self._server.create(desired, self._project, parent), CREATED
            row.sent = {"parts": desired.parts, "tags": list(desired.tags)}
        else:
            row.task, row.state = found.id, found.state
        self._store.write_task(row)
        return row.task

    def _send(self, task: str, desired: DesiredTask, row: MirroredTask, *, is_new: bool) -> None:
        if row.state == CREATED and desired.state != CREATED:
            self._server.start(task)
            row.state = RUNNING
        changed, has_other_tags = _changed_parts(desired, row), _tags_differ(desired, row)
        self._mark_unknown(row, changed, tags=has_other_tags)
        if changed:
            self._server.edit(task, desired, changed)
            row.sent["parts"] = desired.parts
        if has_other_tags:
            self._server.set_tags(task, desired.tags)
            row.sent["tags"] = list(desired.tags)
        self._send_events(task, desired, row, is_new=is_new)
        if _state_differs(desired, row):
            if desired.number == STUDY_TASK:  # unlike a trial, a finished search can resume
                row.state = None
                self._store.write_task(row)
            if desired.state == RUNNING:
                self._server.start(task)
            else:
                self._server.end(task, desired.state, desired.reason)
            row.state = desired.state
            row.sent["reason"] = desired.reason
        self._store.write_task(row)

    def _mark_unknown(self, row: MirroredTask, parts: Sequence[str], *, tags: bool) -> None:
        """Records the values that are about to be replaced as unknown.

        They may arrive without an acknowledgement, and the desired values may differ by then.
        """
        known = dict(row.sent)
        known["parts"] = {k: v for k, v in row.sent.get("parts", {}).items() if k not in parts}
        if tags:
            known.pop("tags", None)
        if (row.sent.get("parts", {}), row.sent.get("tags")) != (known["parts"], known.get("tags")):
            row.sent = known
            self._store.write_task(row)

    def _send_events(
        self, task: str, desired: DesiredTask, row: MirroredTask, *, is_new: bool
    ) -> None:
        first = _scalars_from(desired, row)
        scalars = [s for s in desired.scalars if first is not None and s.step >= first]
        plots = _new_plots(desired, row)
        lines = desired.lines if is_new else self._missing_lines(task, desired, row)
        if lines and not row.lines_unsure:
            row.lines_unsure = True
            self._store.write_task(row)
        self._server.add_events(task, scalars, plots, lines, at_ms=round(time.time() * 1000))
        row.epochs = desired.steps
        row.lines, row.lines_unsure = len(desired.lines), False
        sent_plots = {plot.key: digest(plot.figure) for plot in plots}
        row.sent |= {
            "scalars": _scalar_digest(desired, desired.steps),
            "lines": _line_digest(desired, len(desired.lines)),
            "plots": row.sent.get("plots", {}) | sent_plots,
        }

    def _missing_lines(
        self, task: str, desired: DesiredTask, row: MirroredTask
    ) -> Sequence[LogLine]:
        if not _lines_differ(desired, row):
            return ()
        is_continued = not row.lines_unsure and (
            row.lines == 0 or row.sent.get("lines") == _line_digest(desired, row.lines)
        )
        if is_continued:
            return desired.lines[row.lines :]
        existing = self._server.lines(task)
        return [line for line in desired.lines if (line.at_ms, line.text) not in existing]

    def _note_rejection(self, row: MirroredTask, error: TrackerRejectsError) -> None:
        """Records why a task cannot be sent, or that it was deleted."""
        if row.task is not None and row.task not in self._server.existing([row.task]):
            forget(row)
            row.problem = GONE
        else:
            row.problem = str(error)
        self._store.write_task(row)


def forget(row: MirroredTask) -> None:
    """Resets a row to its state before anything was sent."""
    row.task, row.state, row.problem = None, None, None
    row.epochs, row.lines, row.lines_unsure, row.sent = 0, 0, False, {}


def _state_differs(desired: DesiredTask, row: MirroredTask) -> bool:
    if desired.state != row.state:
        return True
    return desired.state in FINAL and row.sent.get("reason", "") != desired.reason


def _changed_parts(desired: DesiredTask, row: MirroredTask) -> list[str]:
    sent: dict[str, Any] = row.sent.get("parts", {})
    return [name for name, value in desired.parts.items() if sent.get(name) != value]


def _tags_differ(desired: DesiredTask, row: MirroredTask) -> bool:
    return row.sent.get("tags") != list(desired.tags)


def _scalars_from(desired: DesiredTask, row: MirroredTask) -> int | None:
    """Returns the first step whose scalars must be sent; None if there is none."""
    if row.epochs and row.sent.get("scalars") != _scalar_digest(desired, row.epochs):
        return 0  # what was sent differs from the desired scalars, so all are sent again
    return row.epochs + 1 if desired.steps > row.epochs else None


def _scalar_digest(desired: DesiredTask, steps: int) -> str:
    return digest([vars(scalar) for scalar in desired.scalars if scalar.step <= steps])


def _new_plots(desired: DesiredTask, row: MirroredTask) -> list[Plot]:
    sent = row.sent.get("plots", {})
    return [plot for plot in desired.plots if sent.get(plot.key) != digest(plot.figure)]


def _lines_differ(desired: DesiredTask, row: MirroredTask) -> bool:
    if row.lines_unsure or len(desired.lines) != row.lines:
        return bool(desired.lines) or row.lines_unsure
    return bool(desired.lines) and row.sent.get("lines") != _line_digest(desired, row.lines)


def _line_digest(desired: DesiredTask, count: int) -> str:
    return digest([vars(line) for line in desired.lines[:count]])
