"""A census that is kept, compared with one that is made anew."""

import random
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from canopy_search.search.scheduling.open_study import OpenStudy
from canopy_search.search.scheduling.pausing_pruner import rung_mark
from canopy_search.search.scheduling.trial_index import TrialIndex
from canopy_search.storage.study.trial_attributes import RUNG_ATTR, is_paused

EPOCHS = 4


def described(trial_index: TrialIndex, trials: list[FrozenTrial]) -> dict[str, Any]:
    return {
        "states": {state: trial_index.states[state] for state in TrialState},
        "active": sorted(trial_index.active),
        "failed": trial_index.failed,
        "settled": trial_index.settled,
        "best": [trial_index.best_at(epoch, number) for epoch in range(6) for number in (0, 3, -1)],
        "paused": [trial_index.best_paused(rung) for rung in range(6)],
        "standing": [
            trial_index.rank(trial.number, epoch)
            for trial in trials
            for epoch in trial.intermediate_values
        ],
    }


def anew(trials: list[FrozenTrial]) -> dict[str, Any]:
    """The same, counted by going through all trials."""
    paused = [trial for trial in trials if is_paused(trial)]

    def place(trial: FrozenTrial, epoch: int) -> tuple[float, int]:
        return (-trial.intermediate_values[epoch], trial.number)

    def best_at(epoch: int, except_number: int) -> float | None:
        values = [
            trial.intermediate_values[epoch]
            for trial in trials
            if epoch in trial.intermediate_values and trial.number != except_number
        ]
        return max(values, default=None)

    def best_paused(rung: int) -> int | None:
        there = [
            trial
            for trial in paused
            if trial.user_attrs[RUNG_ATTR]["to_epoch"] == rung and rung in trial.intermediate_values
        ]
        best = min(there, key=lambda trial: place(trial, rung), default=None)
        return best and best.number

    def rank(trial: FrozenTrial, epoch: int) -> tuple[int, int]:
        there = [
            place(other, epoch)
            for other in trials
            if epoch in other.intermediate_values and other.state != TrialState.FAIL
        ]
        return sum(other < place(trial, epoch) for other in there), len(there)

    finished = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    return {
        "states": {state: sum(trial.state == state for trial in trials) for state in TrialState},
        "active": [
            trial.number
            for trial in trials
            if trial.state == TrialState.RUNNING and not is_paused(trial)
        ],
        "failed": {trial.number for trial in trials if trial.state == TrialState.FAIL},
        "settled": finished + len(paused),
        "best": [best_at(epoch, number) for epoch in range(6) for number in (0, 3, -1)],
        "paused": [best_paused(rung) for rung in range(6)],
        "standing": [rank(trial, epoch) for trial in trials for epoch in trial.intermediate_values],
    }


def test_a_census_that_is_kept_is_as_one_that_is_made_anew() -> None:
    generator = random.Random(3)
    storage = InMemoryStorage()
    study = optuna.create_study(storage=storage, direction="maximize")
    opened = OpenStudy(study, storage)
    running: list[optuna.trial.Trial] = []
    for _ in range(300):
        if len(running) < 3 or generator.random() < 0.2:
            if generator.random() < 0.2:
                study.enqueue_trial({})
            running.append(study.ask())
        trial = generator.choice(running)
        frozen = opened.trials()[trial.number]
        epoch = (frozen.last_step or 0) + 1
        dice = generator.random()
        if epoch <= EPOCHS and dice < 0.6:
            trial.report(generator.choice([0.1, 0.2, generator.random()]), epoch)
        elif dice < 0.8:
            mark = rung_mark(generator.choice([epoch - 1, 2]), paused=generator.random() < 0.7)
            trial.set_user_attr(RUNG_ATTR, mark)
        else:
            running.remove(trial)
            states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
            state = generator.choice(states)
            study.tell(trial, 0.5 if state == TrialState.COMPLETE else None, state=state)
        if generator.random() < 0.7:
            trials = opened.trials()
            assert described(opened.trial_index(), trials) == anew(trials)
    assert opened.trial_index().settled > 20


def test_another_and_smaller_study_is_counted_from_the_start() -> None:
    trial_index = TrialIndex()
    for values in ([0.5, 0.25, 0.75], [0.125]):
        study = optuna.create_study(direction="maximize")
        for value in values:
            reports = {1: value, 2: float("nan")}
            study.add_trial(create_trial(value=value, intermediate_values=reports))
        trial_index.update(study.get_trials())
        assert trial_index.best_at(1, except_number=-1) == max(values)
        assert trial_index.finished == len(values)
