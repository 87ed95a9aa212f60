"""What a search verified about its answer, in numbers and in words."""

from typing import Any

import pytest

from canopy_search.dashboards.answer.verified import verified
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.storage.study.trial_attributes import CONTENDER, NEIGHBOUR, UNTRAINED


def trial(
    number: int, backbone: str, gamma: float, *aps: float, state: str = "COMPLETE", **more: Any
) -> TrialData:
    params = {"backbone": backbone, "loss": "bce", "gamma": gamma}
    metrics = [{"val_ap": ap, "train_s": 1.0, "val_s": 0.0} for ap in aps]
    return TrialData(number, state, params, aps[-1], None, metrics, len(aps), **more)


def study(*trials: TrialData) -> StudyData:
    return StudyData("planet", list(trials), workers=[], control="run", target=None)


BEST = trial(0, "resnet18", 0.95, 0.5, 0.8)


def test_a_study_without_an_answer_has_nothing_to_verify() -> None:
    assert verified(study()) is None


def test_a_study_that_verified_nothing_says_what_it_knows() -> None:
    found = verified(study(BEST, trial(1, "resnet50", 0.9, 0.3, state="PRUNED")))
    assert found is not None
    assert (found.epochs, found.text) == (0, "resnet50 was not fully trained")
    alone = verified(study(BEST))
    assert alone is not None
    assert not alone.text


def test_what_was_tried_and_what_is_left() -> None:
    found = verified(
        study(
            BEST,
            trial(1, "resnet18", 0.93, 0.5, 0.7, verifies=NEIGHBOUR, epochs_verifying=1),
            trial(2, "resnet18", 0.97, 0.5, 0.7, state="PRUNED"),
            trial(3, "resnet18", 0.96, 0.5, state="PRUNED"),  # epoch 1 is everybody's
            trial(4, "resnet50", 0.94, 0.4, 0.6, verifies=UNTRAINED, epochs_verifying=2),
            trial(5, "resnet152", 0.95, 0.3, state="PRUNED"),
            trial(6, "resnet50", 1.0, 0.4, 0.6, verifies=CONTENDER, epochs_verifying=1),
        )
    )
    assert found is not None
    assert found.as_json() == {
        "epochs": 4,
        "neighbours": 1,
        "contenders": 1,
        "untrained": 1,
        "left": ["resnet152"],
        "beside": {"gamma": [0.93, 0.97]},
        "stopped": ["gamma"],
    }
    assert found.text == (
        "verified with 4 epochs: compared with gamma 0.95, 0.93 and 0.97 did not look better "
        "before the end; resnet152 was not fully trained"
    )


@pytest.mark.parametrize(
    ("networks", "text"),
    [
        (
            ["a"],
            "verified with 1 epoch: compared with gamma 0.95, 0.9 is no better; a was not fully "
            "trained",
        ),
        (["a", "b"], "a and b were not fully trained"),
        (list("abcde"), "a, b, c and 2 more networks were not fully trained"),
        (list("abcd"), "a, b, c and 1 more network were not fully trained"),
        ([], "verified with 1 epoch: compared with gamma 0.95, 0.9 is no better"),
    ],
)
def test_one_and_many(networks: list[str], text: str) -> None:
    others = [
        trial(at, name, 0.9, 0.1, state="PRUNED") for at, name in enumerate(networks, start=2)
    ]
    checked = trial(1, "resnet18", 0.9, 0.5, 0.7, verifies=NEIGHBOUR, epochs_verifying=1)
    found = verified(study(BEST, checked, *others))
    assert found is not None
    assert text in found.text
