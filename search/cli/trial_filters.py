"""Filters and order of a list of trials."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any, Literal

from optuna.trial import TrialState

from canopy_search.dashboards.formatting.values import value_text
from canopy_search.dashboards.study.model import TrialData
from canopy_search.search.errors import TrialFilterError
from canopy_search.storage.study.trial_attributes import INTERRUPTED, PAUSED

Order = Literal["ap", "time", "number"]

STATES = {
    "complete": TrialState.COMPLETE.name,
    "pruned": TrialState.PRUNED.name,
    "failed": TrialState.FAIL.name,
    "running": TrialState.RUNNING.name,
    "paused": PAUSED,
    "interrupted": INTERRUPTED,
    "waiting": TrialState.WAITING.name,
}
_MOST_VALUES = 12
_CONDITION = re.compile(r"\s*([^<>=]+?)\s*(<=|>=|<|>|=)\s*(.*?)\s*", re.DOTALL)
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": lt,
    ">": gt,
    "<=": le,
    ">=": ge,
}


@dataclass(frozen=True)
class Condition:
    """A condition on a parameter: ``backbone=resnet18``, ``gamma>=0.9``.

    Attributes:
        text: the condition as typed.
        name: name of the parameter.
        operator: ``=``, ``<``, ``>``, ``<=`` or ``>=``.
        operand: right-hand side.
    """

    text: str
    name: str
    operator: str
    operand: str

    def holds(self, trial: TrialData) -> bool:
        """Whether a trial has the parameter and it meets the condition."""
        if self.name not in trial.params:
            return False
        value = trial.params[self.name]
        number = _number(self.operand)
        if number is None or not _is_number(value):
            return self.operator == "=" and self.operand in {str(value), value_text(value)}
        if self.operator == "=":  # a table shows six digits
            return bool(value == number) or value_text(float(value)) == value_text(number)
        return _OPERATORS[self.operator](value, number)


def parse_condition(text: str) -> Condition:
    """Reads a condition.

    Raises:
        TrialFilterError: the text is not a condition.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise TrialFilterError(
            f"--where {text}: expected a parameter and its value, as in backbone=resnet18 or "
            "'gamma>=0.9' (quoted, because the shell interprets < and >)"
        )
    return Condition(text, *found.groups())


@dataclass(frozen=True)
class TrialFilter:
    """Which trials are listed.

    Attributes:
        states: keys of `STATES`, any of which matches; empty for all.
        conditions: conditions that all have to hold.
        last: keep this many trials with the highest numbers; None for all.
        top: keep this many trials with the best AP; None for all.
        order: best AP, longest time or lowest number first; None is ``ap`` with `top`, else
            ``number``.
    """

    states: Sequence[str] = ()
    conditions: Sequence[Condition] = ()
    last: int | None = None
    top: int | None = None
    order: Order | None = None

    def choose(
        self, trials: Sequence[TrialData], worth: Callable[[float | None], float]
    ) -> list[TrialData]:
        """Returns the matching trials in the chosen order.

        Args:
            trials: the study's trials, in the order of their numbers.
            worth: the study's `StudyData.worth` of a score.

        Raises:
            TrialFilterError: there is no such state or parameter, or no trial has such a value.
        """
        states = {STATES[_known_state(state)] for state in self.states}
        for condition in self.conditions:
            _check(condition, trials)
        chosen = [
            trial
            for trial in trials
            if (not states or trial.state in states)
            and all(condition.holds(trial) for condition in self.conditions)
        ]
        if self.last is not None:
            chosen = chosen[-self.last :]

        def best_first(trial: TrialData) -> float:
            return -worth(trial.score)

        if self.top is not None:
            scored = [trial for trial in chosen if trial.score is not None]
            best = sorted(scored, key=best_first)[: self.top]
            chosen = sorted(best, key=lambda trial: trial.number)
        order = self.order or ("number" if self.top is None else "ap")
        if order == "ap":
            return sorted(chosen, key=best_first)
        if order == "time":
            return sorted(chosen, key=lambda trial: -trial.seconds)
        return chosen


def _known_state(state: str) -> str:
    key = state.lower()
    key = "failed" if key == "fail" else key
    if key not in STATES:
        raise TrialFilterError(f"--state {state}: expected one of {', '.join(STATES)}")
    return key


def _check(condition: Condition, trials: Sequence[TrialData]) -> None:
    """Raises TrialFilterError if a condition names no parameter or value of the trials."""
    if not trials:
        return
    values = [trial.params[condition.name] for trial in trials if condition.name in trial.params]
    where = f"--where {condition.text}:"
    if not values:
        names = dict.fromkeys(name for trial in trials for name in trial.params)
        known = f"choose from {', '.join(names)}" if names else "the trials have none"
        raise TrialFilterError(f"{where} no trial has a parameter {condition.name!r}; {known}")
    texts = sorted({value_text(value) for value in values})
    shown = ", ".join(texts[:_MOST_VALUES]) + (" …" if len(texts) > _MOST_VALUES else "")
    if all(map(_is_number, values)):
        if _number(condition.operand) is None:
            raise TrialFilterError(f"{where} {condition.name} is a number: {shown}")
    elif condition.operator != "=":
        raise TrialFilterError(
            f"{where} {condition.name} is not a number; write = and one of {shown}"
        )
    elif not any(condition.holds(trial) for trial in trials):
        raise TrialFilterError(f"{where} no trial has this value; the values are {shown}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
