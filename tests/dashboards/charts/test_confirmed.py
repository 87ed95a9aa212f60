"""Results with additional seeds, on the page."""

from dataclasses import replace

from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.answer.headline import answer_of, facts, lead, title
from canopy_search.dashboards.charts.confirmed import (
    confirmed_charts,
    confirmed_table,
    figure,
    sentence,
)
from canopy_search.dashboards.report.page import report_page
from canopy_search.dashboards.study.model import StudyData
from tests.dashboards.answer.test_confirmation_text import confirmed, of
from tests.dashboards.studies import data, searched, setting, trial

KNOWN = of(
    confirmed(29, [0.62, 0.64, 0.63]),
    confirmed(1234, [0.62, 0.62, 0.64], loss="bce"),
    confirmed(0, [0.51, 0.53, 0.52], base=True, gamma=1.0),
)


def study() -> StudyData:
    return replace(searched(30), confirmation=KNOWN)


def test_the_winner_is_the_answer(words: SnapshotAssertion) -> None:
    first, second = lead(study(), answer_of(study()))
    for number in ("trial 29", ".6300", "within noise", "+.1100"):
        assert number in first
    assert "\n\n".join([title(study()), first, second]) == words
    found = {fact.name: fact for fact in facts(study(), answer_of(study()))}
    assert found["AP on validation"].value == ".6300 ± .0100"
    assert found["AP on test"].value == ".6630 ± .0010"
    assert found["Runner-up"].value == "within noise"
    assert found["Baseline"].value == "worse"


def test_each_seed_has_its_dot_and_each_setting_its_mean(words: SnapshotAssertion) -> None:
    interval, dots, _, means = figure(KNOWN).data
    assert sorted(dots.x) == [0.51, 0.52, 0.53, 0.62, 0.62, 0.62, 0.63, 0.64, 0.64]
    assert [round(x, 4) for x in means.x] == [0.63, 0.6267, 0.52]
    assert round(interval.x[0], 4) == 0.6052
    for number in (".0115", ".1100"):
        assert number in sentence(KNOWN)
    alike = of(confirmed(1, [0.5, 0.6, 0.7]), confirmed(2, [0.5, 0.6, 0.72], base=True))
    assert [sentence(KNOWN), sentence(alike)] == words


def test_runs_that_are_missing_leave_the_search_s_answer(words: SnapshotAssertion) -> None:
    missing = of(confirmed(29, [0.62]), confirmed(0, [], base=True))
    found = replace(data([trial(0, [0.5] * 8, params=setting())]), confirmation=missing)
    assert title(found).endswith("AP .5000")
    assert "5 of 6 runs" in lead(found, answer_of(found))[0]
    assert confirmed_charts(of(confirmed(0, [], base=True))) == []
    said = [title(found), *lead(found, answer_of(found)), sentence(missing)]
    assert "\n\n".join(said) == words


def test_the_page_begins_with_it_and_says_who_was_tested(words: SnapshotAssertion) -> None:
    page = report_page(study())
    assert page.sections[0].key == "confirmed"
    tested, untested = page.colophon, report_page(searched(30)).colophon
    ends = [colophon.partition("Data ")[2] for colophon in (tested, untested)]
    assert "\n\n".join([page.sections[0].title, *ends]) == words
    rows = [[cell.text for cell in row] for row in confirmed_table(KNOWN).rows]
    assert rows[0][1:] == ["29", "3 of 3", ".6300", ".0100", ".6630", ".0010"]
    assert rows[2][0].endswith("(baseline)")
