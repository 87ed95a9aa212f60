import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from dashboards.summary import RUNG_ATTR
from search.history_sampler import HistorySampler
from search.promotion import rung_mark

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
                value=-abs(x - 0.7) if state.is_finished() else None,
                params={"x": x},
                distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
                intermediate_values={1: -abs(x - 0.7)},
                user_attrs={RUNG_ATTR: rung_mark(1, paused=True)},
            )
        )
    return study


def test_paused_trials_teach_it_as_pruned_ones_do() -> None:
    for seed in range(5):
        paused = suggest(study_with(TrialState.RUNNING), HistorySampler(tpe(seed)))
        pruned = suggest(study_with(TrialState.PRUNED), tpe(seed))
        assert paused == pruned
        assert paused == pytest.approx(0.7, abs=0.2)


def test_alone_it_would_sample_at_random() -> None:
    blind = [suggest(study_with(TrialState.RUNNING), tpe(seed)) for seed in range(5)]
    empty = [suggest(optuna.create_study(direction="maximize"), tpe(seed)) for seed in range(5)]
    assert blind == empty


def test_without_paused_trials_it_changes_nothing() -> None:
    for state in (TrialState.COMPLETE, TrialState.PRUNED):
        assert suggest(study_with(state), HistorySampler(tpe())) == suggest(
            study_with(state), tpe()
        )


def test_every_parameter_of_a_trial_comes_from_one_history() -> None:
    """TPE samples them together, and keeps what it sampled on the trial that it was given."""
    study = study_with(TrialState.RUNNING)
    sampler = HistorySampler(TPESampler(seed=3, n_startup_trials=5))
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
        for number in range(25):
            sampler = tpe(number)
            study.sampler = HistorySampler(sampler) if wrapped else sampler
            trial = study.ask()
            values.append(trial.suggest_float("x", 0, 1))
            trial.report(values[-1], 1)
            study.tell(trial, values[-1])
    assert values[:25] == values[25:]
