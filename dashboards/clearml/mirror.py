"""Mirrors one study: each round reads it and sends the server what is missing there."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from optuna.trial import TrialState

from canopy_search.dashboards.clearml.attachments import Attachment, attach, differ
from canopy_search.dashboards.clearml.credentials import (
    ServerAddresses,
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
from canopy_search.dashboards.clearml.figures import label_confusion
from canopy_search.dashboards.clearml.links import comparison_url, task_url
from canopy_search.dashboards.clearml.plotly_json import plot
from canopy_search.dashboards.clearml.reconcile import Reconciler, differs, forget, is_gone
from canopy_search.dashboards.clearml.server import FoundTask, TrackerServer
from canopy_search.dashboards.clearml.study_task import Pages, finalists, study_task
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
        addresses: the server's addresses in canopy.yaml.
        project: name of the project, for a study that has none on the server yet.
        is_live: whether the mirror follows a search.
        recreate: whether to recreate tasks that a user deleted.
        attachments: returns the files of the best trial.
    """

    study: str
    tracker: TrackerSettings
    addresses: ServerAddresses = field(default_factory=ServerAddresses)
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


class Mirror:
    """One study on one server.

    Args:
        database: an open database.
        plan: what is mirrored, and where to.
        note: called with each message for the user.
        before_task: called before each update of a task; it may raise to end the round.
        after_task: called after each update of a task.
    """

    def __init__(
        self,
        database: Database,
        plan: MirrorPlan,
        *,
        note: Callable[[str], None],
        before_task: Callable[[], object] = lambda: None,
        after_task: Callable[[], object] = lambda: None,
    ) -> None:
        self._database = database
        self._plan = plan
        self._note = note
        self._before_task = before_task
        self._after_task = after_task
        self._studies = StudyStore(database)
        self._reader = StudyReader(self._studies, plan.study)
        self._record = self._studies.read_record(plan.study)
        self._study_id = self._studies.study_id(plan.study)
        self._database_id = database.read_id()
        self.store = MirrorStore(database, self._study_id, plan.server)
        self._server: TrackerServer | None = None
        self._project: str | None = None
        self._settled: dict[int, str] = {}
        self._rejected: dict[int, str] = {}
        self._confusions: dict[int, Plot | None] = {}
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
        summary = self._reader.read()
        trials = summary.trials
        rows = self.store.read_tasks()
        for number in (STUDY_TASK, *(trial.number for trial in trials)):
            rows.setdefault(number, MirroredTask(number))
        try:
            return self._round(summary, trials, rows, last=last)
        except TrackerRefusesError:
            self._server = None  # the next round logs in again
            raise

    def _round(
        self,
        summary: StudyData,
        trials: Sequence[TrialData],
        rows: dict[int, MirroredTask],
        *,
        last: bool,
    ) -> MirrorStatus:
        if self._recreates:
            self._forget_gone(rows)
            self._recreates = False
        changed = [t for t in trials if self._settled.get(t.number) != _trial_digest(t, summary)]
        sent = 0
        if changed and rows[STUDY_TASK].task is None:
            # The trials' tasks are its children, so it is created first and filled at the end.
            self._update([self._study(summary, rows)], rows, only_create=True)
        sent += self._update(self._differing(changed, summary, rows), rows)
        is_over = summary.is_over and not any(_is_running(trial) for trial in trials)
        is_due = time.monotonic() - self._study_sent_s >= STUDY_EVERY_S
        # A mirror that follows a study ends with it, so no later round can send the rest.
        if last or is_over or is_due or not self._plan.is_live:
            self._study_sent_s = time.monotonic()
            desired = self._study(summary, rows)
            sent += self._update([desired], rows)
            self._is_study_settled = not differs(desired, rows[STUDY_TASK])
            self._attach_files(summary, rows)
        if self._plan.is_live and not last:
            self._keep_alive(rows)
        settled = [t for t in trials if self._settled.get(t.number) == _trial_digest(t, summary)]
        gone = [row for row in rows.values() if is_gone(row)]
        behind = len(trials) - len(settled) + (not self._is_study_settled)
        return MirrorStatus(
            mirrored=len(trials) + 1 - behind - len(gone),
            behind=behind,
            gone=len(gone),
            sent=sent,
            rejected=next(
                (row.problem for row in rows.values() if row.problem and not is_gone(row)), None
            ),
            is_over=is_over,
        )

    def _differing(
        self, trials: Sequence[TrialData], summary: StudyData, rows: dict[int, MirroredTask]
    ) -> Iterator[DesiredTask]:
        """Yields the desired tasks of the trials whose tasks differ from them."""
        for trial in trials:
            row, desired = rows[trial.number], self._trial(trial, summary)
            if differs(desired, row):
                yield desired
            if not differs(desired, row):
                self._settled[trial.number] = _trial_digest(trial, summary)

    def _update(
        self,
        desired_tasks: Iterable[DesiredTask],
        rows: dict[int, MirroredTask],
        *,
        only_create: bool = False,
    ) -> int:
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
            known = (found or {}).get(desired.identity)
            if self._update_one(desired, row, known, rows, only_create=only_create):
                sent += 1
                self._after_task()
        return sent

    def _update_one(
        self,
        desired: DesiredTask,
        row: MirroredTask,
        found: FoundTask | None,
        rows: dict[int, MirroredTask],
        *,
        only_create: bool,
    ) -> bool:
        """Sends the differences of one task; returns whether the server accepted them."""

        def send(project: str, found: FoundTask | None, parent: str | None) -> None:
            reconciler = Reconciler(server, self.store, project)
            send_task = reconciler.create if only_create else reconciler.update
            send_task(desired, row, found=found, parent=parent)

        parent = rows[STUDY_TASK].task if desired.number != STUDY_TASK else None
        server, project = self._connected(), self._project_id()
        try:
            try:
                send(project, found, parent)
            except TrackerRejectsError:
                if row.task is not None or is_gone(row):
                    raise
                # The task cannot be created: a user may have deleted the project.
                project = self._project_id(again=True)
                has_parent = parent is not None and bool(server.existing([parent]))
                send(project, None, parent if has_parent else None)
        except TrackerRejectsError:
            self._rejected[desired.number] = digest(vars(desired))
            return False
        self._rejected.pop(desired.number, None)
        return True

    def _trial(self, trial: TrialData, summary: StudyData) -> DesiredTask:
        best = summary.best
        is_finalist = any(trial.number == finalist.number for finalist in finalists(summary))
        confusion = self._confusion(trial) if is_finalist else None
        return trial_task(
            trial,
            study=summary.name,
            identity=self._identity(trial.number),
            record=self._record,
            is_best=best is not None and best.number == trial.number,
            extra_plots=(confusion,) if confusion else (),
        )

    def _study(self, summary: StudyData, rows: dict[int, MirroredTask]) -> DesiredTask:
        state = self.store.read_state()
        task_ids = {n: row.task for n, row in rows.items() if row.task and n != STUDY_TASK}
        pages = Pages(
            task_ids,
            partial(task_url, state.web, state.api_version, state.project),
            partial(comparison_url, state.web, state.api_version, state.project),
        )
        confusions = [self._confusion(trial) for trial in finalists(summary)]
        return study_task(
            summary,
            identity=self._identity(STUDY_TASK),
            record=self._record,
            pages=pages,
            is_live=self._plan.is_live,
            extra_plots=tuple(
                replace(confusion, series=f"finalist {rank}")
                for rank, confusion in enumerate(confusions, start=1)
                if confusion is not None
            ),
        )

    def _confusion(self, trial: TrialData) -> Plot | None:
        """Returns the cached figure of a finished trial, which no longer changes."""
        if trial.number not in self._confusions:
            found = trial_predictions(self._database, self._plan.study, [trial.number])
            predictions = found.get(trial.number)
            self._confusions[trial.number] = (
                None
                if predictions is None
                else plot("Labels given", "confusion", label_confusion(predictions, trial))
            )
        return self._confusions[trial.number]

    def _attach_files(self, summary: StudyData, rows: dict[int, MirroredTask]) -> None:
        """Sends files. A failure is only noted, because the rest of the mirror is complete."""
        try:
            by_task: defaultdict[int, list[Attachment]] = defaultdict(list)
            for attachment in self._plan.attachments(summary):
                by_task[attachment.number].append(attachment)
            for number, attachments in by_task.items():
                row = rows.get(number)
                if row is not None and differ(attachments, row):
                    self._before_task()
                    attach(self._connected(), attachments, row)
                    self.store.write_task(row)
        except (TrackerError, OSError) as error:
            problem = f"ClearML: the best trial's files could not be sent: {error}"
            if problem != self._files_problem:
                self._note(problem)
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
                self.store.write_task(row)

    def _connected(self) -> TrackerServer:
        if self._server is None:
            # Importing the SDK takes a second; a mirror that has nothing to send does not need it.
            from canopy_search.dashboards.clearml.session import TrackerSession

            session = TrackerSession(self._plan.tracker, self._plan.addresses)
            self._server = TrackerServer(session)
            self.store.write_state(web=session.web, api_version=session.api_version)
        return self._server

    def _project_id(self, *, again: bool = False) -> str:
        """Returns the id of the study's project: the recorded one, else the one of its name."""
        if self._project is None or again:
            self._project = None if again else self.store.read_state().project
            if self._project is None:
                name = self._plan.project or f"Canopy/{self._plan.study}"
                self._project = self._connected().project(name)
                self.store.write_state(project=self._project)
        return self._project

    def _identity(self, number: int) -> str:
        return identity_tag(self._database_id, self._study_id, number)


def _is_running(trial: TrialData) -> bool:
    return trial.state not in {
        TrialState.COMPLETE.name,
        TrialState.PRUNED.name,
        TrialState.FAIL.name,
    }


def _trial_digest(trial: TrialData, summary: StudyData) -> str:
    """Returns a digest that is quick to compute and changes whenever the trial's task does."""
    best = summary.best
    finalist_numbers = [finalist.number for finalist in finalists(summary)]
    return digest(
        [
            trial.state,
            len(trial.metrics),
            trial.reason,
            best is not None and best.number == trial.number,
            trial.number in finalist_numbers,
        ]
    )
