"""What notes say, and that what a person wrote in one comes back as it was."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.answer.headline import answer_of
from canopy_search.dashboards.clearml.status import MirrorSummary
from canopy_search.dashboards.optuna_dashboard.notes import (
    MARK,
    ShownTexts,
    study_note,
    trial_note,
    with_words,
    words_in,
)
from canopy_search.storage.workers.control import PAUSE
from tests.dashboards.studies import (
    COMPLETE,
    FAILED,
    PRUNED,
    Epochs,
    data,
    searched,
    setting,
    trial,
)

OURS = "**Trial 3: complete, AP .6113**"
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


def note_of(found: object, **changes: object) -> str:
    told = {"mirror": None, "confirmed": [], "files": {}} | changes
    return study_note(found, answer_of(found), **told)  # type: ignore[arg-type]


@given(WORDS)
def test_a_persons_words_come_back_from_the_editor(words: str) -> None:
    shown = with_words(OURS, words)
    kept = words_in(shown, lambda above: above.strip() == OURS)
    assert kept == words.strip()
    assert with_words("ours has changed", kept) == with_words("ours has changed", words.strip())


@given(WORDS, WORDS)
def test_nothing_that_a_person_wrote_is_lost(above: str, below: str) -> None:
    body = f"{OURS} and I say{above}\n{MARK}\n{below}"
    kept = words_in(body, lambda text: text.strip() == OURS)
    assert kept == body
    assert with_words("ours has changed", kept) == body


def test_a_note_that_a_person_emptied_is_ours_again() -> None:
    assert with_words(OURS, words_in("", lambda _: False)) == with_words(OURS, "")


def test_texts_are_known_by_their_note() -> None:
    shown = ShownTexts()
    shown.remember((1, 2), f"{OURS}\n")
    assert shown.knows((1, 2), OURS)
    assert not shown.knows((1, 3), OURS)
    assert not shown.knows((1, 2), OURS + ".")


def test_a_trials_note_says_setting_metrics_cost_reason_and_where_it_is_in_clearml(
    words: SnapshotAssertion,
) -> None:
    pruned = trial(
        3,
        [0.25, 0.3],
        PRUNED,
        setting("resnet18", "bce", 0.93),
        epochs=Epochs(trained=[2]),
        reason="worse | so",
    )
    note = trial_note(data([pruned]), pruned, "https://app.example.org/3", 0.5)
    rows = {line.split(" | ")[0]: line.split(" | ")[1:] for line in note.splitlines()}
    assert rows["| gamma"] == ["0.93 |"]
    assert rows["| AP"] == [".3000", ".5000 |"]
    assert "worse \\| so" in note
    assert "(https://app.example.org/3)" in note
    assert note == words


def test_a_trial_that_failed_before_its_first_epoch_has_a_note_too(
    words: SnapshotAssertion,
) -> None:
    failed = trial(0, [], FAILED, reason="OSError: disk full")
    note = trial_note(data([failed]), failed, None, None)
    assert note.startswith("**Trial 0: ")
    assert "OSError: disk full" in note
    assert note == words


def test_the_studys_note_opens_with_the_answer_and_ends_with_what_to_do(
    words: SnapshotAssertion,
) -> None:
    found = searched(30)
    best = found.best
    assert best is not None
    note = note_of(found, mirror=MIRROR, files={"report.html": "/artifacts/1/ab"})
    first = note.splitlines()[0]
    assert first.startswith("## resnet18")
    assert f"AP {best.score:.4f}".replace("0.", ".") in first
    assert "(10 complete, 20 pruned)" in note
    [mirrored] = [line for line in note.splitlines() if "(https://app.example.org/study)" in line]
    assert "29 trials" in mirrored
    assert "[report.html](/artifacts/1/ab)" in note
    assert note.splitlines()[-2].startswith("- `canopy confirm --study planet` ")
    assert note == words


def test_what_to_do_next_follows_from_how_the_study_stands() -> None:
    found = searched(30)
    waits = replace(found, target=40)
    assert "`canopy search " in note_of(waits)
    assert "--trials 40`" in note_of(waits)
    pauses = replace(found, control=PAUSE)
    assert "`canopy resume " in note_of(pauses)
    confirmed = note_of(found, confirmed=["winner: trial 3"])
    assert "- winner: trial 3" in confirmed
    assert "canopy confirm" not in confirmed
    assert "canopy best" in confirmed
    without = note_of(data([trial(0, [0.1], PRUNED)]))
    assert "canopy best" not in without


@pytest.mark.parametrize("evil", ["<img src=x onerror=alert(1)>", "a|b`c*d_e", "[x](y)"])
def test_names_from_users_are_no_markup(evil: str) -> None:
    odd = trial(0, [0.3], COMPLETE, setting(evil, evil), reason=evil)
    found = replace(data([odd]), metric=evil)
    note = note_of(found) + trial_note(found, odd, None, None)
    assert evil not in note


def test_a_study_of_plain_optuna_has_notes() -> None:
    plain = data([trial(0, [2.0], value=2.0)], record=None, metric="loss", higher_is_better=False)
    note = note_of(plain)
    assert "`canopy report " in note
    assert "canopy best" not in note
    assert "loss 2" in trial_note(plain, plain.trials[0], None, None)
