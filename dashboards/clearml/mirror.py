"""Mirrors one study: each round reads it and sends the server what is missing there."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from canopy_search.dashboards.clearml.attachments import Attachment, attach, differ
from canopy_search.dashboards.clearml.credentials import (
    TrackerSettings,
    shown_host,
)
from canopy_search.dashboards.clearml.desired_state import (
    RUNNING,
    DesiredTask,
    Plot,
    digest,
    identity_tag,
)
from canopy_search.dashboards.clearml.links import Pages
from canopy_search.dashboards.clearml.plots import confusion_plots
from canopy_search.dashboards.clearml.reconcile import Reconciler, differs, forget, is_gone
from canopy_search.dashboards.clearml.server import FoundTask, TrackerServer
from canopy_search.dashboards.clearml.study_task import finalists, study_task
from canopy_search.dashboards.clearml.trial_task import trial_task
from canopy_search.dashboards.errors import TrackerError, TrackerRefusesError, TrackerRejectsError
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.dashboards.study.reader import StudyReader
from canopy_search.storage.database import Database
from canopy_search.storage.study.mirror_rows import STUDY_TASK, MirroredTask, MirrorStore
from canopy_search.storage.study.predictions import trial_predictions
from canopy_search.storage.study.studies import StudyStore

PING_S = 300.0
"""A server marks a running task as dead after two hours without a message."""
STUDY_EVERY_S = 15.0
"""Shortest interval between updates of the study's own task, whose figures cover all trials."""


@dataclass(frozen=True)
class MirrorPlan:
    """What is mirrored, and where to.

    Attributes:
        study: name of the study.
        tracker: how the server is reached.
        project: name of the project, for a study that has none on the server yet.
        is_live: whether the mirror follows a search.
        recreate: whether to recreate tasks that a user deleted.
        attachments: returns the files of the best trial.
    """

    study: str
    tracker: TrackerSettings
    project: str | None = None
    is_live: bool = False
    recreate: bool = False
    attachments: Callable[[StudyData], Iterable[Attachment]] = field(
        default=lambda _summary: (), repr=False
    )

    @property
    def server(self) -> str:
        """Address of the server, without credentials."""
        return shown_host(self.tracker.host.rstrip("/"))


@dataclass(frozen=True)
class MirrorStatus:
    """Progress of a mirror.

    Attributes:
        mirrored: number of tasks that are up to date, including the study's own.
        behind: number of tasks that are not.
        gone: number of tasks that a user deleted.
        sent: number of tasks updated in this round.
        rejected: why the server rejected a request, if it did.
        is_over: whether the study has ended.
    """

    mirrored: int
    behind: int
    gone: int
    sent: int
    rejected: str | None
    is_over: bool


@dataclass(frozen=True)
class MirrorEvents:
    """Who is told of a mirror's progress.

    Attributes:
        note: called with each message for the user.
        after_task: called after each update of a task.
        after_round: called with the status of a round, or with the reason why it failed.
    """

    note: Callable[[str], None]
    after_task: Callable[[], object] = lambda: None
    after_round: Callable[[MirrorStatus | str], object] = lambda _outcome: None


