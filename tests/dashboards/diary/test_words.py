from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from canopy_search.dashboards.diary.words import diary_text, place, place_name, read_diary_file
from canopy_search.dashboards.errors import DiaryError

PLACES = ["top", "trial 3, gamma 0.95", "decision"]


def written(words: dict[str, str], study: str = "planet") -> str:
    lines = ["# Experiments", ""]
    for name in PLACES:
        lines += [f"## {name}", *place(name, words)]
    return diary_text(study, lines)


def saved(folder: Path, text: str) -> Path:
    path = folder / "EXPERIMENTS.md"
    path.write_bytes(text.encode())
    return path


def test_words_are_read_back(tmp_path: Path) -> None:
    words = {"top": "We begin.\n\n- a list\n\n<!-- a comment -->", "decision": "  Take it. ✓"}
    there = read_diary_file(saved(tmp_path, written(words)), "planet")
    assert there.words == words
    assert there.is_untouched
    assert read_diary_file(tmp_path / "none.md", "planet").words == {}
    assert read_diary_file(saved(tmp_path, " \n"), "planet").words == {}


def test_line_ends_and_reformatting_are_no_changes(tmp_path: Path) -> None:
    text = written({"top": "two\nlines"}).replace("\n", "\r\n").replace("# Exp", "#   Exp")
    there = read_diary_file(saved(tmp_path, "\ufeff" + text), "planet")
    assert there.words == {"top": "two\nlines"}
    assert there.is_untouched


@pytest.mark.parametrize("cut", ["## decision", "# Experiments", "<!-- canopy diary", "sha256 1"])
def test_a_change_elsewhere_is_noticed(tmp_path: Path, cut: str) -> None:
    text = written({"top": "mine"})
    if cut.startswith("sha256"):
        text = text[: text.rindex("<!-- all but")]
    elif cut.startswith("<!--"):
        text = "I was here\n" + text
    else:
        text = text.replace(cut, f"{cut} of mine")
    there = read_diary_file(saved(tmp_path, text), "planet")
    assert not there.is_untouched
    assert there.words == {"top": "mine"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "<!-- end of words -->\n\n## trial",
            "## trial",
            "line 8: this place for words starts inside",
        ),
        ("<!-- words: top -->\n", "", "line 6: end of words without a start"),
        (
            "words: decision",
            "words: top",
            "line 15: the place for words 'top' is already in line 5",
        ),
        ("words: decision -->", "words: decision", "line 15: the mark is broken"),
        ("<!-- words: decision -->", "<!-- words -->", "line 15: the mark is broken"),
        ("<!-- end of words -->\n\n<!-- all", "\n\n<!-- all", "line 15: these words have no end"),
        ("<!-- end of words -->\n\n<!-- all", "<!-- End of words\n<!-- all", "line 17: the mark"),
        ("<!-- canopy diary of study: planet -->", "", "is not a Canopy diary"),
        ("study: planet", "study: other", "it is the diary of study 'other', not of 'planet'"),
    ],
)
def test_a_broken_mark_is_an_error_that_names_the_line(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = written({"trial 3, gamma 0.95": "mine"})
    assert text.count(old) == 1
    path = saved(tmp_path, text.replace(old, new))
    with pytest.raises(DiaryError) as error:
        read_diary_file(path, "planet")
    assert str(error.value).startswith(f"{path}")
    assert said in str(error.value)


def test_what_is_no_text_is_no_diary(tmp_path: Path) -> None:
    path = tmp_path / "EXPERIMENTS.md"
    path.write_bytes(b"\xff\xfe# mine")
    with pytest.raises(DiaryError, match="is not a Canopy diary"):
        read_diary_file(path, "planet")


@given(
    st.text(st.characters(codec="utf-8"), min_size=1),
    st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1),
)
@example("--> <!-- words: x -->", "a\n\n\u2028b")
@example("a-", "-")
@example("100%", "%")
def test_any_name_and_any_words_survive(
    tmp_path_factory: pytest.TempPathFactory, name: str, words: str
) -> None:
    if not place_name(name) or "<!--" in words or not words.strip():
        return
    named, text = place_name(name), words.strip("\n")
    document = diary_text(name, place(named, {named: text}))
    there = read_diary_file(saved(tmp_path_factory.getbasetemp(), document), name)
    assert there.words == {named: text}
    assert there.is_untouched
