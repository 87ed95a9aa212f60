"""The search space: YAML ↔ Optuna distributions ↔ one trial's settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import BaseModel, ValidationError

from canopy_search.search.config.quoting import found_text, shown_key, shown_text
from canopy_search.search.config.settings import RangeSettings, Scalar, SearchSettings
from canopy_search.search.config.validation_messages import problem_lines
from canopy_search.search.errors import SearchSpaceError
from canopy_search.storage.study.enqueued import FULL_KEY
from canopy_search.storage.study.parameters import canonical_params, decimal, describe
from canopy_search.training.errors import nearest_hint
from canopy_search.training.settings import TrainingSettings

Params = dict[str, Any]

# Far above any setting, and far below the precision limit of the samplers' floats.
LARGEST_BOUND = 10**12
MOST_STEPS = 1_000_000
MOST_CHOICES_SHOWN = 20

# Settings that limit each other; whether two fit together is decided by their extreme values.
_TOGETHER = (
    "epochs",
    "gamma",
    "schedule.name",
    "schedule.warmup_epochs",
    "schedule.decay_epochs",
)


def with_params(training: TrainingSettings, params: Mapping[str, Scalar]) -> TrainingSettings:
    """Returns `training` with the settings in `params`, given by dotted name.

    Raises:
        SearchSpaceError: a name is not a setting, or a value is invalid for it.
    """
    document = training.model_dump()
    for name, value in params.items():
        *sections, key = name.split(".")
        section: Any = document
        for step in sections:
            section = section.get(step) if isinstance(section, dict) else None
        if not isinstance(section, dict) or key not in section or isinstance(section[key], dict):
            known = setting_names(training)
            below = [other for other in known if other.startswith(f"{name}.")]
            hint = f"settings below it: {', '.join(below)}" if below else nearest_hint(name, known)
            raise SearchSpaceError(f"{shown_key(name)}: no such training setting; {hint}")
        section[key] = value
    try:
        return TrainingSettings.model_validate(document)
    except ValidationError as error:
        raise SearchSpaceError("\n".join(problem_lines(error, document))) from error


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
    """The search space of a study.

    Attributes:
        training: the fixed settings.
        distributions: dotted name of a setting → its distribution, in the order of the YAML.
    """

    training: TrainingSettings
    distributions: dict[str, BaseDistribution]

    def suggest(self, trial: optuna.trial.Trial) -> Params:
        """Asks `trial` for every parameter; parameters that it already has keep their value."""
        for name, distribution in self.distributions.items():
            _suggest(trial, name, distribution)
        return self.canonical(trial.params)

    def canonical(self, params: Mapping[str, Any]) -> Params:
        """Returns `params` in the order of the space, stepped floats exactly on their grid."""
        return canonical_params(params, self.distributions)

    def training_settings(self, params: Mapping[str, Any]) -> TrainingSettings:
        """Returns the settings of the training run with these parameters, which are canonical."""
        return with_params(self.training, params)

    def check_enqueued(self, params: Mapping[str, Scalar]) -> None:
        """Checks that every enqueued value is in the space.

        Raises:
            SearchSpaceError: a parameter is not searched, or its value is outside the space.
        """
        problems = []
        for name, value in params.items():
            distribution = self.distributions.get(name)
            if distribution is None:
                searched = ", ".join(self.distributions)
                problems.append(f"{shown_key(name)}: not in search.space, which has {searched}")
            elif not _contains(distribution, value):
                shown = shown_text(value) if isinstance(value, str) else found_text(value)
                problems.append(
                    f"{name}: {shown} is outside of {_short_description(distribution)}; "
                    "widen search.space or change the value"
                )
        if problems:
            raise SearchSpaceError("\n".join(problems))


def parse_space(search: SearchSettings, training: TrainingSettings) -> SearchSpace:
    """Checks the space and the enqueued settings of a configuration.

    Raises:
        SearchSpaceError: a name is not a setting, a range is empty or impossible, or a value is
            invalid for its setting; the message starts with the key.
    """
    distributions: dict[str, BaseDistribution] = {}
    problems: list[str] = []
    for name, domain in search.space.items():
        try:
            distributions[name] = _checked_distribution(name, domain, training)
        except SearchSpaceError as error:
            problems += [f"search.space.{line}" for line in str(error).splitlines()]
    space = SearchSpace(training, distributions)
    if not problems:
        problems += _misfits(space)
    # Enqueued values are checked only once every domain is valid.
    for index, setting in enumerate(search.enqueued if not problems else ()):
        full = search.enqueue[index].get(FULL_KEY, True)
        if not isinstance(full, bool):
            problems.append(
                f"search.enqueue[{index}].{FULL_KEY}: expected true or false, found "
                f"{found_text(full)}"
            )
        try:
            space.check_enqueued(setting.params)
        except SearchSpaceError as error:
            problems += [f"search.enqueue[{index}].{line}" for line in str(error).splitlines()]
    if problems:
        raise SearchSpaceError("\n".join(problems))
    return space


def _misfits(space: SearchSpace) -> list[str]:
    """Returns a line about values of the space that no run can have together, if there are any."""
    names = [name for name in _TOGETHER if name in space.distributions]
    for values in product(*(_extremes(space.distributions[name]) for name in names)):
        params = dict(zip(names, values, strict=True))
        try:
            space.training_settings(params)
        except SearchSpaceError as error:
            tried = ", ".join(f"{name} {value}" for name, value in params.items())
            return [f"search.space.{names[0]}: with {tried}: {error}"]
    return []


def _extremes(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return [distribution.low, distribution.high]
    choices = list(getattr(distribution, "choices", ()))
    if any(isinstance(choice, str) for choice in choices):
        return choices
    return [min(choices), max(choices)]


def _short_description(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        choices = [shown_key(choice) for choice in distribution.choices]
        more = len(choices) - MOST_CHOICES_SHOWN
        shown = ", ".join(choices[:MOST_CHOICES_SHOWN])
        return f"{shown} and {more} more" if more > 0 else shown
    return describe(distribution)


def _checked_distribution(
    name: str, domain: list[Scalar] | RangeSettings, training: TrainingSettings
) -> BaseDistribution:
    """Returns the distribution of a setting, after checking that the setting accepts its values.

    Raises:
        SearchSpaceError: a value is invalid; the message starts with the name.
    """
    is_range = isinstance(domain, RangeSettings)
    values = [domain.low, domain.high] if isinstance(domain, RangeSettings) else domain
    problems: list[str] = []
    for value in values:
        try:
            with_params(training, {name: value})
        except SearchSpaceError as error:
            lines = [line for line in str(error).splitlines() if line not in problems]
            # Whether it fits the other searched settings is checked once all are known.
            problems += [
                line for line in lines if name not in _TOGETHER or line.startswith(f"{name}:")
            ]
            if "no such training setting" in str(error):
                raise
    if problems:
        default = setting(training, name)
        if is_range and isinstance(default, bool | str) and name != "threads":
            raise SearchSpaceError(f"{name}: takes no range of numbers; list its values")
        raise SearchSpaceError("\n".join(problems))
    try:
        distribution = _distribution(domain, setting(training, name))
    except ValueError as error:
        raise SearchSpaceError(f"{name}: {error}") from error
    if isinstance(distribution, FloatDistribution):
        try:  # with whole numbers as bounds, the check above misses the fractions in between
            with_params(training, {name: distribution.low})
        except SearchSpaceError as error:
            raise SearchSpaceError(
                f"{name}: takes whole numbers, but this range has fractions; "
                "write low, high and step as whole numbers"
            ) from error
    return distribution


def _distribution(domain: list[Scalar] | RangeSettings, default: Any) -> BaseDistribution:
    if isinstance(domain, list):
        return _choices(domain)
    low, high, step, log = domain.low, domain.high, domain.step, domain.log
    _check_range(domain)
    whole = all(isinstance(bound, int) for bound in (low, high, step) if bound is not None)
    if step is not None:
        # Optuna would cut high down to the last step in floating point, and warn.
        last = decimal(low) + int((decimal(high) - decimal(low)) / decimal(step)) * decimal(step)
        high = int(last) if whole else float(last)
        if decimal(high) != last:
            raise ValueError(f"low {low} and step {step} have too many digits; round them")
    if whole and isinstance(default, int):
        return IntDistribution(int(low), int(high), log=log, step=int(step or 1))
    return FloatDistribution(float(low), float(high), log=log, step=step and float(step))


def _choices(values: list[Scalar]) -> CategoricalDistribution:
    if not values:
        raise ValueError("no values; list at least one")
    seen: set[tuple[bool, Scalar]] = set()
    for value in values:
        # 1 and 1.0 are the same setting; 1 and true are not.
        key = (isinstance(value, bool), value)
        if key in seen:
            raise ValueError(f"{found_text(value)} is listed twice; remove one")
        seen.add(key)
    return CategoricalDistribution(values)


def _check_range(domain: RangeSettings) -> None:
    low, high, step = domain.low, domain.high, domain.step
    for bound in (low, high):
        if abs(bound) > LARGEST_BOUND:
            raise ValueError(f"expected bounds of at most {LARGEST_BOUND:.0e}, found {bound}")
    if low > high:
        raise ValueError(f"low {low} is above high {high}; swap them")
    if domain.log and step is not None:
        raise ValueError("step and log cannot be combined; remove one")
    if domain.log and low <= 0:
        raise ValueError(
            f"a log range must start above 0, found low {low}; raise low or remove log"
        )
    if step is None:
        return
    span = decimal(high) - decimal(low)
    if not (step > 0 and (low == high or decimal(step) <= span)):
        raise ValueError(
            f"step {step} does not fit between low {low} and high {high}; "
            f"write one above 0 and at most {span}"
        )
    if span > MOST_STEPS * decimal(step):
        raise ValueError(
            f"step {step} makes more than {MOST_STEPS} values between low {low} and high {high}; "
            "write a larger step or remove it"
        )


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
