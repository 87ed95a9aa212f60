"""Whose fault failures and deaths are: a trial's, a place's, or the study's."""

from collections import Counter

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from canopy_search.search.scheduling.failures import Deaths, Failures
from canopy_search.storage.study.trial_attributes import FAILED_AT_ATTR

MOST = 4
A, B, C = "fir cpu 1", "fir cpu 2", "oak cpu"
GAMMA = {"gamma": optuna.distributions.FloatDistribution(0, 1)}


@pytest.mark.parametrize(
    ("at", "places", "is_lethal"),
    [
        ({A: 3}, {A}, False),
        ({A: 4}, {A}, True),  # nobody else could try it
        ({A: 4}, {A, B}, False),  # the place may be at fault
        ({A: 3, B: 1}, {A, B}, False),
        ({A: 2, B: 2}, {A, B}, True),
        ({A: 2, B: 2}, {A, B, C}, False),  # one machine may be at fault
        ({A: 2, B: 1, C: 2}, {A, B, C}, True),
        ({A: 1, B: 1, C: 2}, {A, B, C}, True),
    ],
)
def test_a_trial_is_lethal_where_it_was_tried_elsewhere(
    at: dict[str, int], places: set[str], is_lethal: bool
) -> None:
    deaths = Deaths(sum(at.values()), Counter(at), places)
    assert deaths.is_lethal(MOST) == is_lethal


def test_a_trial_of_which_no_row_is_left_is_lethal_by_its_count() -> None:
    assert Deaths(MOST, Counter(), {A, B}).is_lethal(MOST)
    assert not Deaths(MOST - 1, Counter(), {A, B}).is_lethal(MOST)


@pytest.mark.parametrize(
    ("at", "places", "for_a", "for_b"),
    [
        ({A: 1}, {A, B}, False, False),  # anybody may be killed once
        ({A: 2}, {A, B}, True, False),
        ({A: 2}, {A}, False, False),
        ({A: 2, B: 2}, {A, B}, False, False),
        ({A: 2}, {A, B, C}, True, True),  # another machine shall try
    ],
)
def test_what_others_should_try_first(
    at: dict[str, int], places: set[str], for_a: bool, for_b: bool
) -> None:
    deaths = Deaths(sum(at.values()), Counter(at), places)
    assert (deaths.is_left_to_others(A), deaths.is_left_to_others(B)) == (for_a, for_b)


def failures(ends: str, places: set[str], gammas: dict[int, float] | None = None) -> Failures:
    """Failures of trials that ended one after the other: at A, at B, or not failed (.)."""
    trials: list[FrozenTrial] = []
    outcomes: list[tuple[int, TrialState]] = []
    for number, letter in enumerate(ends):
        state = TrialState.PRUNED if letter == "." else TrialState.FAIL
        at = {"a": A, "b": B, "c": C}.get(letter)
        trials.append(
            create_trial(
                state=state,
                params={"gamma": (gammas or {}).get(number, number / 100)},
                distributions=GAMMA,
                user_attrs={FAILED_AT_ATTR: at} if at else {},
            )
        )
        outcomes.insert(0, (number, state))
    return Failures.of(outcomes, trials, places)


@pytest.mark.parametrize(
    ("ends", "places", "reached", "sick"),
    [
        ("", {A}, None, set()),
        ("aa", {A}, None, set()),
        ("aa.a", {A}, None, set()),
        ("aaa", {A}, "3 trials failed in a row", set()),
        ("aba", {A, B}, "3 trials failed in a row", set()),
        ("aaa", {A, B}, None, {A}),
        ("aaab", {A, B}, None, {A}),  # one failure is no reason to end what is healthy
        ("aaabb", {A, B}, None, {A}),
        ("aaabbb", {A, B}, "6 trials failed in a row", set()),
        ("aaab", {B}, None, {A}),  # the sick worker has ended, and none is to follow there
        ("aaabbb", {B}, "6 trials failed in a row", set()),
        ("aaa.b", {A, B}, None, set()),
        ("abb", {A, B, C}, None, {A, B}),  # both on one machine
        ("abc", {A, B, C}, "3 trials failed in a row", set()),
        (".a.a.a.a.a.a", {A}, "6 trials failed", set()),
    ],
)
def test_which_failures_end_a_search_and_which_a_worker(
    ends: str, places: set[str], reached: str | None, sick: set[str]
) -> None:
    found = failures(ends, places)
    assert found.limit_reached(3, 6) == reached
    assert {place for place in (A, B, C) if found.is_sick(place, 3)} == sick


def test_a_setting_that_fails_again_counts_once_if_others_succeed() -> None:
    same = dict.fromkeys(range(1, 9), 0.5)
    assert failures(".aaa", {A}, same).limit_reached(3, 20) is None
    assert failures(".aaaaaa", {A}, same).limit_reached(3, 6) == "6 trials failed"
    assert failures(".aaa", {A}).limit_reached(3, 20) == "3 trials failed in a row"
    assert failures("aaa", {A}, same | {0: 0.5}).limit_reached(3, 20) == "3 trials failed in a row"
