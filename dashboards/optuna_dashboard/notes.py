"""Notes in Markdown about a study and its trials, and the user's additions to them."""

import hashlib
import shlex
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence

from optuna.trial import TrialState

from canopy_search.dashboards.answer.headline import Answer, facts, lead, title
from canopy_search.dashboards.clearml.status import MirrorSummary
from canopy_search.dashboards.formatting.markdown import code, escaped, link, table
from canopy_search.dashboards.formatting.tables import counts_text, score_text, spent_text
from canopy_search.dashboards.formatting.values import (
    counted,
    duration_text,
    metric_text,
    params_text,
    value_text,
)
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.storage.study.trial_attributes import INTERRUPTED, PAUSED
from canopy_search.storage.workers.control import PAUSE

MARK = "*Your own words go below this line; what is above follows the study.*"
"""Separates Canopy's text from the user's; saved notes may contain it, so it must not change."""

_STATES = {
    TrialState.COMPLETE.name: "complete",
    TrialState.PRUNED.name: "pruned",
    TrialState.FAIL.name: "failed",
    TrialState.RUNNING.name: "running",
    TrialState.WAITING.name: "waiting to start",
    PAUSED: "paused until it is promoted",
    INTERRUPTED: "interrupted; the next free worker resumes it",
}
_SPLITS = ("train", "val", "test")
# An editor may be open on any recent version of a running study's notes.
_MOST_REMEMBERED = 100_000


class ShownTexts:
    """Remembers Canopy's texts that were shown, to recognise them in what an editor sends."""

    def __init__(self) -> None:
        self._digests: OrderedDict[Hashable, None] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, note: Hashable, text: str) -> None:
        """Remembers a text of a note; the oldest texts of all notes are dropped."""
        key = (note, _digest(text))
        with self._lock:
            self._digests[key] = None
            self._digests.move_to_end(key)
            while len(self._digests) > _MOST_REMEMBERED:
                self._digests.popitem(last=False)

    def knows(self, note: Hashable, text: str) -> bool:
        """Whether a text was shown in a note."""
        return (note, _digest(text)) in self._digests


def with_words(ours: str, words: str) -> str:
    """Returns a note as it is shown: Canopy's text, then the user's words.

    If the user edited Canopy's text, the note is shown as they saved it, and nothing is added.
    """
    if MARK in words:
        return words
    return f"{ours}\n\n{MARK}\n" + (f"\n{words}\n" if words.strip() else "")


def words_in(body: str, is_ours: Callable[[str], bool]) -> str:
    """Returns the part of an edited note that has to be stored.

    Args:
        body: the whole text as the editor sends it.
        is_ours: whether a text was shown above the mark.

    Returns:
        The text below the mark if the text above it is unchanged, else the whole text.
    """
    above, mark, below = body.partition(MARK)
    if mark and is_ours(above):
        return below.strip()
    return body


def trial_note(data: StudyData, trial: TrialData, url: str | None, test: float | None) -> str:
    """Returns the note of a trial; it no longer changes once the trial has ended.

    Args:
        data: the trial's study.
        trial: the trial.
        url: address of its page in ClearML, if it has one.
        test: its AP on test, if it was scored there.
    """
    summary = trial
    state = _STATES.get(summary.state, summary.state.lower())
    score = f", {escaped(_metric(data))} {score_text(data, trial.score)}" * (
        trial.score is not None
    )
    parts = [f"**Trial {trial.number}: {state}{score}**"]
    if summary.reason:
        parts.append(f"Why it ended: {escaped(summary.reason)}")
    if trial.params:
        rows = [(escaped(name), escaped(value_text(value))) for name, value in trial.params.items()]
        parts.append(table(("setting", ""), rows))
    if metrics := _metrics_table(trial, test):
        parts.append(metrics)
    if rows := _cost_rows(data, trial):
        parts.append(table(("cost", ""), rows))
    if url:
        parts.append(link("This trial in ClearML", url))
    return "\n\n".join(parts)


