"""A study and its workers in words: the lines of `canopy status`."""

import shlex
from collections import defaultdict
from collections.abc import Sequence

from optuna.trial import TrialState

from canopy_search.dashboards.answer.verified import verified
from canopy_search.dashboards.formatting.tables import (
    counts_text,
    objectives_text,
    score_text,
    spent_text,
    worker_name,
)
from canopy_search.dashboards.formatting.values import (
    age_text,
    counted,
    params_text,
    paused_text,
    printable,
)
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.storage.workers.control import ARCHIVED, PAUSE, RUN, STOP_FINISHING, STOP_PRUNING
from canopy_search.storage.workers.registry import LEFT, WorkerSummary

RECENT_S = 600.0
"""How long a worker's end counts as recent."""
MOST_FAILURES = 3
_MOST_NUMBERS = 8
_STILL_S = 60.0
_ENDS = {TrialState.FAIL.name: "failed", TrialState.PRUNED.name: "pruned"}

_CONTROLS = {
    STOP_FINISHING: "stopping: running trials continue to their last epoch, no new ones start",
    STOP_PRUNING: "stopping: running trials end as pruned, no new ones start",
}


def status_lines(summary: StudyData) -> list[str]:
    """Returns the progress of a study, its active workers, and its failures."""
    lines = [f"study {summary.name}: {counts_text(summary)}"]
    if summary.best is not None:
        lines.append(best_text(summary, summary.best))
    if summary.objectives > 1:
        lines.append(objectives_text(summary))
    if summary.is_over and (found := verified(summary)) and found.text:
        lines.append(found.text)
    lines.append(spent_text(summary))
    if control := control_text(summary):
        lines.append(control)
    living = [worker for worker in summary.workers if worker.is_living]
    if living:
        lines.append(f"{counted(len(living), 'worker')}:")
        lines += [f"  {worker_name(worker)}: {_work_text(worker)}" for worker in living]
    return [*lines, *loss_lines(summary), *trouble_lines(summary)]


def loss_lines(summary: StudyData) -> list[str]:
    """Returns the workers that were lost recently; many of one device are one line."""
    lost: defaultdict[tuple[str, str], list[WorkerSummary]] = defaultdict(list)
    for worker in summary.workers:
        if worker.end not in {None, LEFT} and is_recent(worker):
            lost[worker.host, worker.slot].append(worker)
    living = {(worker.host, worker.slot) for worker in summary.workers if worker.is_living}
    lines = []
    for place, workers in lost.items():
        if len(workers) > MOST_FAILURES:
            more = "" if place in living else ", and none runs there now"
            text = f"{len(workers)} workers were lost there in {RECENT_S / 60:.0f} min"
            lines.append(f"{_loss_text(workers[-1])}; {text}{more}")
        else:
            lines += map(_loss_text, workers)
    return lines


def trouble_lines(summary: StudyData) -> list[str]:
    """Returns the interrupted trials, and the latest failures with their reasons."""
    lines = []
    if interrupted := summary.interrupted:
        lines.append(_interrupted_text(interrupted))
    failures = summary.failures
    for trial in failures[:MOST_FAILURES]:
        reason = printable(trial.reason or "unknown reason")
        lines.append(f"trial {trial.number} {_ENDS.get(trial.state, trial.state)}: {reason}")
    if more := len(failures[MOST_FAILURES:]):
        lines.append(f"{counted(more, 'trial')} failed or stopped earlier; see canopy trials")
    return lines


def best_text(summary: StudyData, best: TrialData) -> str:
    """Returns the best trial and its setting."""
    what = "AP" if summary.is_ours else printable(summary.metric)
    score = score_text(summary, best.score)
    return f"best {what} {score}: trial {best.number}, {params_text(best.params)}"


def control_text(summary: StudyData) -> str | None:
    """Returns the user's request to pause or stop the study, if there is one."""
    if summary.control == RUN:
        return None
    if summary.control == PAUSE:
        return paused_text(summary.name)
    if summary.control == ARCHIVED:
        return "the study is archived"
    if not summary.is_searched:
        name = shlex.quote(summary.name)
        return f"the study was stopped; resume it with: canopy search --study {name}"
    return _CONTROLS.get(summary.control, f"requested: {printable(summary.control)}")


def doing_text(worker: WorkerSummary) -> str:
    """Returns what a worker does: ``trial 7, epoch 3 of 8, 40 %``, or ``waits``."""
    if worker.trial_number is None or not worker.is_living:
        return "waits" if worker.is_living else "–"
    trial, doing = f"trial {worker.trial_number}", worker.doing or {}
    # A worker reports its progress a moment after it takes a trial.
    if doing.get("trial") != worker.trial_number:
        return trial
    of_epochs = f" of {doing['epochs']}" if doing.get("epochs") else ""
    text = f"{trial}, epoch {doing.get('epoch', '?')}{of_epochs}"
    if doing.get("batches"):
        text += f", {100 * doing.get('batch', 0) // doing['batches']} %"
    return text


def state_text(worker: WorkerSummary) -> str:
    """Returns a worker's state: works, waits, silent, died, answers no more, left."""
    if not worker.is_living:
        return worker.end or LEFT
    if worker.is_silent:
        return "silent"
    return "waits" if worker.trial_number is None else "works"


def is_recent(worker: WorkerSummary) -> bool:
    """Whether a worker's last heartbeat is recent."""
    return worker.idle_s < RECENT_S


def _work_text(worker: WorkerSummary) -> str:
    """Returns what an active worker does, and a warning if it is silent or stuck."""
    parts = [doing_text(worker)]
    if worker.is_silent:
        parts.append(f"silent for {age_text(worker.idle_s)}")
    elif worker.trial_number is not None and (worker.stuck_s or 0.0) > _STILL_S:
        parts.append(f"no progress for {age_text(worker.stuck_s)}")
    return ", ".join(parts)


def _loss_text(worker: WorkerSummary) -> str:
    return (
        f"{worker_name(worker)}: {worker.end}, last heartbeat {worker.seen.astimezone():%H:%M:%S}"
    )


def _interrupted_text(trials: Sequence[TrialData]) -> str:
    numbers = ", ".join(str(trial.number) for trial in trials[:_MOST_NUMBERS])
    more = f" and {len(trials) - _MOST_NUMBERS} more" if len(trials) > _MOST_NUMBERS else ""
    word, it = ("trial", "it") if len(trials) == 1 else ("trials", "them")
    return f"interrupted: {word} {numbers}{more}; the next free worker resumes {it}"
