from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from canopy_search.search.scheduling.paused_as_pruned_sampler import (
    SHOWN_TRIALS,
    AsPruned,
    PausedAsPrunedSampler,
    best_and_newest,
)
from canopy_search.search.scheduling.pausing_pruner import rung_mark
from canopy_search.storage.study.trial_attributes import RUNG_ATTR, is_paused

STARTUP = 10


def suggest(study: optuna.Study, sampler: optuna.samplers.BaseSampler) -> float:
    study.sampler = sampler
    return study.ask().suggest_float("x", 0, 1)


def tpe(seed: int = 0) -> TPESampler:
    return TPESampler(seed=seed, n_startup_trials=STARTUP)


def study_with(state: TrialState, count: int = 30) -> optuna.Study:
    """Trials of which those near .7 were the best."""
    study = optuna.create_study(direction="maximize")
    for index in range(count):
        x = index / count
        study.add_trial(
            create_trial(
                state=state,
                value=-abs(x - 0.7) if state in {TrialState.COMPLETE, TrialState.PRUNED} else None,
                params={"x": x},
                distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
                intermediate_values={1: -abs(x - 0.7)},
                user_attrs={RUNG_ATTR: rung_mark(1, paused=True)},
            )
        )
    return study


def test_paused_trials_teach_it_as_pruned_ones_do() -> None:
    for seed in range(5):
        paused = suggest(study_with(TrialState.RUNNING), PausedAsPrunedSampler(tpe(seed)))
        pruned = suggest(study_with(TrialState.PRUNED), tpe(seed))
        assert paused == pruned
        assert paused == pytest.approx(0.7, abs=0.2)


def test_alone_it_would_sample_at_random() -> None:
    blind = [suggest(study_with(TrialState.RUNNING), tpe(seed)) for seed in range(5)]
    empty = [suggest(optuna.create_study(direction="maximize"), tpe(seed)) for seed in range(5)]
    assert blind == empty


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED])
def test_of_many_trials_the_best_stay_however_old_they_are(state: TrialState) -> None:
    study = study_with(state, SHOWN_TRIALS)  # the best are near .7
    worst = study.get_trials(deepcopy=False)[0]
    study.add_trials([worst] * SHOWN_TRIALS)
    trials = study.get_trials(deepcopy=False)

    shown = best_and_newest(trials, study.direction)

    assert len(shown) == SHOWN_TRIALS
    assert [trial.number for trial in shown] == sorted(trial.number for trial in shown)
    old = [trial.params["x"] for trial in shown if trial.number < SHOWN_TRIALS]
    assert sorted(abs(x - 0.7) for x in old) == pytest.approx(
        sorted(abs(x / SHOWN_TRIALS - 0.7) for x in range(SHOWN_TRIALS))[:25]
    )
    assert suggest(study, PausedAsPrunedSampler(tpe())) == pytest.approx(0.7, abs=0.05)


def test_what_has_not_ended_is_always_shown() -> None:
    study = study_with(TrialState.COMPLETE, SHOWN_TRIALS + 50)
    running = [study.ask().number for _ in range(3)]
    shown = best_and_newest(study.get_trials(deepcopy=False), study.direction)
    assert [trial.number for trial in shown[-3:]] == running
    assert len(shown) == SHOWN_TRIALS + 3


def test_a_failed_trial_is_never_among_the_best() -> None:
    study = study_with(TrialState.FAIL, SHOWN_TRIALS)
    study.add_trials(study_with(TrialState.PRUNED, 10).get_trials(deepcopy=False))
    study.add_trials(study_with(TrialState.FAIL, SHOWN_TRIALS).get_trials(deepcopy=False))
    shown = best_and_newest(study.get_trials(deepcopy=False), study.direction)
    assert sum(trial.state == TrialState.PRUNED for trial in shown) == 10


def test_without_paused_trials_it_changes_nothing() -> None:
    for state in (TrialState.COMPLETE, TrialState.PRUNED):
        assert suggest(study_with(state), PausedAsPrunedSampler(tpe())) == suggest(
            study_with(state), tpe()
        )


def test_every_parameter_of_a_trial_comes_from_one_history() -> None:
    """TPE samples them together, and keeps what it sampled on the trial that it was given."""
    study = study_with(TrialState.RUNNING)
    sampler = PausedAsPrunedSampler(TPESampler(seed=3, n_startup_trials=5))
    study.sampler = sampler
    trial = study.ask()
    first = trial.suggest_float("x", 0, 1)
    assert trial.suggest_float("x", 0, 1) == first
    trial.suggest_float("unknown before", 0, 1)
    assert trial.number == 30


def test_hyperband_shows_a_sampler_a_part_of_the_study() -> None:
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9)
    values = []
    for wrapped in (True, False):
        study = optuna.create_study(direction="maximize", pruner=pruner, study_name="fixed")
        for number in range(40):
            sampler = tpe(number)
            study.sampler = PausedAsPrunedSampler(sampler) if wrapped else sampler
            trial = study.ask()
            values.append(trial.suggest_float("x", 0, 1))
            trial.report(values[-1], 1)
            trial.should_prune()  # Hyperband makes its brackets now
            study.tell(trial, values[-1])
    assert values[:40] == values[40:]