def study_note(
    data: StudyData,
    answer: Answer,
    mirror: MirrorSummary | None,
    confirmed: Sequence[str],
    files: Mapping[str, str],
) -> str:
    """Returns the note of a study: results, progress, cost and next steps.

    Args:
        data: the study.
        answer: how certain its ranking is.
        mirror: its mirror in ClearML, if it has one.
        confirmed: sentences about the finalists with additional seeds, if they were confirmed.
        files: name of an offered file → its address.
    """
    parts = [f"## {escaped(title(data))}", *(escaped(text) for text in lead(data, answer))]
    if key_facts := facts(data, answer):
        rows = [(escaped(f.name), f"**{escaped(f.value)}**", escaped(f.note)) for f in key_facts]
        parts.append(table(("", "", ""), rows))
    progress = [("trials", escaped(_progress_text(data)))]
    if data.is_ours:
        progress.append(("cost", escaped(spent_text(data))))
    if mirror is not None:
        progress.append(("ClearML", "; ".join(_mirror_parts(mirror))))
    parts.append(table(("progress", ""), progress))
    if confirmed:
        lines = "\n".join(f"- {escaped(line)}" for line in confirmed)
        parts.append(f"**With additional seeds**\n\n{lines}")
    if files:
        links = ", ".join(link(name, url) for name, url in files.items())
        parts.append(f"Files: {links}")
    if steps := _next_steps(data, confirmed):
        parts.append("**What to do next**\n\n" + "\n".join(f"- {step}" for step in steps))
    return "\n\n".join(parts)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.strip().encode()).digest()


def _metric(data: StudyData) -> str:
    return "AP" if data.is_ours else data.metric


def _metrics_table(trial: TrialData, test: float | None) -> str | None:
    """Returns the metrics of a trial's last epoch: one row per metric, one column per split."""
    by_metric: dict[str, dict[str, str]] = {"ap": {}}
    for key, value in (trial.stages[-1].metrics if trial.stages else {}).items():
        split, _, name = key.partition("_")
        if split in _SPLITS and isinstance(value, float) and name != "s":
            by_metric.setdefault(name, {})[split] = metric_text(value)
    if test is not None:
        by_metric["ap"]["test"] = metric_text(test)
    splits = [split for split in _SPLITS if any(split in row for row in by_metric.values())]
    rows = [
        (escaped("AP" if name == "ap" else name), *(values.get(split, "–") for split in splits))
        for name, values in by_metric.items()
        if values
    ]
    names = {"train": "training", "val": "validation", "test": "test"}
    heading = (f"after epoch {trial.epochs}", *(names[split] for split in splits))
    return table(heading, rows) if rows else None


def _cost_rows(data: StudyData, trial: TrialData) -> list[tuple[str, str]]:
    summary = trial
    rows = []
    if data.is_ours:
        reported = len(summary.metrics)
        rows.append(("epochs reported", f"{reported} of {data.planned_epochs}"))
        rows.append(("epochs trained", str(summary.epochs_trained)))
        rows.append(("epochs reused", str(summary.epochs_replayed)))
    if trial.duration_s is not None:
        rows.append(("time from the start", duration_text(trial.duration_s)))
    if data.is_ours:
        rows.append(("time spent", duration_text(summary.trained_s)))
    if summary.promoted_from is not None:
        rows.append(("resumes", f"trial {summary.promoted_from}"))
    rows += [
        (word, f"{instant:%Y-%m-%d %H:%M:%S}")
        for word, instant in (("started", trial.began), ("ended", trial.ended))
        if instant is not None
    ]
    return rows


def _progress_text(data: StudyData) -> str:
    summary = data
    target = f", target {summary.target}" if summary.target else ""
    living = sum(worker.is_living for worker in summary.workers)
    workers = f"; {counted(living, 'active worker')}" if living else ""
    return f"{counts_text(summary)}{target}{workers}"


def _mirror_parts(mirror: MirrorSummary) -> list[str]:
    parts = [f"{mirror.mirrored} trials mirrored, {mirror.behind} behind"]
    if mirror.problem:
        parts.append(escaped(mirror.problem))
    if mirror.url:
        parts.append(link("the study", mirror.url))
    if mirror.comparison:
        parts.append(link("the best trials compared", mirror.comparison))
    return parts


def _next_steps(data: StudyData, confirmed: Sequence[str]) -> list[str]:
    """Returns commands, each with its purpose."""
    summary = data
    option = f"--study {shlex.quote(data.name)}"
    if not data.is_ours:
        return [f"{code(f'canopy report {option}')} writes everything as one HTML page"]
    steps = []
    if summary.control == PAUSE:
        steps.append(f"{code(f'canopy resume {option}')}: the study is paused")
    elif not summary.is_searched and not summary.is_over:
        steps.append(
            f"{code(f'canopy search {option} --trials {summary.target}')}: no worker is active, "
            "and trials are missing"
        )
    if summary.best is None:
        return steps
    if not confirmed:
        steps.append(
            f"{code(f'canopy confirm {option}')} trains the best with additional seeds, "
            "and scores them on test"
        )
    steps.append(
        f"{code(f'canopy best {option} --output best.yaml')} and {code('canopy train best.yaml')} "
        f"export and train {escaped(params_text(summary.best.params)) or 'it'}"
        if not confirmed
        else f"{code(f'canopy best {option} --output best.yaml')} and "
        f"{code('canopy train best.yaml')} export and train the winner"
    )
    return steps
