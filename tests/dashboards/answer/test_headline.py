"""The answer of the report, on studies whose truth is known."""

import re
from dataclasses import replace

import pytest
from syrupy.assertion import SnapshotAssertion

from canopy_search.dashboards.answer.headline import answer_of, closing, facts, lead, title
from canopy_search.dashboards.stats.difference import Difference, Interval
from canopy_search.dashboards.study.model import StudyData, TrialData
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


def without_intervals(text: str) -> str:
    """Returns a text without interval ends, whose last digit depends on the machine."""
    return re.sub(r"[+−]?\.\d{3,4} (to|and) [+−]?\.\d{3,4}", r"LOW \1 HIGH", text)


def test_a_runner_up_that_is_really_worse(words: SnapshotAssertion) -> None:
    found = study()
    answer = answer_of(found)
    assert isinstance(answer.interval, Interval)
    verdict = answer.against[2]
    assert isinstance(verdict, Difference)
    assert verdict.verdict == "better"
    assert 0 < verdict.low < verdict.mean < verdict.high
    text = " ".join(lead(found, answer))
    for number in ("Trial 1", "3 settings", "trial 2", ".1000", "trial 0", ".5000"):
        assert number in text
    assert without_intervals(f"{title(found)}\n\n{text}") == words


def test_a_runner_up_within_noise(words: SnapshotAssertion) -> None:
    found = study(best=EQUAL)
    answer = answer_of(found)
    assert without_intervals(" ".join(lead(found, answer))) == words
    runner_up = next(f for f in facts(found, answer) if f.name == "Runner-up")
    assert runner_up.value == "within noise"


def test_the_facts_are_those_of_a_decision(words: SnapshotAssertion) -> None:
    found = {fact.name: fact for fact in facts(study(), answer_of(study()))}
    assert found["AP on validation"].value == ".8000"
    assert found["Time to train it"].value == "1 min 20 s"
    lines = [f"{fact.name}: {fact.value} ({fact.note})" for fact in found.values()]
    assert without_intervals("\n".join(lines)) == words


def test_missing_predictions_leave_the_ranking_without_an_interval(
    words: SnapshotAssertion,
) -> None:
    found = replace(study(), predictions={})
    assert "95 %" not in said(found)
    assert said(found) == words
    partly = replace(study(), predictions={1: study().predictions[1]})
    text = said(partly)
    assert "95 %" in text
    assert without_intervals(text) == words


def test_a_baseline_that_was_stopped_is_not_held_against_the_best(
    words: SnapshotAssertion,
) -> None:
    found = study()
    stopped = trial(0, [0.1, 0.15], PRUNED)
    found = data([stopped, *found.trials[1:]], predictions=found.predictions)
    answer = answer_of(found)
    text = " ".join(lead(found, answer))
    for number in (".1500", "2 of 8", ".2000"):
        assert number in text
    assert "clearly" not in text
    assert without_intervals(text) == words
    baseline = facts(found, answer)[-1]
    assert (baseline.name, baseline.value) == ("Baseline", "stopped early")


def test_a_baseline_that_is_the_best_is_said(words: SnapshotAssertion) -> None:
    found = data([trial(0, [0.5]), trial(1, [0.4], params=setting(gamma=0.9))])
    assert said(found) == words


def test_a_search_ends_with_a_verdict_against_the_baseline(words: SnapshotAssertion) -> None:
    lines = closing(study())
    assert "trial 0" in lines[0]
    assert without_intervals("\n".join(lines)) == words
    itself, *_ = closing(data([trial(0, [0.5])]))
    assert itself == "The best is the baseline itself: the search found nothing better."


def test_a_sentence_that_begins_with_the_name_of_a_network_leaves_it_alone() -> None:
    paused = trial(1, [0.3], PRUNED, params=setting("resnet18"))
    assert closing(data([trial(0, [0.5] * EPOCHS), paused]))[-1].startswith("resnet18 was not")


def test_a_runner_up_that_is_the_baseline_has_a_verdict_too() -> None:
    found = study()
    found = replace(found, trials=found.trials[:2])
    assert found.runner_up is found.baseline
    line, *_ = closing(found)
    assert line.startswith("The baseline, trial 0 ")


@pytest.mark.parametrize(
    ("trials", "numbers"),
    [
        ([], []),
        ([trial(0, state=RUNNING)], []),
        (
            [trial(0, [0.3, 0.4], RUNNING), trial(1, [0.5], PRUNED)],
            ["trial 0", ".4000", "epoch 2"],
        ),
    ],
    ids=["no trials", "nothing reported", "nothing complete"],
)
def test_there_is_no_answer_yet(
    trials: list[TrialData], numbers: list[str], words: SnapshotAssertion
) -> None:
    found = data(trials)
    assert all(number in title(found) for number in numbers)
    assert facts(found, answer_of(found)) == []
    assert f"{title(found)}\n\n{said(found)}" == words


def test_a_study_that_is_searched_says_so(words: SnapshotAssertion) -> None:
    found = data([trial(0, [0.3] * 8), trial(1, [0.1], RUNNING)], workers=[worker(7, 1)], target=20)
    assert "1 of 20" in said(found)
    assert said(found) == words
    assert "of 20" not in said(data(found.trials))


def test_the_value_of_plain_optuna_may_be_minimised(words: SnapshotAssertion) -> None:
    found = replace(
        data([trial(0, [0.3]), trial(1, [0.2])], record=None),
        higher_is_better=False,
        metric="loss",
        objectives=2,
    )
    assert title(found).endswith(": loss 0.2")
    assert "2 objectives" in said(found)
    assert said(found) == words
