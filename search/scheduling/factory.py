"""Samplers and pruners by name, with their parameters, seeded."""

import hashlib
import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, HyperbandPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from canopy_search.filestore.messages import first_line
from canopy_search.search.config.quoting import found_text, shown_key
from canopy_search.search.config.settings import NamedSettings, SearchSettings
from canopy_search.search.config.space import SearchSpace
from canopy_search.search.errors import SamplerError
from canopy_search.search.scheduling.asha import AshaPruner
from canopy_search.search.scheduling.branches import BranchPruner
from canopy_search.search.scheduling.fixed_list_sampler import LISTED, FixedListSampler
from canopy_search.search.scheduling.median import TreeMedianPruner
from canopy_search.search.scheduling.paused_as_pruned_sampler import AsPruned, PausedAsPrunedSampler
from canopy_search.search.scheduling.pausing_pruner import PausingPruner
from canopy_search.training.errors import nearest_hint, unknown_name_message


class GridSampler(optuna.samplers.GridSampler):
    """Optuna's grid for our own loop: `is_exhausted` replaces stopping the study."""

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Does nothing; the loop asks `is_exhausted`."""


GRID = "grid"
SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    "tpe": TPESampler,
    "random": RandomSampler,
    "cmaes": CmaEsSampler,
    GRID: GridSampler,
}
PRUNERS: dict[str, Callable[..., BasePruner]] = {
    "none": optuna.pruners.NopPruner,
    "median": TreeMedianPruner,
    "hyperband": HyperbandPruner,
    "successive_halving": SuccessiveHalvingPruner,
    "asha": AshaPruner,
    "branches": BranchPruner,
}


# Enough for CMA-ES to start, and for TPE with few startup trials.
TRIED_TRIALS = 3

# Larger grids and numbers only cost memory: no study has as many trials or epochs.
MOST_GRID_POINTS = 10_000
LARGEST_PARAMETER = 100_000

# Optuna's annotations → type in YAML and its name. Other annotations, as functions, have no YAML.
_VALUE_TYPES: dict[str, tuple[type, str]] = {
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "str": (str, "text"),
    "dict[str, Any]": (dict, "a mapping"),
}


def build_sampler(
    settings: NamedSettings,
    space: SearchSpace,
    seed: int,
    trial_number: int,
    as_pruned: AsPruned | None = None,
) -> BaseSampler:
    """Builds the sampler for one trial.

    A sampler's generator is seeded for each trial with the study's seed and the trial's number, so
    samples do not depend on how often the search was interrupted.

    Args:
        settings: name and parameters.
        space: what is searched; a grid needs a step or choices for every parameter.
        seed: the study's.
        trial_number: of the trial to sample.
        as_pruned: the study's paused trials as pruned ones; reused for the next trial.

    Raises:
        SamplerError: no such sampler, or not a parameter of it.
    """
    if settings.name == LISTED:  # only for confirmations, so not in SAMPLERS
        return FixedListSampler(settings.parameters.get("settings", ()), space)
    factory = _named("sampler", settings.name, SAMPLERS)
    fixed = {"seed", "search_space", "warn_independent_sampling"}
    parameters = _check_parameters("sampler", settings, factory, fixed)
    if settings.name == GRID:
        # All trials must agree on the order of the grid, and so on its seed.
        return GridSampler(grid(space), seed=seed)
    if settings.name == "cmaes":
        parameters["warn_independent_sampling"] = False  # categories are sampled at random
    parameters["seed"] = _mixed(seed, trial_number)
    sampler: BaseSampler = _build("sampler", settings.name, factory, parameters)
    # The others learn nothing, or only from complete trials: `check_sampling` refuses CMA-ES with a
    # pruner that pauses.
    return PausedAsPrunedSampler(sampler, as_pruned) if settings.name == "tpe" else sampler


def build_pruner(settings: NamedSettings, epochs: int) -> BasePruner:
    """Builds the pruner; its resource is the epoch.

    Args:
        settings: name and parameters.
        epochs: of a full run, the largest resource.

    Raises:
        SamplerError: no such pruner, or not a parameter of it.
    """
    factory = _named("pruner", settings.name, PRUNERS)
    parameters = _check_parameters("pruner", settings, factory, fixed={"epochs"})
    if isinstance(factory, type) and issubclass(factory, PausingPruner):
        parameters["epochs"] = epochs
    if settings.name == "hyperband":
        parameters.setdefault("max_resource", epochs)
    if settings.name == "successive_halving":
        parameters.setdefault("min_resource", 1)
    pruner: BasePruner = _build("pruner", settings.name, factory, parameters)
    return pruner


def check_sampling(search: SearchSettings, space: SearchSpace, epochs: int) -> None:
    """Tries sampler and pruner on a study in memory.

    Raises:
        SamplerError: one of them cannot be built, or fails when used.
    """
    pruner = build_pruner(search.pruner, epochs)
    study = optuna.create_study(pruner=pruner)
    build_sampler(search.sampler, space, search.seed, 0)
    if search.sampler.name == "cmaes" and isinstance(pruner, PausingPruner):
        raise SamplerError(
            "search.sampler: cmaes learns from complete trials only, and pruner "
            f"{search.pruner.name} pauses most trials; set search.pruner to {{name: none}} or "
            "{name: median}, or search.sampler to {name: tpe}"
        )
    if search.sampler.name == LISTED:
        return
    tried = search.sampler
    if tried.name == "tpe":  # it starts at random, which would not use its parameters
        tried = NamedSettings(name="tpe", **{**tried.parameters, "n_startup_trials": 1})
    kind, name = "sampler", search.sampler.name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # numpy only warns of a division by zero
            for number in range(TRIED_TRIALS):
                kind, name = "sampler", search.sampler.name
                study.sampler = build_sampler(tried, space, search.seed, number)
                trial = study.ask()
                space.suggest(trial)
                kind, name = "pruner", search.pruner.name
                trial.report(number / TRIED_TRIALS, 1)
                trial.should_prune()
                study.tell(trial, number / TRIED_TRIALS)
    except (LookupError, ArithmeticError, RuntimeWarning) as error:
        raise SamplerError(
            f"search.{kind}: {name}: cannot work with these parameters: {first_line(error)}"
        ) from error
    except (TypeError, ValueError, AssertionError) as error:
        raise SamplerError(f"search.{kind}: {name}: {first_line(error)}") from error
    if search.sampler.name == GRID:
        for index, setting in enumerate(search.enqueued):
            if missing := [name for name in space.distributions if name not in setting.params]:
                raise SamplerError(
                    f"search.enqueue[{index}]: {missing[0]} is missing; a grid samples nothing, so "
                    "every parameter must be given"
                )


def grid(space: SearchSpace, who: str = "search.sampler: a grid") -> dict[str, list[Any]]:
    """Returns every value of every parameter.

    Args:
        space: what is searched.
        who: what needs the grid, for messages.

    Raises:
        SamplerError: a range has no step, so its values cannot be listed, or there are too many.
    """
    values: dict[str, list[Any]] = {}
    points = math.prod(_value_count(domain) for domain in space.distributions.values())
    if points > MOST_GRID_POINTS:
        raise SamplerError(
            f"{who} of {points} points is too large; expected at most {MOST_GRID_POINTS}, so make "
            "the steps larger or list fewer values"
        )
    for name, domain in space.distributions.items():
        if isinstance(domain, CategoricalDistribution):
            values[name] = list(domain.choices)
        elif isinstance(domain, IntDistribution) and not domain.log:
            values[name] = list(range(domain.low, domain.high + 1, domain.step))
        elif isinstance(domain, FloatDistribution) and domain.step is not None:
            steps = round((domain.high - domain.low) / domain.step)
            raw = [domain.low + k * domain.step for k in range(steps + 1)]
            values[name] = [space.canonical({name: value})[name] for value in raw]
        else:
            raise SamplerError(
                f"{who} needs a step for search.space.{name}; add one or list the values"
            )
    return values


def _value_count(domain: BaseDistribution) -> int:
    """Returns how many values a parameter has; 1 for a range without a step: `grid` refuses it."""
    if isinstance(domain, CategoricalDistribution):
        return len(domain.choices)
    if isinstance(domain, IntDistribution) and not domain.log:
        return (domain.high - domain.low) // domain.step + 1
    if isinstance(domain, FloatDistribution) and domain.step is not None:
        return round((domain.high - domain.low) / domain.step) + 1
    return 1


def _named(kind: str, name: str, known: dict[str, Any]) -> Any:
    if name in known:
        return known[name]
    raise SamplerError(f"search.{kind}.name: {unknown_name_message(kind, name, known)}")


def _check_parameters(
    kind: str, settings: NamedSettings, factory: Callable[..., Any], fixed: set[str]
) -> dict[str, Any]:
    """Returns the parameters after checking that the factory takes them from YAML."""
    known = {
        name: types
        for name, parameter in inspect.signature(factory).parameters.items()
        if name not in fixed and (types := _yaml_types(parameter.annotation))
    }
    for name, value in settings.parameters.items():
        where = f"search.{kind}.{shown_key(name)}"
        if name not in known:
            # The seed is the study's own.
            hint = "write search.seed" if name == "seed" else nearest_hint(name, list(known))
            raise SamplerError(f"{where}: not a parameter of {settings.name}; {hint}")
        types = known[name]
        if not (value is None and _takes_none(factory, name)) and not any(
            _is_of(value, type_) for type_ in types
        ):
            expected = " or ".join(_VALUE_TYPES[type_][1] for type_ in types)
            raise SamplerError(f"{where}: expected {expected}, found {found_text(value)}")
        if isinstance(value, int | float) and not abs(value) <= LARGEST_PARAMETER:
            raise SamplerError(
                f"{where}: expected at most {LARGEST_PARAMETER}, found {found_text(value)}"
            )
    return settings.parameters


def _yaml_types(annotation: Any) -> list[str]:
    """Returns the options of an annotation (a type or its text) that YAML can express."""
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return [option for option in text.split(" | ") if option in _VALUE_TYPES]


def _takes_none(factory: Callable[..., Any], name: str) -> bool:
    return "None" in str(inspect.signature(factory).parameters[name].annotation)


def _is_of(value: Any, type_: str) -> bool:
    wanted = _VALUE_TYPES[type_][0]
    if isinstance(value, bool):
        return wanted is bool
    return isinstance(value, wanted) or (wanted is float and isinstance(value, int))


def _build(kind: str, name: str, factory: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # A parameter that Optuna has deprecated may have no effect.
            warnings.simplefilter("error", FutureWarning)
            return factory(**parameters)
    except (TypeError, ValueError, AssertionError, FutureWarning) as error:
        raise SamplerError(f"search.{kind}: {name}: {first_line(error)}") from error


def _mixed(seed: int, trial_number: int) -> int:
    """Returns a 32-bit seed that is unrelated between neighbouring studies and trials."""
    digest = hashlib.sha256(f"canopy sampler {seed} {trial_number}".encode()).digest()
    return int.from_bytes(digest[:4], "little")
