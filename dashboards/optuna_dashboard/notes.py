"""A study and its trials as notes in Markdown, and what a person adds to them."""

import hashlib
import shlex
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence

from optuna.trial import TrialState

from canopy_search.dashboards.answer.headline import Answer, facts, lead, title
from canopy_search.dashboards.clearml.status import MirrorSummary
from canopy_search.dashboards.formatting.tables import (
    counts_text,
    duration_text,
    params_text,
    score_text,
    spent_text,
    value_text,
)
from canopy_search.dashboards.optuna_dashboard.markdown import code, plain, table
from canopy_search.dashboards.study.reader import StudyData, TrialData
from canopy_search.storage.study.trial_attributes import INTERRUPTED, PAUSED
from canopy_search.storage.workers.control import PAUSE

MARK = "*Your own words go below this line; what is above follows the study.*"
"""Parts what is written here from what a person adds."""

_STATES = {
    TrialState.COMPLETE.name: "complete",
    TrialState.PRUNED.name: "pruned",
    TrialState.FAIL.name: "failed",
    TrialState.RUNNING.name: "runs",
    TrialState.WAITING.name: "waits to begin",
    PAUSED: "pauses until it is promoted",
    INTERRUPTED: "interrupted; the next free worker goes on with it",
}
_SPLITS = ("train", "val", "test")
# Every version of a note of a running study that an editor may have been opened on.
_MOST_REMEMBERED = 100_000


class ShownTexts:
    """Remembers what was shown as ours, to know it again in what an editor sends."""

    def __init__(self) -> None:
        self._digests: OrderedDict[Hashable, None] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, note: Hashable, text: str) -> None:
        """Remembers a text of a note; of all notes together the last ones."""
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
    """Returns a note as it is shown: ours, and below it the words of a person.

    A person who changed what is ours has it kept as they left it, and nothing is added.
    """
    if MARK in words:
        return words
    return f"{ours}\n\n{MARK}\n" + (f"\n{words}\n" if words.strip() else "")


def words_in(body: str, is_ours: Callable[[str], bool]) -> str:
    """Returns what is to be kept of a note that a person wrote.

    Args:
        body: the whole text as the editor sends it.
        is_ours: whether a text is one that was shown above the mark.

    Returns:
        What stands below the mark, if what is above it was not touched; else all of it.
    """
    above, mark, below = body.partition(MARK)
    if mark and is_ours(above):
        return below.strip()
    return body


def trial_note(data: StudyData, trial: TrialData, url: str | None, test: float | None) -> str:
    """Returns what there is to say of a trial; of one that has ended it is final.

    Args:
        data: the trial's study.
        trial: of the study.
        url: of its page in ClearML, if it has one.
        test: its AP on test, if it was scored there.
    """
    summary = trial.summary
    state = _STATES.get(summary.state, summary.state.lower())
    score = f", {plain(_metric(data))} {score_text(data, trial.score)}" * (trial.score is not None)
    parts = [f"**Trial {trial.number}: {state}{score}**"]
    if summary.reason:
        parts.append(f"Why it ended: {plain(summary.reason)}")
    if trial.params:
        rows = [(plain(name), plain(value_text(value))) for name, value in trial.params.items()]
        parts.append(table(("setting", ""), rows))
    if metrics := _metrics_table(trial, test):
        parts.append(metrics)
    if rows := _cost_rows(data, trial):
        parts.append(table(("cost", ""), rows))
    if url:
        parts.append(f"[This trial in ClearML]({_target(url)})")
    return "\n\n".join(parts)


def study_note(
    data: StudyData,
    answer: Answer,
    mirror: MirrorSummary | None,
    confirmed: Sequence[str],
    files: Mapping[str, str],
) -> str:
    """Returns what a study has found, how far it is, what it cost, and what to do next.

    Args:
        data: the study.
        answer: how sure its ranking is.
        mirror: of the study in ClearML, if it has one.
        confirmed: what further seeds say of the finalists, a sentence each, if that was asked.
        files: name of a file that is offered → its address.
    """
    parts = [f"## {plain(title(data))}", *(plain(text) for text in lead(data, answer))]
    if told := facts(data, answer):
        rows = [(plain(f.name), f"**{plain(f.value)}**", plain(f.note)) for f in told]
        parts.append(table(("", "", ""), rows))
    standing = [("trials", plain(_progress_text(data)))]
    if data.is_ours:
        standing.append(("cost", plain(spent_text(data.summary))))
    if mirror is not None:
        standing.append(("ClearML", "; ".join(_mirror_parts(mirror))))
    parts.append(table(("how far", ""), standing))
    if confirmed:
        lines = "\n".join(f"- {plain(line)}" for line in confirmed)
        parts.append(f"**With further seeds**\n\n{lines}")
    if files:
        links = ", ".join(f"[{plain(name)}]({_target(url)})" for name, url in files.items())
        parts.append(f"Files: {links}")
    if steps := _next_steps(data, confirmed):
        parts.append("**What to do next**\n\n" + "\n".join(f"- {step}" for step in steps))
    return "\n\n".join(parts)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.strip().encode()).digest()


