from typing import Any

import pytest

from canopy_search.dashboards.study.baseline import baseline
from canopy_search.dashboards.study.finalists import (
    additional_seeds,
    candidates,
    finalists_at_hand,
)
from canopy_search.dashboards.study.model import TrialData
from tests.dashboards.summaries import study, trial

SPACE = {"loss": ["bce", "focal"], "optimizer.lr": {"low": 0.1, "high": 1.0}}
A, B = {"loss": "bce", "optimizer.lr": 0.1}, {"loss": "focal", "optimizer.lr": 0.1}
C = {"loss": "bce", "optimizer.lr": 0.5}


def record(enqueue: list[dict[str, Any]] | None = None, **space: Any) -> dict[str, Any]:
    training = {"loss": "bce", "seed": 4, "optimizer": {"lr": 0.5}}
    search = {"space": SPACE | space, "enqueue": enqueue or []}
    return {"training": training, "config": {"search": search}}


def done(number: int, params: dict[str, Any], val_ap: float) -> TrialData:
    return trial(number, "COMPLETE", 1, params=params, val_ap=val_ap)


def test_finalists_are_the_best_different_settings_and_then_the_baseline() -> None:
    trials = [
        trial(0, "PRUNED", 1, params=C),
        done(1, A, 0.6),
        done(2, A, 0.6),
        done(3, B, 0.7),
    ]
    found = candidates(study(trials, []), record(), 2)
    assert [(each.trial, each.params) for each in found] == [(3, B), (1, A), (0, C)]
    assert [each.searched_ap for each in found] == [0.7, 0.6, 0.1]
    assert [each.is_finalist for each in found] == [True, True, False]
    assert [each.is_baseline for each in found] == [False, False, True]
    assert finalists_at_hand(study(trials, [])) == 3


def test_where_too_few_were_trained_to_their_end_those_follow_that_got_furthest() -> None:
    d, e = {"loss": "focal", "optimizer.lr": 0.5}, {"loss": "focal", "optimizer.lr": 0.9}
    trials = [
        done(0, A, 0.6),
        trial(1, "PRUNED", 1, params=B, val_ap=0.5),
        trial(2, "PRUNED", 4, params=C, val_ap=0.4),
        trial(3, "PRUNED", 4, params=d, val_ap=0.45),
        trial(4, "PRUNED", 6, params=e, val_ap=0.9, reason="diverged: the loss is nan"),
        trial(5, "FAIL", 6, params=e, val_ap=0.9),
        trial(6, "PRUNED", 7, params=A, val_ap=0.9),  # complete in another trial
    ]
    found = candidates(study(trials, []), record([A]), 4)
    assert [each.trial for each in found] == [0, 3, 2, 1]
    assert [each.searched_epochs for each in found] == [1, 4, 4, 1]
    assert finalists_at_hand(study(trials, [])) == 4


def test_a_baseline_among_the_finalists_stands_there_once() -> None:
    found = candidates(study([done(0, C, 0.7), done(1, A, 0.6)], []), record(), 2)
    assert [(each.params, each.is_baseline) for each in found] == [(C, True), (A, False)]


def test_a_baseline_that_is_complete_keeps_what_it_had() -> None:
    trials = [trial(0, "PRUNED", 1, params=C), done(1, A, 0.6), done(2, C, 0.5)]
    base = candidates(study(trials, []), record(), 1)[-1]
    assert (base.trial, base.searched_ap, base.is_finalist) == (2, 0.5, False)


@pytest.mark.parametrize(
    ("enqueue", "expected"),
    [
        ([], (C, 2)),
        ([B, A], (B, 1)),
        ([{"loss": "focal"}], (B, 1)),  # the sampler chose the rate
        ([{"loss": "focal", "optimizer.lr": 0.9}], ({"loss": "focal", "optimizer.lr": 0.9}, None)),
    ],
)
def test_the_baseline_is_what_was_enqueued_first_else_the_training_settings(
    enqueue: list[dict[str, Any]], expected: tuple[Any, ...]
) -> None:
    trials = [done(0, A, 0.6), trial(1, "FAIL", params=B), done(2, C, 0.5)]
    found = baseline(trials, record(enqueue))
    assert found is not None
    assert (found.params, found.trial and found.trial.number) == expected


def test_seeds_follow_on_those_of_the_search() -> None:
    assert additional_seeds(record(), 3) == (5, 6, 7)
    assert additional_seeds(record(seed=[9, 2]), 2) == (10, 11)
    assert additional_seeds(record(seed={"low": 0, "high": 20}), 1) == (21,)


def test_where_seeds_were_searched_a_setting_is_one_whatever_its_seed() -> None:
    trials = [done(0, {**A, "seed": 1}, 0.6), done(1, {**A, "seed": 2}, 0.7), done(2, B, 0.5)]
    found = candidates(study(trials, []), record([A], seed=[1, 2]), 2)
    assert [(each.trial, each.params) for each in found] == [(1, A), (2, B)]
