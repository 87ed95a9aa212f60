"""A study as a diary, EXPERIMENTS.md, in the form of a lab notebook."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote

from optuna.trial import TrialState

from canopy_search.dashboards.answer.confirmation_text import confirmation_lines
from canopy_search.dashboards.diary.blocks import plain_score
from canopy_search.dashboards.diary.data import DiaryData, read_diary_data
from canopy_search.dashboards.diary.outline import Tried, finalists_of, settings_of
from canopy_search.dashboards.diary.sections import (
    Section,
    group_section,
    tried_section,
    wrong_section,
)
from canopy_search.dashboards.diary.words import Words, diary_text, place, read_diary_file
from canopy_search.dashboards.errors import DiaryError
from canopy_search.dashboards.formatting.markdown import code, escaped, link
from canopy_search.dashboards.formatting.settings import difference_words, setting_words
from canopy_search.dashboards.formatting.tables import counts_text, spent_text
from canopy_search.dashboards.formatting.values import (
    difference_text,
    duration_text,
    signed_text,
    spread_text,
)
from canopy_search.dashboards.stats.difference import Difference, Spread
from canopy_search.dashboards.study.confirmation import Confirmation, Confirmed
from canopy_search.dashboards.study.model import TrialData
from canopy_search.filestore.atomic import check_writable, write_atomically
from canopy_search.storage.database import Database
from canopy_search.storage.study.studies import StudyStore

_TOP, _FINALISTS, _DECISION = "top", "finalists", "decision"


def write_diary(
    store: StudyStore, database: Database, name: str, path: Path, *, drops_edits: bool = False
) -> int:
    """Writes the diary of a study, and keeps the user's words from the existing one.

    Args:
        store: the studies of the database.
        database: an open database.
        name: name of the study.
        path: path of the file.
        drops_edits: whether edits outside the places for words may be lost.

    Returns:
        Number of places where the user wrote something.

    Raises:
        DiaryError: the file is not a diary of the study, its marks are broken, or it has edits
            elsewhere; nothing is written.
        UnknownStudyError: there is no such study.
    """
    store.study_id(name)  # an unknown study is reported before problems of the file
    before = kept_words(path, name, drops_edits=drops_edits)
    data = read_diary_data(store, database, name, places=set(before))
    # Read again, because the user may have edited the file meanwhile.
    words = kept_words(path, name, drops_edits=drops_edits)
    write_atomically(path, diary(data, words).encode())
    return len(words)


def kept_words(path: Path, study: str, *, drops_edits: bool = False) -> Words:
    """Returns the user's words from a diary, after checking that it may be replaced.

    Args:
        path: path of the file, which may be missing.
        study: the study whose diary it must be.
        drops_edits: whether edits outside the places for words may be lost.

    Raises:
        DiaryError: it must not be replaced.
        OSError: it cannot be written.
    """
    existing = read_diary_file(path, study)
    if not (existing.is_untouched or drops_edits):
        raise DiaryError(
            f"{path}: it has edits outside the places for words, which would be lost; move them "
            "between the lines <!-- words: … --> and <!-- end of words -->, then run "
            "canopy diary --force"
        )
    check_writable(path)
    return existing.words


def diary(data: DiaryData, words: Words) -> str:
    """Returns the diary of a study; the same study and words give the same text.

    Args:
        data: data of the study.
        words: place → the user's words there.
    """
    study = data.study
    sections = _sections(data)
    lines = [f"# Experiments of study {escaped(study.name)}", "", *_introduction(data), ""]
    lines += [*place(_TOP, words), *_reading(data), *_glance(data)]
    for section in sections:
        lines += [f"## {section.heading}", "", *section.lines, *place(section.place, words)]
    lost = {
        name: text
        for name, text in words.items()
        if name not in {_TOP, *(section.place for section in sections)}
    }
    if lost:
        lines += ["## Words on sections that no longer exist", ""]
        for name in lost:
            lines += [f"On {escaped(name)}:", "", *place(name, words)]
    return diary_text(study.name, lines)


def _sections(data: DiaryData) -> list[Section]:
    outline = data.outline
    sections: list[Section] = []
    best: TrialData | None = None
    previous: TrialData | None = None
    for tried in outline.own:
        sections.append(tried_section(data, tried, best=best, previous=previous))
        best, previous = _better(data, best, tried.shown), tried.shown
    sections += [group_section(data, group) for group in outline.groups]
    if outline.wrong:
        sections.append(wrong_section(data))
    if data.study.trials:
        sections += [_finalists_section(data), _decision_section(data)]
    return _with_own_places(sections)


def _with_own_places(sections: Sequence[Section]) -> list[Section]:
    """Gives each section a unique place, even if two groups have the same name."""
    seen: Counter[str] = Counter({_TOP: 1})
    found = []
    for section in sections:
        seen[section.place] += 1
        again = f" ({seen[section.place]})" if seen[section.place] > 1 else ""
        found.append(replace(section, place=section.place + again))
    return found


def _better(data: DiaryData, best: TrialData | None, trial: TrialData) -> TrialData | None:
    if not trial.is_complete or trial.score is None:
        return best
    is_better = best is None or data.study.worth(trial.score) > data.study.worth(best.score)
    return trial if is_better else best


def _introduction(data: DiaryData) -> list[str]:
    study = data.study
    if not study.trials:
        return ["The study has no trials yet; `canopy search` starts them."]
    if not study.is_ours:
        return [
            f"{counts_text(study)}. Plain Optuna wrote this study, "
            "so its epochs and its data are unknown."
        ]
    record = study.record or {}
    labels = len(record.get("data", {}).get("labels", []))
    images = f" Images with {labels} labels." if labels else ""
    return [f"{counts_text(study)}; {spent_text(study)}.{images}"]


def _reading(data: DiaryData) -> list[str]:
    """Returns the explanation of the sections below."""
    study = data.study
    lines = ["<details><summary>How to read this</summary>", ""]
    if study.is_ours:
        lines += [
            "- VAL is the split that the search chose by. Differences to the baseline after as "
            "many epochs are in brackets.",
            "- TEST was scored only for the settings that `canopy confirm` trained with additional "
            "seeds; it decided nothing.",
        ]
    if data.images:
        lines.append(
            "- *Better*, *worse* and *within noise* are based on a paired bootstrap over "
            f"{data.images:,} validation images. The intervals are adjusted for all settings of "
            "the study; they do not cover other seeds."
        )
    lines += [
        "- `canopy diary` rewrites this file, and keeps the text between the lines "
        "`<!-- words: … -->` and `<!-- end of words -->`. Write your own words there.",
        "",
        "</details>",
        "",
    ]
    return lines


def _glance(data: DiaryData) -> list[str]:
    """Returns a table of the settings that have their own sections."""
    if not data.outline.own:
        return []
    name = "AP" if data.study.is_ours else escaped(data.study.metric)
    lines = [f"| trial | what was tried | {name} | verdict | training |", "|--:|---|---|---|--:|"]
    for tried in data.outline.own:
        base, trial = data.base, tried.shown
        if tried is base:
            what = f"baseline: {setting_words(tried.params)}"
        else:
            what = difference_words(tried.params, base.params if base else {})
        seconds = trial.duration_s
        cells = [
            str(tried.first.number),
            escaped(what),
            _score_cell(data, tried),
            _word(data, tried),
            "–" if seconds is None or not trial.epochs else duration_text(seconds),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _score_cell(data: DiaryData, tried: Tried) -> str:
    trial, base = tried.shown, data.base
    text = plain_score(data.study, trial.score)
    if trial.score is None or not trial.is_complete or base is None or base is tried:
        return text
    then = base.shown.score_at(trial.epochs)
    return text if then is None else f"{text} ({signed_text(trial.score - then, 2)})"


def _word(data: DiaryData, tried: Tried) -> str:
    trial = tried.shown
    if trial.has_gone_wrong:
        return "went wrong"
    if trial.ended_early:
        return f"stopped after epoch {trial.epochs}"
    if not trial.is_complete:
        return "not finished"
    verdict = data.verdicts.get(trial.number)
    return verdict.verdict if isinstance(verdict, Difference) else "–"


def _finalists_section(data: DiaryData) -> Section:
    if data.confirmation is not None:
        return _confirmed_section(data, data.confirmation)
    study = data.study
    finalists = finalists_of(data.study, settings_of(study))
    if not finalists:
        is_running = study.count(TrialState.RUNNING)
        text = "No trial is fully trained" + (" yet." if is_running else ".")
        return Section("Finalists", _FINALISTS, [text, ""])
    lines = []
    for rank, tried in enumerate(finalists, start=1):
        score = plain_score(study, tried.shown.score)
        name = "AP" if study.is_ours else escaped(study.metric)
        seconds = tried.shown.duration_s
        time = "" if seconds is None else f", {duration_text(seconds)} of training"
        lines.append(f"{rank}. {_named(tried)}: {name} {score}{time}")
    lines += ["", *_lead_lines(data, finalists)]
    numbers = [tried.shown.number for tried in finalists]
    return Section("Finalists", _FINALISTS, [*lines, *_comparison(data, numbers)])


def _lead_lines(data: DiaryData, finalists: Sequence[Tried]) -> list[str]:
    if not isinstance(data.lead, Difference) or len(finalists) < 2:
        return []
    second = finalists[1].shown.number
    if data.lead.verdict == "worse":
        return [f"Trial {second} is worse than the best: AP {difference_text(data.lead, 3)}.", ""]
    return [
        f"Trial {second} is within noise of the best (AP {difference_text(data.lead, 3)}): their "
        "cost or additional seeds may decide.",
        "",
    ]


def _confirmed_section(data: DiaryData, confirmation: Confirmation) -> Section:
    seeds = ", ".join(map(str, confirmation.seeds))
    lines = [
        f"Trained again with seeds {seeds}: means ± standard deviations.",
        "",
        "| trial | setting | VAL AP | TEST AP |",
        "|--:|---|---|---|",
    ]
    for confirmed in confirmation.settings:
        trial = confirmed.candidate.trial
        setting = escaped(setting_words(confirmed.candidate.params))
        setting += " (baseline)" if confirmed.candidate.is_baseline else ""
        number = "–" if trial is None else str(trial)
        val = _spread_text(confirmation, confirmed, confirmed.val_ap)
        test = _spread_text(confirmation, confirmed, confirmed.test_ap)
        lines.append(f"| {number} | {setting} | {val} | {test} |")
    trials = [confirmed.candidate.trial for confirmed in confirmation.settings]
    numbers = [number for number in trials if number is not None]
    return Section("Finalists", _FINALISTS, [*lines, "", *_comparison(data, numbers)])


def _spread_text(confirmation: Confirmation, confirmed: Confirmed, spread: Spread | None) -> str:
    if len(confirmed.runs) < len(confirmation.seeds):
        return f"{len(confirmed.runs)} of {len(confirmation.seeds)} runs"
    return spread_text(spread, 3)


def _comparison(data: DiaryData, numbers: Sequence[int]) -> list[str]:
    base = data.base
    known = list(dict.fromkeys([*numbers, *([base.shown.number] if base else [])]))
    url = data.pages.comparison(known)
    return [] if url is None else [link("Compared in ClearML", url), ""]


def _decision_section(data: DiaryData) -> Section:
    study, confirmation = data.study, data.confirmation
    option = f" --study {quote(study.name)}"
    if confirmation is not None:
        lines = [f"- {escaped(_sentence(line))}" for line in confirmation_lines(confirmation)]
        if not confirmation.is_complete:
            lines.append(f"- {code(f'canopy confirm{option}')} continues with them.")
        elif confirmation.winner is not None:
            lines.append(f"- {code(f'canopy best{option} --output best.yaml')} writes it as YAML.")
        return Section("Decision", _DECISION, [*lines, ""])
    finalists = finalists_of(study, settings_of(study))
    if not finalists:
        return Section("Decision", _DECISION, ["Nothing can be decided yet.", ""])
    best = finalists[0]
    if not study.is_ours:
        return Section("Decision", _DECISION, [f"The best is {_named(best)}.", ""])
    lines = [
        f"Proposed: {_named(best)}, based on VAL and one seed only.",
        "",
        f"{code(f'canopy confirm{option}')} trains the finalists and the baseline with additional "
        "seeds, chooses by the mean, and scores TEST. "
        f"{code(f'canopy best{option} --output best.yaml')} writes the best as YAML.",
        "",
    ]
    return Section("Decision", _DECISION, lines)


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]}."


def _named(tried: Tried) -> str:
    setting = escaped(setting_words(tried.params))
    return f"trial {tried.shown.number}" + (f" ({setting})" if setting else "")
