"""Each quantity in its one form."""

import pytest

from canopy_search.dashboards.formatting.values import (
    age_text,
    ap_text,
    counted,
    difference_text,
    duration_text,
    interval_text,
    listed_text,
    metric_text,
    number_text,
    params_text,
    percent_text,
    printable,
    signed_text,
    spread_text,
    time_unit,
)
from canopy_search.dashboards.stats.difference import Difference, Spread


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_ap_has_four_digits_and_one_stays_one() -> None:
    assert (ap_text(0.61234), ap_text(1.0), ap_text(None)) == (".6123", "1.0000", "–")


def test_a_number_in_a_setting_is_named() -> None:
    params = {"backbone": "resnet18", "gamma": 0.95, "epochs": 3}
    assert params_text(params) == "resnet18 · gamma 0.95 · epochs 3"


@pytest.mark.parametrize(
    ("difference", "digits", "text"),
    [
        (0.02, 4, "+.0200"),
        (-0.02, 4, "−.0200"),
        (0.00004, 4, "±.0000"),
        (-0.00004, 4, "±.0000"),
        (-0.004, 2, "±.00"),
        (0.006, 2, "+.01"),
        (1.0, 4, "+1.0000"),
        (-1234.56, 4, "−1235"),
    ],
)
def test_a_difference_has_its_sign_and_none_has_both(
    difference: float, digits: int, text: str
) -> None:
    assert signed_text(difference, digits) == text


def test_an_interval_has_two_ends_or_none() -> None:
    assert interval_text(0.0, 1.0) == ".0000 to 1.0000"
    assert interval_text(None, None) == "–"


def test_a_difference_names_its_confidence_and_a_spread_its_deviation() -> None:
    lead = Difference(0.0123, 0.001, 0.0236, confidence=0.975)
    assert difference_text(lead) == "+.0123, 97.5 % interval +.0010 to +.0236"
    assert difference_text(lead.reversed(), 2) == "−.01, 97.5 % interval −.02 to ±.00"
    assert lead.reversed().reversed() == lead
    assert (lead.verdict, lead.reversed().verdict) == ("better", "worse")
    assert spread_text(Spread(3, 0.6123, 0.0021, 0.6, 0.62)) == ".6123 ± .0021"
    assert [spread_text(Spread(1, 0.6123, None, None, None), 3), spread_text(None)] == [".612", "–"]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (0.0004, "<1 %"),
        (0.005, "1 %"),
        (0.445, "45 %"),  # JavaScript rounds halves up, too; Python's format says 44
        (0.455, "46 %"),
        (0.9949, "99 %"),
        (0.9996, ">99 %"),
        (1.0, "100 %"),
    ],
)
def test_a_percentage_is_zero_for_none_and_a_hundred_for_all(share: float, text: str) -> None:
    assert percent_text(share) == text


def test_a_half_is_rounded_as_the_labels_of_figures_are() -> None:
    assert number_text(0.40625) == ".4063"
    assert signed_text(-0.03125) == "−.0313"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_missing(value: float) -> None:
    assert [number_text(value), signed_text(value), metric_text(value)] == ["–"] * 3


def test_numbers_have_no_leading_zero_and_no_negative_one() -> None:
    assert [number_text(x, 2) for x in (0.5, -0.5, -0.001, 12.0)] == [".50", "−.50", ".00", "12.00"]
    assert number_text(0.2, 0) == "0"
    assert [metric_text(x) for x in (0.5, 1.0, 12.3456, None)] == [".5000", "1.0000", "12.35", "–"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (-0.4, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172_799, "47 h"),
        (172_800, "2 d"),
    ],
)
def test_ages_have_one_unit(seconds: float | None, text: str) -> None:
    assert age_text(seconds) == text


def test_an_axis_of_times_has_the_largest_unit_of_which_there_are_two() -> None:
    assert [time_unit(s)[1] for s in (119, 121, 7199, 7201)] == ["s", "min", "min", "h"]


def test_counts_and_lists_read_as_people_write_them() -> None:
    assert [counted(n, "worker") for n in (0, 1, 3000)] == [
        "0 workers",
        "1 worker",
        "3,000 workers",
    ]
    assert [listed_text(w) for w in ([], ["a"], ["a", "b", "c"])] == ["", "a", "a, b and c"]


def test_control_characters_are_shown_and_line_breaks_are_spaces() -> None:
    assert (
        printable("a\x1b[2J\nb\u202e") == "a\N{REPLACEMENT CHARACTER}[2J b\N{REPLACEMENT CHARACTER}"
    )
