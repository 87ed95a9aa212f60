"""What further seeds said, on the page."""

from dataclasses import replace

from dashboards.answer import answer_of, facts, lead, title
from dashboards.charts.confirmed import confirmed_charts, confirmed_table, figure, sentence
from dashboards.report import report_page
from dashboards.study_data import StudyData
from tests.dashboards.studies import data, searched, setting, trial
from tests.dashboards.test_confirmation_text import confirmed, of

KNOWN = of(
    confirmed(29, [0.62, 0.64, 0.63]),
    confirmed(1234, [0.62, 0.62, 0.64], loss="bce"),
    confirmed(0, [0.51, 0.53, 0.52], base=True, gamma=1.0),
)


def study() -> StudyData:
    return replace(searched(30), confirmation=KNOWN)


def test_the_winner_is_the_answer() -> None:
    assert title(study()) == (
        "tinyresnet_16 · weighted_bce · gamma 0.97: AP .6300 ± .0100 over 3 seeds"
    )
    first, second = lead(study(), answer_of(study()))
    assert first.startswith("Trained again with seeds 1, 2, 3. Winner: trial 29 (")
    assert "within noise. Against the baseline: +.1100" in first
    assert second.startswith("In the search, with one seed for all, trial ")
    found = {fact.name: fact for fact in facts(study(), answer_of(study()))}
    assert found["AP on validation"].value == ".6300 ± .0100"
    assert found["AP on test"].value == ".6630 ± .0010"
    assert found["Runner-up"].value == "within noise"
    assert found["Baseline"].value == "worse"


def test_each_seed_has_its_dot_and_each_setting_its_mean() -> None:
    interval, dots, _, means = figure(KNOWN).data
    assert sorted(dots.x) == [0.51, 0.52, 0.53, 0.62, 0.62, 0.62, 0.63, 0.64, 0.64]
    assert [round(x, 4) for x in means.x] == [0.63, 0.6267, 0.52]
    assert round(interval.x[0], 4) == 0.6052
    assert "up to .0115, the means of the settings by up to .1100: there the setting matters" in (
        sentence(KNOWN)
    )
    alike = of(confirmed(1, [0.5, 0.6, 0.7]), confirmed(2, [0.5, 0.6, 0.72], base=True))
    assert "none of these differences is more than noise" in sentence(alike)


def test_runs_that_are_missing_leave_the_search_s_answer() -> None:
    missing = of(confirmed(29, [0.62]), confirmed(0, [], base=True))
    found = replace(data([trial(0, [0.5] * 8, params=setting())]), confirmation=missing)
    assert title(found) == "tinycnn_8 · bce · gamma 1: AP .5000"
    assert "5 of 6 runs are missing yet" in lead(found, answer_of(found))[0]
    assert confirmed_charts(of(confirmed(0, [], base=True))) == []
    assert "Too few runs" in sentence(missing)


def test_the_page_begins_with_it_and_says_who_was_tested() -> None:
    page = report_page(study())
    assert page.sections[0].title == "Confirmed with further seeds"
    assert "only what was confirmed was scored" in page.colophon
    assert "test images were not looked at" in report_page(searched(30)).colophon
    rows = [[cell.text for cell in row] for row in confirmed_table(KNOWN).rows]
    assert rows[0][1:] == ["29", "3 of 3", ".6300", ".0100", ".6630", ".0010"]
    assert rows[2][0].endswith("(baseline)")