class Whole(PausedAsPrunedSampler):
    """As it would be without any short cut: a study of its own with a copy of every trial."""

    def __init__(self, sampler: TPESampler) -> None:
        super().__init__(sampler)
        self._inner = sampler
        self._copy: optuna.Study | None = None

    def _copied(self, study: optuna.Study, trial: FrozenTrial) -> tuple[optuna.Study, FrozenTrial]:
        if self._copy is None:
            self._copy = optuna.create_study(direction="maximize")
            for other in study.get_trials(deepcopy=False):
                self._copy.add_trial(as_pruned(other) if is_paused(other) else other)
        return self._copy, self._copy.get_trials(deepcopy=False)[trial.number]

    def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
        return self._inner.infer_relative_search_space(*self._copied(study, trial))

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
        return self._inner.sample_relative(*self._copied(study, trial), search_space)

    def sample_independent(self, study: Any, trial: Any, *parameter: Any) -> Any:
        return self._inner.sample_independent(*self._copied(study, trial), *parameter)


def as_pruned(trial: FrozenTrial) -> FrozenTrial:
    return create_trial(
        state=TrialState.PRUNED,
        value=trial.intermediate_values[max(trial.intermediate_values)],
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=trial.intermediate_values,
    )


def sampled(make: Callable[[TPESampler], PausedAsPrunedSampler], **parameters: Any) -> list[Any]:
    """The parameters of sixty trials, of which many pause, some for good, and some do not end."""
    study = optuna.create_study(direction="maximize")
    all_params = []
    for number in range(60):
        study.sampler = make(TPESampler(seed=number, n_startup_trials=5, **parameters))
        trial = study.ask()
        gamma = trial.suggest_float("gamma", 0.8, 1, step=0.01)
        value = -abs(gamma - 0.87) - 0.1 * (trial.suggest_categorical("loss", "abc") != "b")
        if number % 10 == 9:  # such a trial has other parameters than the rest
            value += trial.suggest_int("only sometimes", 1, 3) / 100
        all_params.append(trial.params)
        trial.report(value, 1)
        if number % 7 == 0:
            continue
        if number % 3:
            trial.set_user_attr(RUNG_ATTR, rung_mark(1, paused=True))
            if number % 4:
                continue
            trial.set_user_attr(RUNG_ATTR, rung_mark(4, paused=False))
        trial.report(value + 0.01, 2)
        state = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)[number % 5 % 3]
        study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)
    return all_params


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"group": True},
        *(
            pytest.param(each, marks=pytest.mark.exhaustive)
            for each in ({"multivariate": False}, {"constant_liar": False})
        ),
    ],
    ids=str,
)
def test_sixty_trials_are_sampled_as_from_a_copy_of_the_study(parameters: dict[str, Any]) -> None:
    as_pruned = AsPruned()
    expected = sampled(Whole, **parameters)
    assert sampled(lambda tpe: PausedAsPrunedSampler(tpe, as_pruned), **parameters) == expected
    assert len({str(params) for params in expected}) > 20


def test_without_paused_trials_sixty_are_sampled_as_by_optuna_alone() -> None:
    def params(wrapped: Callable[[TPESampler], optuna.samplers.BaseSampler]) -> list[Any]:
        study = optuna.create_study(direction="maximize")
        for number in range(60):
            study.sampler = wrapped(TPESampler(seed=number))
            trial = study.ask()
            value = trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 1, 9, step=2)
            trial.report(value, 1)
            state = TrialState.PRUNED if number % 3 else TrialState.COMPLETE
            study.tell(trial, None if number % 3 else value, state=state)
        return [trial.params for trial in study.get_trials(deepcopy=False)]

    as_pruned = AsPruned()
    assert params(lambda tpe: PausedAsPrunedSampler(tpe, as_pruned)) == params(lambda tpe: tpe)


def test_a_paused_trial_has_a_new_twin_when_it_has_changed() -> None:
    study = study_with(TrialState.RUNNING, count=1)
    as_pruned = AsPruned()
    before = as_pruned.shown(study.get_trials(deepcopy=False))
    assert as_pruned.shown(study.get_trials(deepcopy=False))[0] is before[0]
    trial = optuna.trial.Trial(study, 0)
    trial.report(0.9, 4)
    after = as_pruned.shown(study.get_trials(deepcopy=False))[0]
    assert (before[0].value, after.value) == (-0.7, 0.9)
    assert after.state == TrialState.PRUNED
    trial.set_user_attr(RUNG_ATTR, rung_mark(5, paused=False))
    assert as_pruned.shown(study.get_trials(deepcopy=False))[0].state == TrialState.RUNNING
