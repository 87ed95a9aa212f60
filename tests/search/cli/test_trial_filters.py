from dataclasses import replace

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.study.model import TrialData
from canopy_search.search.cli.trial_filters import TrialFilter, parse_condition
from canopy_search.search.errors import TrialFilterError
from tests.dashboards.summaries import study, trial

STUDY = study([], [])
NETS = ("resnet18", "resnet50")
TRIALS = [
    trial(
        number,
        state,
        epochs,
        params={
            "backbone": NETS[number % 2],
            "gamma": round(0.8 + number / 100, 2),
            "flip": number > 2,
        },
    )
    for number, (state, epochs) in enumerate(
        [("COMPLETE", 8), ("PRUNED", 2), ("FAIL", 0), ("COMPLETE", 7), ("RUNNING", 1)]
    )
]


def numbers(trials: list[TrialData]) -> list[int]:
    return [each.number for each in trials]


def where(*texts: str) -> list[int]:
    return numbers(
        TrialFilter(conditions=[parse_condition(t) for t in texts]).choose(TRIALS, STUDY.worth)
    )


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["backbone=resnet18"], [0, 2, 4]),
        (["backbone = resnet50"], [1, 3]),
        (["gamma>=0.82"], [2, 3, 4]),
        (["gamma>.82"], [3, 4]),
        (["gamma<0.81"], [0]),
        (["gamma <= 8.1e-1"], [0, 1]),
        (["gamma=0.830"], [3]),
        (["gamma=0.5"], []),
        (["gamma=0.8300001"], [3]),
        (["flip=True"], [3, 4]),
        (["backbone=resnet18", "gamma>0.8"], [2, 4]),
    ],
)
def test_conditions_choose_by_text_or_by_number(texts: list[str], expected: list[int]) -> None:
    assert where(*texts) == expected


def test_a_parameter_that_only_some_trials_have_chooses_among_those() -> None:
    trials = [trial(0, "COMPLETE", params={"width": 3}), trial(1, "COMPLETE", params={"depth": 3})]
    chosen = TrialFilter(conditions=[parse_condition("depth>1")]).choose(trials, STUDY.worth)
    assert numbers(chosen) == [1]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("backbone", "--where backbone"),
        ("=3", "--where =3"),
        ("net=resnet18", "backbone, gamma, flip"),
        ("backbone=resnet1", "resnet18, resnet50"),
        ("backbone>resnet18", "resnet18, resnet50"),
        ("gamma=high", "0.8, 0.81, 0.82, 0.83, 0.84"),
        ("flip>0", "False, True"),
    ],
    ids=["no value", "no name", "parameter", "value", "no number", "a number", "a switch"],
)
def test_what_cannot_be_meant_is_said_with_what_there_is(
    text: str, named: str, words: SnapshotAssertion
) -> None:
    with pytest.raises(TrialFilterError) as caught:
        where(text)
    assert named in str(caught.value)
    assert str(caught.value) == words
    assert caught.value.exit_status == 2


def test_states_are_named_as_people_say_them(words: SnapshotAssertion) -> None:
    assert numbers(TrialFilter(states=["complete"]).choose(TRIALS, STUDY.worth)) == [0, 3]
    assert numbers(TrialFilter(states=["FAIL", "pruned"]).choose(TRIALS, STUDY.worth)) == [1, 2]
    assert TrialFilter(states=["waiting"]).choose(TRIALS, STUDY.worth) == []
    with pytest.raises(TrialFilterError, match="--state done") as error:
        TrialFilter(states=["done"]).choose(TRIALS, STUDY.worth)
    assert str(error.value) == words


def test_the_best_the_last_and_the_order() -> None:
    assert numbers(TrialFilter(top=2).choose(TRIALS, STUDY.worth)) == [0, 3]
    assert numbers(TrialFilter(top=9).choose(TRIALS, STUDY.worth)) == [
        0,
        3,
        1,
        4,
    ]  # trial 2 has no AP
    assert numbers(TrialFilter(top=3, order="number").choose(TRIALS, STUDY.worth)) == [0, 1, 3]
    assert numbers(TrialFilter(last=3).choose(TRIALS, STUDY.worth)) == [2, 3, 4]
    assert numbers(TrialFilter(last=3, top=1).choose(TRIALS, STUDY.worth)) == [3]
    assert numbers(TrialFilter(order="ap").choose(TRIALS, STUDY.worth)) == [0, 3, 1, 4, 2]
    assert numbers(TrialFilter(order="time").choose(TRIALS, STUDY.worth)) == [0, 3, 1, 4, 2]
    assert TrialFilter(top=3).choose([], STUDY.worth) == []


def test_where_less_is_better_the_best_is_the_lowest() -> None:
    told = [trial(number, "COMPLETE", value=value) for number, value in enumerate([3.0, 1.0, 2.0])]
    assert numbers(
        TrialFilter(top=2).choose(told, replace(STUDY, higher_is_better=False).worth)
    ) == [1, 2]
    assert numbers(TrialFilter(top=2).choose(told, STUDY.worth)) == [0, 2]
