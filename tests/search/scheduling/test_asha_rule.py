"""Who is promoted next, compared with the rule as it is written down."""

import random

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from canopy_search.search.scheduling.asha import AshaPruner
from canopy_search.search.scheduling.pausing_pruner import Promotion, rung_mark
from canopy_search.search.scheduling.trial_index import TrialIndex
from canopy_search.storage.study.trial_attributes import RUNG_ATTR, is_paused


def test_promotion_ranks_all_trials_at_a_rung_whatever_has_become_of_them() -> None:
    generator = random.Random(7)
    promoted = 0
    for _ in range(200):
        study = optuna.create_study(direction="maximize")
        for _ in range(generator.randrange(40)):
            epochs = generator.choice([1, 1, 1, 3, 9])
            state = generator.choice([TrialState.RUNNING] * 3 + list(TrialState))
            mark = rung_mark(epochs, paused=generator.random() < 0.8)
            values = {
                epoch: generator.choice([0.1, 0.2, 0.3, generator.random()])
                for epoch in range(1, epochs + 1)
            }
            value = values[epochs] if state == TrialState.COMPLETE else None
            attributes = {RUNG_ATTR: mark}
            study.add_trial(
                create_trial(
                    state=state, value=value, intermediate_values=values, user_attrs=attributes
                )
            )
        rule = AshaPruner(1, generator.randint(2, 4), epochs=9)
        trials = study.get_trials(deepcopy=False)
        trial_index = TrialIndex()
        trial_index.update(trials)
        found = rule.promotion(trial_index, begins=False)
        assert found == by_the_rule(rule, trials)
        promoted += found is not None
    assert promoted > 50


def by_the_rule(rule: AshaPruner, trials: list[FrozenTrial]) -> Promotion | None:
    for rung, onward in reversed(
        list(zip(rule.rungs, [*rule.rungs[1:], rule.epochs], strict=True))
    ):
        there = [
            trial
            for trial in trials
            if trial.state != TrialState.FAIL and rung in trial.intermediate_values
        ]
        there.sort(key=lambda trial: (-trial.intermediate_values[rung], trial.number))
        for trial in there[: len(there) // rule.reduction_factor]:
            if is_paused(trial) and trial.user_attrs[RUNG_ATTR]["to_epoch"] == rung:
                return Promotion(trial.number, onward)
    return None
