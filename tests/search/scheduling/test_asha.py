"""Promotion, judging and claiming, played on a study in memory without any training."""

from collections.abc import Callable

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from canopy_search.search.events import EpochDone
from canopy_search.search.scheduling.asha import AshaPruner
from canopy_search.search.scheduling.decision import Decision, report_and_decide
from canopy_search.search.scheduling.median import TreeMedianPruner
from canopy_search.search.scheduling.next_trial import Idle, TrialRequest, choose_trial, end_paused
from canopy_search.search.scheduling.open_study import OpenStudy
from canopy_search.storage.study.trial_attributes import PROMOTED_ATTR, REASON_ATTR, is_paused

EPOCHS = 9


def pruner(**parameters: int) -> AshaPruner:
    return AshaPruner(**{"epochs": EPOCHS, "reduction_factor": 3, **parameters})


def new_study() -> OpenStudy:
    storage = InMemoryStorage()
    study = optuna.create_study(storage=storage, direction="maximize")
    return OpenStudy(study, storage)


def play(opened: OpenStudy, rule: AshaPruner, trial: optuna.trial.Trial) -> Decision:
    """Runs a trial until it pauses or is complete; its AP grows with x and with every epoch."""
    x = trial.suggest_float("x", 0, 1)
    reported = set(opened.storage.get_trial(opened.trial_id(trial.number)).intermediate_values)
    for epoch in range(1, rule.epochs + 1):
        val_ap = x + epoch / 100
        if (
            report_and_decide(trial, rule, EpochDone(epoch, rule.epochs, val_ap), reported)
            is Decision.PAUSE
        ):
            return Decision.PAUSE
    opened.study.tell(trial, val_ap)
    return Decision.CONTINUE


def run(
    opened: OpenStudy, rule: AshaPruner, n_trials: int, xs: Callable[[int], float]
) -> list[int]:
    """Searches, and returns the numbers of the trials in the order in which they were claimed."""
    for number in range(n_trials):
        opened.study.enqueue_trial({"x": xs(number)})
    claimed = []
    # Enqueued trials count as begun only once they run.
    while not isinstance(trial := choose_trial(opened, rule, TrialRequest(n_trials)), Idle):
        claimed.append(trial.number)
        play(opened, rule, trial)
    return claimed


@pytest.mark.parametrize(
    ("parameters", "rungs"),
    [
        ({}, [1, 3]),
        ({"reduction_factor": 2}, [1, 2, 4, 8]),
        ({"min_epochs": 2, "reduction_factor": 4}, [2, 8]),
        ({"min_epochs": 9}, []),
        ({"epochs": 1}, []),
    ],
)
def test_rungs(parameters: dict[str, int], rungs: list[int]) -> None:
    assert pruner(**parameters).rungs == rungs


def test_without_rungs_every_trial_is_complete() -> None:
    opened = new_study()
    run(opened, pruner(min_epochs=9), 3, lambda number: number / 10)
    assert len(opened.trials(TrialState.COMPLETE)) == 3


def test_the_best_third_of_each_rung_goes_on() -> None:
    opened = new_study()
    order = [7, 2, 8, 0, 5, 1, 6, 3, 4]
    claimed = run(opened, pruner(), 9, lambda number: order[number] / 10)
    last = {trial.number: trial.last_step for trial in opened.trials()}

    # Of nine three come to the second rung at least, of three one to the end.
    assert sorted(last.values()).count(1) <= 6
    assert last[2] == EPOCHS, "the best of all"
    assert len(opened.trials(TrialState.COMPLETE)) >= 1
    assert set(claimed) == set(range(9))
    # The third trial shows that it is the best of three, and goes on before a fourth begins.
    assert claimed[:4] == [0, 1, 2, 2]


def test_a_late_promotion_after_better_knowledge() -> None:
    """The second best of five waits until a sixth trial makes room for it."""
    opened = new_study()
    claimed = run(opened, pruner(), 6, lambda number: [0.8, 0.9, 0.1, 0.2, 0.3, 0.4][number])
    last = {trial.number: trial.last_step for trial in opened.trials()}
    # Then nothing is left to do, and the best goes on to the end.
    assert claimed == [0, 1, 2, 1, 3, 4, 5, 0, 1]
    assert (last[0], last[1]) == (3, EPOCHS)


