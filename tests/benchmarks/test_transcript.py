import pytest

from benchmarks.transcript import README, ending, shape, shown


def test_numbers_settings_and_widths_may_differ_and_nothing_else() -> None:
    page = README.read_text()
    text = shown(page)
    other = (
        text.replace("tinycnn_16", "tinyresnet_8")
        .replace(".63", ".59")
        .replace("15 s", "1 min 2 s")
    )
    assert shape(other.replace("focal_bce", "weighted_bce")) == shape(text)
    for old, new in (("val AP", "AP"), (" finished", " trials"), ("state\n", "state  where\n")):
        assert shape(text.replace(old, new)) != shape(text)


def test_what_is_shown_is_the_end_of_the_output() -> None:
    text = shown(README.read_text())
    assert ending(f"study demo: begun\n[39/40] trial 1\n{text}\nNext: canopy report\n") == text
    assert ending(f"study demo: begun\n{text}") == text
    with pytest.raises(ValueError, match="does not end as it did"):
        ending("study demo: begun\n")
