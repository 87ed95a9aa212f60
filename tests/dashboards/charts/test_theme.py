"""Colours that serve everybody, on both pages, and are the same everywhere."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from canopy_search.dashboards.charts.theme import (
    COLOURS,
    QUIET,
    ink_on,
    marks_of,
    plain,
    trial_text,
)
from tests.dashboards.studies import data, searched, setting, trial

LIGHT, DARK = "#fdfdfb", "#15171a"
LEAST_CONTRAST = 3.0  # WCAG 2.2, 1.4.11, of graphics
LEAST_APART = 9.0  # of CIE 1976 Lab; 2.3 is just noticeable
# Machado, Oliveira and Fernandes (2009), severity 1.
DEFICIENCIES = {
    "none": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def linear(colour: str) -> NDArray[np.float64]:
    """Returns linear RGB of ``#rrggbb``."""
    channels = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def contrast(first: str, second: str) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    x, y, z = np.cbrt(np.maximum(to_xyz @ rgb / [0.95047, 1.0, 1.08883], 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("page", [LIGHT, DARK])
@pytest.mark.parametrize("colour", [*COLOURS, QUIET])
def test_every_colour_stands_out_from_both_pages(colour: str, page: str) -> None:
    assert contrast(colour, page) >= LEAST_CONTRAST


@pytest.mark.parametrize("colour", COLOURS)
def test_what_is_written_on_a_colour_can_be_read(colour: str) -> None:
    assert contrast(ink_on(colour), colour) >= 4.5  # WCAG 2.2, 1.4.3


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_the_first_four_colours_are_apart_for_who_sees_few(deficiency: str) -> None:
    seen = [lab(np.clip(DEFICIENCIES[deficiency] @ linear(c), 0, 1)) for c in COLOURS[:4]]
    for first, second in itertools.combinations(seen, 2):
        assert np.linalg.norm(first - second) >= LEAST_APART


def test_a_category_has_its_colour_whatever_was_tried() -> None:
    few = data([trial(0, [0.3], params=setting("resnet18"))])
    many = searched(30)
    marks = marks_of(many)
    assert marks_of(few).colours == marks.colours
    assert (marks.coloured, marks.marked) == ("backbone", "loss")
    assert len(set(marks.colours.values())) == 3
    for name, colour, members in marks.by_colour(many.trials):
        assert {t.params["backbone"] for t in members} == {name}
        assert {marks.colour(t) for t in members} == {colour}


def test_a_study_without_categories_has_one_colour() -> None:
    study = data([trial(0, [0.3], params={"rate": 0.1})], distributions={})
    ((name, colour, members),) = marks_of(study).by_colour(study.trials)
    assert (name, colour, len(members)) == ("trials", COLOURS[0], 1)


def test_what_plotly_would_take_for_markup_is_shown() -> None:
    study = data([trial(0, [0.3], params=setting("<b>resnet</b>&"))])
    assert plain("<a href='x'>") == "&lt;a href='x'&gt;"
    assert "&lt;b&gt;resnet&lt;/b&gt;&amp;" in trial_text(study, study.trials[0])