def test_what_still_pauses_at_the_end_is_pruned_with_its_reason() -> None:
    opened = new_study()
    run(opened, pruner(), 4, lambda number: number / 10)
    paused = [trial.number for trial in opened.trials() if is_paused(trial)]
    assert end_paused(opened, "asha") == paused == [0, 1, 2]
    for trial in opened.trials(TrialState.PRUNED):
        assert trial.state == TrialState.PRUNED
        assert trial.value == trial.intermediate_values[trial.last_step or 0]
        reason = trial.user_attrs[REASON_ATTR]
        assert reason.startswith("asha: ")
        assert reason.endswith(f" epoch {trial.last_step}")
    assert choose_trial(opened, pruner(), TrialRequest(4)) is Idle.DONE


def test_paused_trials_count_as_begun() -> None:
    opened = new_study()
    rule = pruner()
    for _ in range(2):
        trial = choose_trial(opened, rule, TrialRequest(2, owned={9}))
        assert trial is not None
        play(opened, rule, trial)
    # While another worker runs a trial there may be more to do later.
    assert choose_trial(opened, rule, TrialRequest(2, owned={9})) is Idle.WAIT
    third = choose_trial(opened, rule, TrialRequest(3, owned={9}))
    assert third is not None
    assert third.number == 2


@pytest.mark.parametrize("n_trials", [1, 2, 5, 8])
def test_a_search_that_is_too_small_for_the_rule_has_an_answer(n_trials: int) -> None:
    opened = new_study()
    run(opened, pruner(), n_trials, lambda number: 0.9 - number / 10)
    [complete] = opened.trials(TrialState.COMPLETE)
    assert complete.last_step == EPOCHS
    assert complete.value == max(trial.params["x"] for trial in opened.trials()) + EPOCHS / 100


def test_a_trial_left_behind_comes_first_and_a_paused_one_is_not_left_behind() -> None:
    opened = new_study()
    rule = pruner()
    first = choose_trial(opened, rule, TrialRequest(5))
    assert first is not None
    play(opened, rule, first)
    second = choose_trial(opened, rule, TrialRequest(5))
    assert second is not None
    assert second.number == 1
    # Its worker dies before the rung.
    again = choose_trial(opened, rule, TrialRequest(5))
    assert again is not None
    assert again.number == 1
    # With the trial in another worker's hands, a new one begins.
    third = choose_trial(opened, rule, TrialRequest(5, owned={1}))
    assert third is not None
    assert third.number == 2


def test_a_promoted_trial_whose_worker_died_is_adopted_and_runs_to_its_rung() -> None:
    opened = new_study()
    rule = pruner(reduction_factor=2)
    for number in range(2):
        trial = choose_trial(opened, rule, TrialRequest(9))
        assert trial is not None
        assert trial.number == number
        play(opened, rule, trial)
    promoted = choose_trial(opened, rule, TrialRequest(9))
    again = choose_trial(opened, rule, TrialRequest(9))
    assert promoted is not None
    assert again is not None
    assert promoted.number == again.number
    assert play(opened, rule, again) is Decision.PAUSE
    assert opened.trials()[again.number].last_step == 2


def test_the_promotion_of_a_person_is_never_paused_nor_counted() -> None:
    opened = new_study()
    rule = pruner()
    run(opened, rule, 3, lambda number: number / 10)
    end_paused(opened, "asha")
    opened.study.add_trial(
        optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params={"x": 0.0},
            distributions={"x": FloatDistribution(0, 1)},
            user_attrs={PROMOTED_ATTR: 0},
        )
    )
    # The study is complete, and yet the trial that a person asked for is finished.
    trial = choose_trial(opened, rule, TrialRequest(3))
    assert trial is not None
    assert trial.number == 3
    assert play(opened, rule, trial) is Decision.CONTINUE
    assert opened.trials()[3].last_step == EPOCHS
    assert choose_trial(opened, rule, TrialRequest(3)) is Idle.DONE


def test_what_was_decided_at_an_epoch_stays_when_a_trial_goes_on() -> None:
    """Its worker died at epoch 2; at epoch 1 it would be pruned by what is known by now."""
    opened = new_study()
    for _ in range(6):
        opened.study.add_trial(
            optuna.trial.create_trial(value=0.9, intermediate_values={1: 0.9, 2: 0.9})
        )
    rule = TreeMedianPruner()
    opened.study.pruner = rule
    trial = opened.study.ask()
    for epoch in (1, 2):
        trial.report(0.1, epoch)
    again = opened.resume(trial.number)
    assert report_and_decide(again, rule, EpochDone(1, EPOCHS, 0.1), {1, 2}) is Decision.CONTINUE
    assert report_and_decide(again, rule, EpochDone(2, EPOCHS, 0.1), {1, 2}) is Decision.STOP


@pytest.mark.parametrize("parameters", [{"min_epochs": 0}, {"reduction_factor": 1}])
def test_numbers_out_of_range(parameters: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(parameters))} is .*; expected at least"):
        pruner(**parameters)
