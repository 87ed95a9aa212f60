"""The search space: YAML ↔ Optuna distributions ↔ one trial's settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import BaseModel, ValidationError

from search.config import RangeSettings, Scalar, SearchSettings
from search.errors import SearchSpaceError
from storage.parameters import canonical_params, decimal
from training.errors import nearest_hint
from training.settings import TrainingSettings

Params = dict[str, Any]


def with_params(training: TrainingSettings, params: Mapping[str, Scalar]) -> TrainingSettings:
    """Returns `training` with the settings that `params` names by dotted name.

    Raises:
        SearchSpaceError: a name is no setting, or a value is not one that it takes.
    """
    document = training.model_dump()
    for name, value in params.items():
        *sections, key = name.split(".")
        section: Any = document
        for step in sections:
            section = section.get(step) if isinstance(section, dict) else None
        if not isinstance(section, dict) or key not in section or isinstance(section[key], dict):
            hint = nearest_hint(name, setting_names(training))
            raise SearchSpaceError(f"{name}: no such training setting; {hint}")
        section[key] = value
    try:
        return TrainingSettings.model_validate(document)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        name = ".".join(str(step) for step in detail["loc"] if step in _words(params))
        message = detail["msg"][0].lower() + detail["msg"][1:]
        raise SearchSpaceError(f"{name}: {message}, found {detail['input']!r}") from error


def setting_names(settings: BaseModel, prefix: str = "") -> list[str]:
    """Returns the dotted names of all settings below `settings`."""
    names = []
    for key in type(settings).model_fields:
        value = getattr(settings, key)
        if isinstance(value, BaseModel):
            names += setting_names(value, f"{prefix}{key}.")
        else:
            names.append(prefix + key)
    return names


def setting(training: TrainingSettings, name: str) -> Any:
    """Returns the value of the setting with the dotted name `name`."""
    value: Any = training
    for step in name.split("."):
        value = getattr(value, step)
    return value


@dataclass(frozen=True)
class SearchSpace:
    """What the study varies.

    Attributes:
        training: the settings that stay as they are.
        distributions: dotted name of a setting → its distribution, in the order of the YAML.
    """

    training: TrainingSettings
    distributions: dict[str, BaseDistribution]

    def suggest(self, trial: optuna.trial.Trial) -> Params:
        """Asks `trial` for every parameter; one that was asked before keeps its value."""
        for name, distribution in self.distributions.items():
            _suggest(trial, name, distribution)
        return self.canonical(trial.params)

    def canonical(self, params: Mapping[str, Any]) -> Params:
        """Returns `params` in the space's order, stepped floats exactly on their grid."""
        return canonical_params(params, self.distributions)

    def training_settings(self, params: Mapping[str, Any]) -> TrainingSettings:
        """Returns the settings of the training run that `params` stands for."""
        return with_params(self.training, self.canonical(params))

    def check_enqueued(self, params: Mapping[str, Scalar]) -> None:
        """Checks that every enqueued value lies in the space.

        Raises:
            SearchSpaceError: a parameter is not searched, or its value lies outside.
        """
        for name, value in params.items():
            distribution = self.distributions.get(name)
            if distribution is None:
                raise SearchSpaceError(
                    f"{name}: not in search.space; searched are {', '.join(self.distributions)}"
                )
            if not _contains(distribution, value):
                raise SearchSpaceError(
                    f"{name}: {value!r} lies outside of {describe(distribution)}; "
                    "widen search.space or change the value"
                )


def parse_space(search: SearchSettings, training: TrainingSettings) -> SearchSpace:
    """Checks the space and the enqueued settings of a configuration.

    Raises:
        SearchSpaceError: a name is no setting, a range is empty or impossible, or a value is not
            one that the setting takes; the message begins with the key.
    """
    distributions: dict[str, BaseDistribution] = {}
    for name, domain in search.space.items():
        try:
            values = domain if isinstance(domain, list) else [domain.low, domain.high]
            for value in values:
                with_params(training, {name: value})
            distribution = _distribution(domain, setting(training, name))
            if isinstance(distribution, FloatDistribution):
                # A whole number at an end hides that the setting takes no fractions between.
                with_params(training, {name: distribution.low})
            distributions[name] = distribution
        except SearchSpaceError as error:
            raise SearchSpaceError(f"search.space.{error}") from error
        except ValueError as error:
            raise SearchSpaceError(f"search.space.{name}: {error}") from error
    space = SearchSpace(training, distributions)
    for index, params in enumerate(search.enqueue):
        try:
            space.check_enqueued(params)
        except SearchSpaceError as error:
            raise SearchSpaceError(f"search.enqueue[{index}].{error}") from error
    return space


def describe(distribution: BaseDistribution) -> str:
    """Returns a distribution as a person would write it."""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(str(choice) for choice in distribution.choices)
    if not isinstance(distribution, IntDistribution | FloatDistribution):
        raise TypeError(f"no range of ours: {distribution}")
    steps = f" step {distribution.step:g}" if distribution.step else ""
    return f"{distribution.low:g} to {distribution.high:g}{steps}{' log' * distribution.log}"


def _distribution(domain: list[Scalar] | RangeSettings, default: Any) -> BaseDistribution:
    if isinstance(domain, list):
        if not domain:
            raise ValueError("no values; list at least one")
        if len({repr(value) for value in domain}) < len(domain):
            raise ValueError(f"a value stands twice in {domain}; remove one")
        return CategoricalDistribution(domain)
    low, high, step, log = domain.low, domain.high, domain.step, domain.log
    span = decimal(high) - decimal(low)
    if low > high:
        raise ValueError(f"low {low} is above high {high}; swap them")
    if log and step is not None:
        raise ValueError("step and log exclude each other; remove one")
    if log and low <= 0:
        raise ValueError(f"a log range must begin above 0, found low {low}")
    if step is not None and not (step > 0 and (low == high or decimal(step) <= span)):
        raise ValueError(f"step {step} does not fit between low {low} and high {high}")
    whole = all(isinstance(bound, int) for bound in (low, high, step) if bound is not None)
    if whole and isinstance(default, int):
        return IntDistribution(int(low), int(high), log=log, step=int(step or 1))
    if step is not None:
        # Optuna would cut high down to the last step in floating point, and warn.
        steps = int(span / decimal(step))
        high = float(decimal(low) + steps * decimal(step))
    return FloatDistribution(float(low), float(high), log=log, step=step and float(step))


def _suggest(trial: optuna.trial.Trial, name: str, distribution: BaseDistribution) -> None:
    if isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(name, distribution.choices)
    elif isinstance(distribution, IntDistribution):
        trial.suggest_int(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )
    elif isinstance(distribution, FloatDistribution):
        trial.suggest_float(
            name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
        )


def _contains(distribution: BaseDistribution, value: Scalar) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return any(
            choice == value and isinstance(choice, bool) == isinstance(value, bool)
            for choice in distribution.choices
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not isinstance(distribution, IntDistribution | FloatDistribution):
        return False
    if isinstance(distribution, IntDistribution) and not isinstance(value, int):
        return False
    if not distribution.low <= value <= distribution.high:
        return False
    step = distribution.step
    return step is None or (decimal(value) - decimal(distribution.low)) % decimal(step) == 0


def _words(params: Mapping[str, Scalar]) -> set[str]:
    return {step for name in params for step in name.split(".")}
