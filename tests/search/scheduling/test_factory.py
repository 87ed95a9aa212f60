from collections.abc import Callable

import optuna
import pytest
from optuna.pruners import HyperbandPruner, SuccessiveHalvingPruner
from syrupy.assertion import SnapshotAssertion

from canopy_search.search.config.settings import NamedSettings, SearchSettings
from canopy_search.search.config.space import SearchSpace, parse_space
from canopy_search.search.errors import SamplerError
from canopy_search.search.scheduling.factory import (
    PRUNERS,
    SAMPLERS,
    GridSampler,
    build_pruner,
    build_sampler,
    check_sampling,
)
from canopy_search.training.settings import TrainingSettings


def parse(space: object) -> SearchSpace:
    return parse_space(SearchSettings.model_validate({"space": space}), TrainingSettings())


SPACE = parse({"loss": ["bce", "focal"], "gamma": {"low": 0.8, "high": 1.0, "step": 0.05}})


def named(name: str, **parameters: object) -> NamedSettings:
    return NamedSettings.model_validate({"name": name, **parameters})


def sample(name: str, trials: int, seed: int = 0, restart_at: int | None = None) -> list[object]:
    study = optuna.create_study()
    params = []
    for number in range(trials):
        study.sampler = build_sampler(named(name), SPACE, seed, number)
        trial = study.ask()
        params.append(SPACE.suggest(trial))
        study.tell(trial, number / 10)
    return params


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_every_sampler_samples_from_the_space_and_repeats_itself(name: str) -> None:
    params = sample(name, 8)
    assert all(p["loss"] in {"bce", "focal"} and 0.8 <= p["gamma"] <= 1.0 for p in params)
    assert params == sample(name, 8)


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_another_seed_samples_otherwise(name: str) -> None:
    assert sample(name, 8) != sample(name, 8, seed=1)


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_a_sampler_made_anew_does_not_repeat_the_first_trial(name: str) -> None:
    assert len({str(params) for params in sample(name, 8)}) > 4


def test_the_grid_is_tried_once_and_then_exhausted() -> None:
    study = optuna.create_study()
    seen = set()
    for number in range(10):
        sampler = build_sampler(named("grid"), SPACE, 0, number)
        assert isinstance(sampler, GridSampler)
        assert not sampler.is_exhausted(study)
        study.sampler = sampler
        trial = study.ask()
        params = SPACE.suggest(trial)
        seen.add((params["loss"], params["gamma"]))
        study.tell(trial, 0.0)
    assert len(seen) == 10
    assert sampler.is_exhausted(study)


def test_a_grid_needs_steps(words: SnapshotAssertion) -> None:
    space = parse({"gamma": {"low": 0.8, "high": 1.0}})
    with pytest.raises(SamplerError) as error:
        build_sampler(named("grid"), space, 0, 0)
    assert str(error.value) == words


@pytest.mark.parametrize(
    ("search", "key"),
    [
        (
            {"sampler": {"name": "tpe", "n_startup_trials": "ten"}},
            "search.sampler.n_startup_trials: ",
        ),
        (
            {"sampler": {"name": "tpe", "n_ei_candidates": "x", "n_startup_trials": 1}},
            "search.sampler.n_ei_candidates: ",
        ),
        (
            {"pruner": {"name": "median", "n_startup_trials": "x"}},
            "search.pruner.n_startup_trials: ",
        ),
        ({"sampler": {"name": "grid"}, "enqueue": [{"gamma": 0.8}]}, "search.enqueue[0]: loss"),
    ],
    ids=["sampler", "another parameter", "pruner", "half a setting"],
)
def test_what_fails_at_the_first_trial_is_found_before_it(
    search: object, key: str, words: SnapshotAssertion
) -> None:
    with pytest.raises(SamplerError) as caught:
        check_sampling(SearchSettings.model_validate(search), SPACE, epochs=8)
    assert key in str(caught.value)
    assert str(caught.value) == words


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
@pytest.mark.parametrize("pruner", sorted(PRUNERS))
def test_every_pair_of_sampler_and_pruner_works(sampler: str, pruner: str) -> None:
    search = SearchSettings.model_validate(
        {"sampler": {"name": sampler}, "pruner": {"name": pruner}}
    )
    if sampler == "cmaes" and pruner in {"asha", "branches"}:
        with pytest.raises(SamplerError, match="pauses most trials"):
            check_sampling(search, SPACE, epochs=8)
    else:
        check_sampling(search, SPACE, epochs=8)


@pytest.mark.parametrize("name", sorted(PRUNERS))
def test_every_pruner_is_built(name: str) -> None:
    assert isinstance(build_pruner(named(name), epochs=8), optuna.pruners.BasePruner)


def test_the_resource_of_a_pruner_is_the_epoch() -> None:
    study = optuna.create_study(pruner=build_pruner(named("hyperband"), epochs=27))
    trial = study.ask()
    trial.report(0.5, 1)
    trial.should_prune()
    assert isinstance(study.pruner, HyperbandPruner)
    assert study.pruner._n_brackets == 4  # floor(log3(27)) + 1
    assert isinstance(
        build_pruner(named("successive_halving", reduction_factor=3), 8), SuccessiveHalvingPruner
    )


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: build_sampler(named("tpee"), SPACE, 0, 0), "'tpe'"),
        (lambda: build_pruner(named("hyperbnd"), 8), "'hyperband'"),
        (lambda: build_pruner(named("bandit"), 8), "asha, branches, hyperband"),
        (
            lambda: build_sampler(named("tpe", n_startup_trial=3), SPACE, 0, 0),
            "'n_startup_trials'",
        ),
        (lambda: build_pruner(named("none", x=1), 8), "search.pruner.x: "),
        (
            lambda: build_pruner(named("successive_halving", reduction_factor=1), 8),
            "search.pruner: successive_halving: ",
        ),
    ],
    ids=["sampler", "pruner", "no pruner", "parameter", "no parameter", "number"],
)
def test_a_wrong_name_names_the_nearest(
    build: Callable[[], object], named: str, words: SnapshotAssertion
) -> None:
    with pytest.raises(SamplerError) as caught:
        build()
    said = str(caught.value).replace('"', "'")
    assert named in said
    if ": successive_halving: " not in said:  # what follows are Optuna's words
        assert said == words
