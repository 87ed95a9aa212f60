"""What the note says, and that nothing that a person wrote in one is ever lost."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.clearml.status import MirrorSummary
from canopy_search.dashboards.optuna_dashboard.note import MARK, digest, merged, study_note
from canopy_search.dashboards.report.page import report_page
from canopy_search.dashboards.study.model import StudyData
from canopy_search.storage.workers.control import PAUSE
from tests.dashboards.studies import COMPLETE, PRUNED, data, searched, setting, trial

OURS, LATER = "**Trial 3 is best**", "**Trial 5 is best**"
READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
WORDS = st.text(st.characters(blacklist_categories=["Cs"])).filter(lambda text: MARK not in text)
MIRROR = MirrorSummary(
    server="https://api.example.org",
    mirrored=29,
    behind=1,
    deleted=0,
    problem=None,
    since=None,
    url="https://app.example.org/study",
    comparison="https://app.example.org/compare",
    trials={3: "https://app.example.org/3"},
)


def note_of(found: StudyData, mirror: MirrorSummary | None = None) -> str:
    return study_note(found, report_page(found), mirror, "/canopy/studies/1")


@given(WORDS)
def test_words_of_a_person_stay_below_what_is_ours(words: str) -> None:
    first = merged(words, OURS, None)
    assert first.startswith(f"{OURS}\n\n{MARK}\n")
    assert words.strip("\n") in first or not words.strip()
    assert merged(first, OURS, digest(OURS)) == first
    assert merged(first, LATER, digest(OURS)) == merged(words, LATER, None)


@given(WORDS, WORDS)
def test_words_written_below_the_mark_are_kept(before: str, added: str) -> None:
    edited = merged(before, OURS, None) + added
    kept = merged(edited, LATER, digest(OURS))
    assert kept.startswith(f"{LATER}\n\n{MARK}\n")
    assert added.strip("\n") in kept or not added.strip()


@given(WORDS.filter(str.strip), WORDS)
def test_a_note_whose_upper_part_a_person_changed_stays_as_it_is(above: str, below: str) -> None:
    body = f"{OURS} and I say {above}\n{MARK}\n{below}"
    assert merged(body, LATER, digest(OURS)) == body
    assert merged(body, LATER, None) == body  # as an earlier version stored it


def test_a_note_that_a_person_emptied_is_ours_again() -> None:
    assert merged("", OURS, digest(LATER)) == f"{OURS}\n\n{MARK}\n"


def test_the_note_opens_with_the_answer_and_ends_with_what_to_do(words: SnapshotAssertion) -> None:
    found = searched(30)
    best = found.best
    assert best is not None
    note = note_of(found, MIRROR)
    first = note.splitlines()[0]
    assert first.startswith("## resnet18")
    assert f"AP {best.score:.4f}".replace("0.", ".") in first
    assert "(10 complete, 20 pruned)" in note
    [mirrored] = [line for line in note.splitlines() if "(https://app.example.org/study)" in line]
    assert "29 trials" in mirrored
    assert "(https://app.example.org/compare)" in mirrored
    for name in ("", "/best.yaml", "/labels.csv", "/trials.csv"):
        assert f"(/canopy/studies/1{name})" in note
    assert "\n- `canopy confirm --study planet` " in note
    assert note == words


def test_what_to_do_next_follows_from_how_the_study_stands() -> None:
    found = searched(30)
    waits = note_of(replace(found, target=40))
    assert "`canopy search " in waits
    assert "--trials 40`" in waits
    assert "`canopy resume " in note_of(replace(found, control=PAUSE))
    without = note_of(data([trial(0, [0.1], PRUNED)]))
    assert "canopy best" not in without
    assert "best.yaml" not in without


@pytest.mark.parametrize("evil", ["<img src=x onerror=alert(1)>", "a|b`c*d_e", "[x](y)", "$x$"])
def test_names_from_users_are_no_markup(evil: str) -> None:
    odd = trial(0, [0.3], COMPLETE, setting(evil, evil), reason=evil)
    tokens = READER.parse(note_of(data([odd])))
    inline = [part for token in tokens for part in token.children or []]
    assert {token.type for token in tokens}.isdisjoint({"html_block"})
    assert {part.type for part in inline}.isdisjoint({"html_inline", "image", "em", "s"}), inline
    links = {part.attrs["href"] for part in inline if part.type == "link_open"}
    assert all(str(link).startswith("/canopy/studies/1") for link in links)
