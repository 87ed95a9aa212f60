"""What the report says first, on studies whose truth is known."""

from dataclasses import replace

import pytest

from dashboards.answer import answer_of, facts, lead, title
from dashboards.study_data import StudyData
from dashboards.verdict import Interval, Verdict
from tests.dashboards.simulated_predictions import EQUAL, SimulatedData
from tests.dashboards.studies import EPOCHS, PRUNED, RUNNING, data, setting, trial
from tests.dashboards.summaries import worker

CLEARLY_BETTER = 3.0


def study(best: float = CLEARLY_BETTER, second: float = EQUAL) -> StudyData:
    """The baseline, the best and a runner-up, of models of those qualities."""
    models = SimulatedData(5, images=600)
    predictions = {0: models.model(0.5), 1: models.model(best), 2: models.model(second)}
    trials = [
        trial(0, [0.1] * (EPOCHS - 1) + [0.30]),
        trial(1, [0.2] * (EPOCHS - 1) + [0.80], params=setting("resnet18", gamma=0.9)),
        trial(2, [0.2] * (EPOCHS - 1) + [0.70], params=setting("resnet18", gamma=0.95)),
    ]
    return data(trials, predictions=predictions)


def said(found: StudyData) -> str:
    return " ".join(lead(found, answer_of(found)))


def test_a_runner_up_that_is_really_worse() -> None:
    found = study()
    answer = answer_of(found)
    assert title(found) == "resnet18 · bce · gamma 0.9: AP .8000"
    assert isinstance(answer.interval, Interval)
    verdict = answer.against[2]
    assert isinstance(verdict, Verdict)
    assert verdict.word == "better"
    assert 0 < verdict.low < verdict.difference < verdict.high
    assert "Trial 1 is the best of 3 settings." in said(found)
    assert "trial 2 (resnet18 · bce · gamma 0.95), is .1000 behind, and really worse" in said(found)
    assert "The baseline, trial 0 (tinycnn_8 · bce · gamma 1), is .5000 behind" in said(found)
    assert "the best is clearly better" in said(found)


def test_a_runner_up_within_noise() -> None:
    found = study(best=EQUAL)
    assert "which is within noise" in said(found)
    runner_up = next(f for f in facts(found, answer_of(found)) if f.name == "Runner-up")
    assert runner_up.value == "within noise"


def test_the_facts_are_those_of_a_decision() -> None:
    found = {fact.name: fact for fact in facts(study(), answer_of(study()))}
    assert list(found) == [
        "Best setting",
        "AP on validation",
        "Time to train it",
        "Runner-up",
        "Baseline",
    ]
    assert found["AP on validation"].value == ".8000"
    assert found["AP on validation"].note.startswith("95 % interval .")
    assert found["Time to train it"].value == "1 min 20 s"
    assert found["Time to train it"].note.startswith("8 epochs from the start on cpu")


def test_missing_predictions_leave_the_ranking_without_an_interval() -> None:
    found = replace(study(), predictions={})
    assert "How sure its AP is cannot be said: what it says" in said(found)
    assert "whether that is more than noise cannot be said" in said(found)
    partly = replace(study(), predictions={1: study().predictions[1]})
    assert "95 % interval" in said(partly)
    assert "no predictions were kept of it" in said(partly)


def test_a_baseline_that_was_stopped_is_not_held_against_the_best() -> None:
    found = study()
    stopped = trial(0, [0.1, 0.15], PRUNED)
    found = data([stopped, *found.trials[1:]], predictions=found.predictions)
    assert "was stopped at .1500 after 2 of 8 epochs, when the best trial had .2000" in said(found)
    assert "clearly better" not in said(found)
    baseline = facts(found, answer_of(found))[-1]
    assert (baseline.name, baseline.value) == ("Baseline", "stopped early")


def test_a_baseline_that_is_the_best_is_said() -> None:
    found = data([trial(0, [0.5]), trial(1, [0.4], params=setting(gamma=0.9))])
    assert "It is the baseline itself: the search has found nothing better." in said(found)


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        ([], "This study has no trials yet"),
        ([trial(0, state=RUNNING)], "No trial has reported anything yet"),
        (
            [trial(0, [0.3, 0.4], RUNNING), trial(1, [0.5], PRUNED)],
            "No trial is complete yet; trial 0 is ahead with .4000 after epoch 2",
        ),
    ],
)
def test_there_is_no_answer_yet(trials: list, expected: str) -> None:  # type: ignore[type-arg]
    found = data(trials)
    assert title(found) == expected
    assert facts(found, answer_of(found)) == []
    assert said(found)


def test_a_study_that_is_searched_says_so() -> None:
    found = data([trial(0, [0.3] * 8), trial(1, [0.1], RUNNING)], workers=[worker(7, 1)], target=20)
    assert "is being searched: 1 of 20 trials are finished and 1 run. This is how it stood" in said(
        found
    )
    assert "is being searched" not in said(data(found.trials))


def test_the_value_of_plain_optuna_may_be_minimised() -> None:
    found = replace(
        data([trial(0, [0.3]), trial(1, [0.2])], record=None),
        higher_is_better=False,
        metric="loss",
        objectives=2,
    )
    assert title(found).endswith(": loss 0.2")
    assert "Plain Optuna wrote this study" in said(found)
    assert "has 2 objectives" in said(found)