class Mirror:
    """One study on one server.

    Args:
        database: an open database.
        plan: what is mirrored, and where to.
        events: who is told of its progress.
        before_task: called before each update of a task; it may raise to end the round.
    """

    def __init__(
        self,
        database: Database,
        plan: MirrorPlan,
        events: MirrorEvents,
        before_task: Callable[[], object],
    ) -> None:
        self._database = database
        self._plan = plan
        self._events = events
        self._before_task = before_task
        studies = StudyStore(database)
        self._reader = StudyReader(studies, plan.study)
        self._study_id = studies.study_id(plan.study)
        self._database_id = database.read_id()
        self._store = MirrorStore(database, self._study_id, plan.server)
        self._server: TrackerServer | None = None
        self._project: str | None = None
        self._settled: dict[int, str] = {}
        self._rejected: dict[int, str] = {}
        self._confusions: dict[int, list[Plot]] = {}
        self._files_problem: str | None = None
        self._study_sent_s = -math.inf
        self._is_study_settled = False
        self._pinged_s = -math.inf
        self._recreates = plan.recreate

    def round(self, *, last: bool = False) -> MirrorStatus:
        """Reads the study, sends what is missing, and returns the progress.

        Args:
            last: whether the search ends now, so that nothing can wait for a later round.

        Raises:
            TrackerUnavailableError: the server does not answer; the next round resumes.
            SQLAlchemyError: the database is unavailable.
            UnknownStudyError: the study was deleted.
        """
        data = self._reader.read()
        rows = self._store.read_tasks()
        for number in (STUDY_TASK, *(trial.number for trial in data.trials)):
            rows.setdefault(number, MirroredTask(number))
        try:
            return self._round(data, rows, last=last)
        except TrackerRefusesError:
            self._server = None  # the next round logs in again
            raise

    def _round(self, data: StudyData, rows: dict[int, MirroredTask], *, last: bool) -> MirrorStatus:
        if self._recreates:
            self._forget_gone(rows)
            self._recreates = False
        changed = [t for t in data.trials if self._settled.get(t.number) != _trial_digest(t, data)]
        if changed and rows[STUDY_TASK].task is None:
            # The trials' tasks are its children, so it is created first and ended at the end.
            self._update([replace(self._study(data, rows), state=RUNNING, reason="")], rows)
        sent = self._update(self._differing(changed, data, rows), rows)
        is_over = data.is_over and all(trial.has_ended for trial in data.trials)
        is_due = time.monotonic() - self._study_sent_s >= STUDY_EVERY_S
        # A mirror that follows a study ends with it, so no later round can send the rest.
        if last or is_over or is_due or not self._plan.is_live:
            self._study_sent_s = time.monotonic()
            desired = self._study(data, rows)
            sent += self._update([desired], rows)
            self._is_study_settled = not differs(desired, rows[STUDY_TASK])
            self._attach_files(data, rows)
        if self._plan.is_live and not last:
            self._keep_alive(rows)
        behind = sum(self._settled.get(t.number) != _trial_digest(t, data) for t in data.trials)
        behind += not self._is_study_settled
        gone = sum(map(is_gone, rows.values()))
        problems = [row.problem for row in rows.values() if row.problem and not is_gone(row)]
        return MirrorStatus(
            mirrored=len(data.trials) + 1 - behind - gone,
            behind=behind,
            gone=gone,
            sent=sent,
            rejected=next(iter(problems), None),
            is_over=is_over,
        )

    def _differing(
        self, trials: Sequence[TrialData], data: StudyData, rows: dict[int, MirroredTask]
    ) -> Iterator[DesiredTask]:
        """Yields the desired tasks of the trials whose tasks differ from them."""
        for trial in trials:
            row, desired = rows[trial.number], self._trial(trial, data)
            if differs(desired, row):
                yield desired
            if not differs(desired, row):
                self._settled[trial.number] = _trial_digest(trial, data)

    def _update(self, desired_tasks: Iterable[DesiredTask], rows: dict[int, MirroredTask]) -> int:
        """Sends the differences of some tasks; returns how many tasks were updated."""
        sent = 0
        found: dict[str, FoundTask] | None = None
        for desired in desired_tasks:
            row = rows[desired.number]
            is_rejected = self._rejected.get(desired.number) == digest(vars(desired))
            if is_rejected or not differs(desired, row):
                continue
            self._before_task()
            if row.task is None and found is None:
                unknown = [
                    n for n, other in rows.items() if other.task is None and not is_gone(other)
                ]
                found = self._connected().find([self._identity(number) for number in unknown])
            try:
                self._send(desired, rows, (found or {}).get(desired.identity))
            except TrackerRejectsError:
                self._rejected[desired.number] = digest(vars(desired))
                continue
            self._rejected.pop(desired.number, None)
            self._events.after_task()
            sent += 1
        return sent

    def _send(
        self, desired: DesiredTask, rows: dict[int, MirroredTask], found: FoundTask | None
    ) -> None:
        """Sends the differences of one task.

        Raises:
            TrackerRejectsError: the server rejects a request.
        """
        row, server = rows[desired.number], self._connected()
        parent = None if desired.number == STUDY_TASK else rows[STUDY_TASK].task
        reconciler = Reconciler(server, self._store, self._project_id())
        try:
            reconciler.update(desired, row, found=found, parent=parent)
        except TrackerRejectsError:
            if row.task is not None or is_gone(row):
                raise
            # The task cannot be created: a user may have deleted the project.
            reconciler = Reconciler(server, self._store, self._project_id(again=True))
            has_parent = parent is not None and bool(server.existing([parent]))
            reconciler.update(desired, row, parent=parent if has_parent else None)

    def _trial(self, trial: TrialData, data: StudyData) -> DesiredTask:
        is_finalist = any(trial.number == finalist.number for finalist in finalists(data))
        plots = self._confusion(trial) if is_finalist else []
        identity = self._identity(trial.number)
        return trial_task(trial, data, identity=identity, extra_plots=tuple(plots))

    def _study(self, data: StudyData, rows: dict[int, MirroredTask]) -> DesiredTask:
        return study_task(
            data,
            identity=self._identity(STUDY_TASK),
            pages=Pages.of(self._store.read_state(), rows),
            is_live=self._plan.is_live,
            extra_plots=tuple(
                replace(plot, series=f"finalist {rank}")
                for rank, trial in enumerate(finalists(data), start=1)
                for plot in self._confusion(trial)
            ),
        )

    def _confusion(self, trial: TrialData) -> list[Plot]:
        """Returns the cached figure of a finished trial, which no longer changes."""
        number = trial.number
        if number not in self._confusions:
            found = trial_predictions(self._database, self._plan.study, [number])
            self._confusions[number] = confusion_plots(found[number], trial) if found else []
        return self._confusions[number]

    def _attach_files(self, data: StudyData, rows: dict[int, MirroredTask]) -> None:
        """Sends files. A failure is only noted, because the rest of the mirror is complete."""
        try:
            by_task: defaultdict[int, list[Attachment]] = defaultdict(list)
            for attachment in self._plan.attachments(data):
                by_task[attachment.number].append(attachment)
            for number, attachments in by_task.items():
                row = rows.get(number)
                if row is not None and differ(attachments, row):
                    self._before_task()
                    attach(self._connected(), attachments, row)
                    self._store.write_task(row)
        except (TrackerError, OSError) as error:
            problem = f"ClearML: the best trial's files could not be sent: {error}"
            if problem != self._files_problem:
                self._events.note(problem)
            self._files_problem = problem
        else:
            self._files_problem = None

    def _keep_alive(self, rows: dict[int, MirroredTask]) -> None:
        """Pings running tasks, and restarts those that the server marked as dead."""
        if time.monotonic() - self._pinged_s < PING_S:
            return
        self._pinged_s = time.monotonic()
        ids = [row.task for row in rows.values() if row.task and row.state == RUNNING]
        if not ids:
            return
        server = self._connected()
        for task in server.existing(ids).values():
            try:
                server.ping(task.id) if task.state == RUNNING else server.start(task.id)
            except TrackerRejectsError:
                continue  # e.g. a user has published it; the next update will report that

    def _forget_gone(self, rows: dict[int, MirroredTask]) -> None:
        """Forgets tasks that a user deleted, so that they are created again."""
        ids = [row.task for row in rows.values() if row.task]
        existing = self._connected().existing(ids) if ids else {}
        for row in rows.values():
            if is_gone(row) or (row.task and row.task not in existing):
                forget(row)
                self._store.write_task(row)

    def _connected(self) -> TrackerServer:
        if self._server is None:
            # Importing the SDK takes a second; a mirror that has nothing to send does not need it.
            from canopy_search.dashboards.clearml.session import TrackerSession

            session = TrackerSession(self._plan.tracker)
            self._server = TrackerServer(session)
            self._store.write_state(web=session.web, api_version=session.api_version)
        return self._server

    def _project_id(self, *, again: bool = False) -> str:
        """Returns the id of the study's project: the recorded one, else the one of its name."""
        if self._project is None or again:
            self._project = None if again else self._store.read_state().project
            if self._project is None:
                name = self._plan.project or f"Canopy/{self._plan.study}"
                self._project = self._connected().project(name)
                self._store.write_state(project=self._project)
        return self._project

    def _identity(self, number: int) -> str:
        return identity_tag(self._database_id, self._study_id, number)


def _trial_digest(trial: TrialData, data: StudyData) -> str:
    """Returns a digest that is quick to compute and changes whenever the trial's task does."""
    best = data.best
    is_best = best is not None and best.number == trial.number
    is_finalist = trial.number in [finalist.number for finalist in finalists(data)]
    return digest([trial.state, len(trial.metrics), trial.reason, is_best, is_finalist])