def _metric(data: StudyData) -> str:
    return "AP" if data.is_ours else data.metric


def _metrics_table(trial: TrialData, test: float | None) -> str | None:
    """Returns the metrics of a trial's last epoch, a row for each and a column for each split."""
    found: dict[str, dict[str, str]] = {"ap": {}}
    for key, value in (trial.stages[-1].metrics if trial.stages else {}).items():
        split, _, name = key.partition("_")
        if split in _SPLITS and isinstance(value, float) and name != "s":
            found.setdefault(name, {})[split] = _number(value)
    if test is not None:
        found["ap"]["test"] = _number(test)
    splits = [split for split in _SPLITS if any(split in each for each in found.values())]
    rows = [
        (plain("AP" if name == "ap" else name), *(each.get(split, "–") for split in splits))
        for name, each in found.items()
        if each
    ]
    names = {"train": "training", "val": "validation", "test": "test"}
    heading = (f"after epoch {trial.epochs}", *(names[split] for split in splits))
    return table(heading, rows) if rows else None


def _cost_rows(data: StudyData, trial: TrialData) -> list[tuple[str, str]]:
    summary = trial.summary
    rows = []
    if data.is_ours:
        reported = len(summary.metrics)
        rows.append(("epochs reported", f"{reported} of {data.planned_epochs}"))
        rows.append(("trained for it", str(summary.epochs_trained)))
        rows.append(("known already", str(summary.epochs_replayed)))
    if trial.seconds is not None:
        rows.append(("time from the start", duration_text(trial.seconds)))
    if data.is_ours:
        rows.append(("time spent on it", duration_text(summary.trained_s)))
    if summary.promoted_from is not None:
        rows.append(("goes on from", f"trial {summary.promoted_from}"))
    rows += [
        (word, f"{instant:%Y-%m-%d %H:%M:%S}")
        for word, instant in (("began", trial.began), ("ended", trial.ended))
        if instant is not None
    ]
    return rows


def _progress_text(data: StudyData) -> str:
    summary = data.summary
    target = f" of {summary.target} wanted" if summary.target else ""
    living = sum(worker.is_living for worker in summary.workers)
    who = f"; {living} worker{'s' * (living != 1)} at it" if living else ""
    return f"{counts_text(summary)}{target}{who}"


def _mirror_parts(mirror: MirrorSummary) -> list[str]:
    parts = [f"{mirror.mirrored} trials mirrored, {mirror.behind} behind"]
    if mirror.problem:
        parts.append(plain(mirror.problem))
    if mirror.url:
        parts.append(f"[the study]({_target(mirror.url)})")
    if mirror.comparison:
        parts.append(f"[the best trials compared]({_target(mirror.comparison)})")
    return parts


def _next_steps(data: StudyData, confirmed: Sequence[str]) -> list[str]:
    """Returns commands, and what each is for."""
    summary = data.summary
    named = f"--study {shlex.quote(data.name)}"
    if not data.is_ours:
        return [f"{code(f'canopy report {named}')} writes all of it as one page"]
    steps = []
    if summary.control == PAUSE:
        steps.append(f"{code(f'canopy resume {named}')}: it pauses")
    elif not summary.is_searched and not summary.is_over:
        steps.append(
            f"{code(f'canopy search {named} --trials {summary.target}')}: nobody works on it, and "
            "it lacks trials"
        )
    if summary.best is None:
        return steps
    if not confirmed:
        steps.append(
            f"{code(f'canopy confirm {named}')} trains the best with further seeds, and tests them"
        )
    steps.append(
        f"{code(f'canopy best {named} --output best.yaml')} and {code('canopy train best.yaml')} "
        f"take {plain(params_text(summary.best.params)) or 'it'} home"
        if not confirmed
        else f"{code(f'canopy best {named} --output best.yaml')} and "
        f"{code('canopy train best.yaml')} take the winner home"
    )
    return steps


def _number(value: float) -> str:
    return f"{value:.4f}".removeprefix("0") if abs(value) < 1 else f"{value:.4g}"


def _target(url: str) -> str:
    """Returns an address as the target of a link: nothing in it ends the link."""
    return "<" + url.replace("<", "%3C").replace(">", "%3E").replace("\n", "") + ">"
