"""The user's words in a diary: kept when it is written again, and never lost by a mistake."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from canopy_search.dashboards.diary.contents import place_name
from canopy_search.dashboards.diary.diary import kept_words
from canopy_search.dashboards.errors import DiaryError
from tests.dashboards.diaries import BASE, diary_of, study_of, trial
from tests.dashboards.diary_reading import sections_of

WRITTEN = Path(__file__).parent / "written"
STUDY = study_of([trial(3, BASE, [0.4, 0.5, 0.6]), trial(4, BASE | {"gamma": 0.8}, [0.3])])
FIRST, SECOND = "trial 3, resnet18 · bce · gamma 1", "trial 4, resnet18 · bce · gamma 0.8"


def saved(folder: Path, text: str) -> Path:
    path = folder / "EXPERIMENTS.md"
    path.write_bytes(text.encode())
    return path


def test_words_are_read_back(tmp_path: Path) -> None:
    words = {"top": "We begin.\n\n\n\n- a list\n\n<!-- a comment -->", "decision": "  Take it. ✓"}
    assert kept_words(saved(tmp_path, diary_of(STUDY, words)), "planet") == words
    assert kept_words(tmp_path / "none.md", "planet") == {}
    assert kept_words(saved(tmp_path, " \n"), "planet") == {}


@pytest.mark.parametrize("version", ["release_0_1_0.md", "before_template.md"])
def test_diaries_of_earlier_versions_keep_their_words(tmp_path: Path, version: str) -> None:
    old = (WRITTEN / version).read_text()
    words = kept_words(saved(tmp_path, old), "planet")
    fourth = "trial 4, resnet18 · focal_bce · gamma 0.85"
    assert words == {
        "top": "We had three days.\n\n- one GPU\n- ✓ a <!-- comment -->",
        fourth: "Very bad results.",
        "decision": "We take it.",
        "trial 77, gamma 3": "  It was <here>.",
        "what went wrong": "The disk was full.",
    }
    trials = [trial(0, BASE, [0.6]), trial(4, BASE | {"loss": "focal_bce", "gamma": 0.85}, [0.4])]
    new = diary_of(study_of(trials), words)
    found = {section.heading.partition(" · ")[2]: section.text for section in sections_of(new)}
    assert "Very bad results." in found["focal loss + BCE, ExponentialLR, gamma .85 (trial 4)"]
    assert kept_words(saved(tmp_path, new), "planet") == words
    with pytest.raises(DiaryError, match="edits outside the places for words"):
        kept_words(saved(tmp_path, old.replace("## Decision", "## My decision")), "planet")


def test_line_ends_and_reformatting_are_no_changes(tmp_path: Path) -> None:
    text = diary_of(STUDY, {"top": "two\nlines"}).replace("\n", "\r\n").replace("# Exp", "#   Exp")
    assert kept_words(saved(tmp_path, "\ufeff" + text), "planet") == {"top": "two\nlines"}


@pytest.mark.parametrize("cut", ["## Decision", "# Experiments", "<!-- canopy diary", "sha256"])
def test_a_change_elsewhere_is_refused_until_it_may_be_lost(tmp_path: Path, cut: str) -> None:
    text = diary_of(STUDY, {"top": "mine"})
    if cut == "sha256":
        text = text[: text.rindex("<!-- all but")]
    elif cut.startswith("<!--"):
        text = "I was here\n" + text
    else:
        text = text.replace(cut, f"{cut} of mine")
    path = saved(tmp_path, text)
    with pytest.raises(DiaryError, match=r"edits outside .* canopy diary --force"):
        kept_words(path, "planet")
    assert kept_words(path, "planet", drops_edits=True) == {"top": "mine"}


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        (
            f"<!-- words: {FIRST} -->\n\n<!-- end of words -->",
            f"<!-- words: {FIRST} -->",
            f"<!-- words: {SECOND} -->",
            "this place for words starts inside the one of line ",
        ),
        ("<!-- words: top -->\n", "", "<!-- end of words -->", "end of words without a start"),
        ("words: decision", "words: top", None, "the place for words 'top' is already in line 6"),
        ("words: decision -->", "words: decision", "<!-- words: decision", "the mark is broken"),
        ("<!-- words: decision -->", "<!-- words -->", "<!-- words -->", "the mark is broken"),
        (
            "<!-- end of words -->\n\n<!-- all",
            "\n\n<!-- all",
            "<!-- words: decision -->",
            "these words have no end",
        ),
        (
            "<!-- end of words -->\n\n<!-- all",
            "<!-- End of words\n<!-- all",
            "<!-- End of words",
            "the mark is broken",
        ),
        ("<!-- canopy diary of study: planet -->", "", None, "is not a Canopy diary"),
        (
            "study: planet -->",
            "study: other -->",
            None,
            "the diary of study 'other', not of 'planet'",
        ),
    ],
)
def test_a_broken_mark_is_an_error_that_names_the_line(
    tmp_path: Path, old: str, new: str, line: str | None, said: str
) -> None:
    text = diary_of(STUDY, {SECOND: "mine"})
    assert text.count(old) == 1
    text = text.replace(old, new)
    path = saved(tmp_path, text)
    with pytest.raises(DiaryError) as error:
        kept_words(path, "planet", drops_edits=True)
    where = f", line {text.splitlines().index(line) + 1}: " if line else ""
    assert str(error.value).startswith(f"{path}{where}")
    assert said in str(error.value)
    assert path.read_text() == text


def test_what_is_no_text_is_no_diary(tmp_path: Path) -> None:
    path = tmp_path / "EXPERIMENTS.md"
    path.write_bytes(b"\xff\xfe# mine")
    with pytest.raises(DiaryError, match="is not a Canopy diary"):
        kept_words(path, "planet")


@given(
    st.text(st.characters(codec="utf-8"), min_size=1),
    st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1),
)
@example("--> <!-- words: x -->", "a\n\n\n\n\u2028b")
@example("a-", "-")
@example("100%", "%")
def test_any_name_and_any_words_survive(
    tmp_path_factory: pytest.TempPathFactory, name: str, words: str
) -> None:
    if not place_name(name) or "<!--" in words or not words.strip():
        return
    kept = {"top": words.strip("\n"), place_name(name): words.strip("\n")}
    path = saved(tmp_path_factory.getbasetemp(), diary_of(study_of([], name=name), kept))
    assert kept_words(path, name) == kept
