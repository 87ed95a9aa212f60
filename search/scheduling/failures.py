"""What failures and deaths mean: whether a trial, a place or the whole study is at fault.

A place is a machine and a device there; see `storage.workers.deaths`.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from canopy_search.search.config.space import SearchSpace
from canopy_search.storage.study.trial_attributes import (
    FAILED_AT_ATTR,
    LETHAL,
    OUT_OF_MEMORY,
    REASON_ATTR,
)

SUSPICIOUS_DEATHS = 2
"""After this many deaths at one place, workers of other places try the trial first."""


@dataclass(frozen=True)
class Deaths:
    """Deaths of workers on one trial since its last progress.

    Attributes:
        count: how many.
        at: place → how many of them there, as far as is known.
        places: where workers of the study live.
    """

    count: int
    at: Counter[str]
    places: Collection[str]

    def is_lethal(self, most: int) -> bool:
        """Whether the trial is at fault, and not one place where every worker dies.

        Args:
            most: deaths of which a trial fails.
        """
        by_origin = _by_origin(self.at, self.places)
        elsewhere = self.count - max(by_origin.values(), default=0)
        return self.count >= most and (
            elsewhere >= SUSPICIOUS_DEATHS or not self._untried(by_origin)
        )

    def is_left_to_others(self, place: str) -> bool:
        """Whether workers of other places should try the trial before one of this place does."""
        by_origin = _by_origin(self.at, self.places)
        here = by_origin[_origin(place, self.places)]
        return here >= SUSPICIOUS_DEATHS and bool(self._untried(by_origin))

    def _untried(self, by_origin: Counter[str]) -> set[str]:
        origins = {_origin(place, self.places) for place in self.places}
        return {origin for origin in origins if by_origin[origin] < SUSPICIOUS_DEATHS}


@dataclass(frozen=True)
class Failures:
    """Failed trials of a study since its last launch.

    Attributes:
        in_a_row: place → settings that failed there since the last trial that did not fail.
        in_total: how many trials failed altogether.
        places: where workers of the study live.
    """

    in_a_row: dict[str, list[Any]]
    in_total: int
    places: Collection[str]

    @classmethod
    def of(
        cls,
        outcomes: Sequence[tuple[int, TrialState]],
        trials: Sequence[FrozenTrial],
        places: Collection[str],
    ) -> "Failures":
        """Returns the failures among the outcomes of trials.

        A setting that fails again counts once in a row if another trial did not fail.

        Args:
            outcomes: numbers and final states, the latest first.
            trials: all of the study.
            places: where workers of the study live.
        """
        states = [state for _, state in outcomes]
        counts_once = any(state != TrialState.FAIL for state in states)
        in_a_row: dict[str, list[Any]] = {}
        for number, state in outcomes:
            if state != TrialState.FAIL:
                break
            setting = trials[number].params
            place = _origin(str(trials[number].user_attrs.get(FAILED_AT_ATTR, "")), places)
            known = [each for settings in in_a_row.values() for each in settings]
            if not (counts_once and setting in known):
                in_a_row.setdefault(place, []).append(setting)
        return cls(in_a_row, states.count(TrialState.FAIL), places)

    def is_sick(self, place: str, limit: int) -> bool:
        """Whether so many trials failed in a row at a place while another place is healthy.

        Args:
            place: of a worker.
            limit: failed trials in a row that end the search.
        """
        origins = {_origin(each, self.places) for each in self.places}
        sick = {each for each, settings in self.in_a_row.items() if len(settings) >= limit}
        return _origin(place, self.places) in sick and bool(origins - sick)

    def limit_reached(self, in_a_row: int, in_total: int) -> str | None:
        """Returns a sentence about the limit of failed trials that is reached, if one is.

        A place that reaches the limit alone does not end the search while others are healthy.

        Args:
            in_a_row: failed trials in a row that end the search.
            in_total: failed trials altogether that end the search.
        """
        counts = {
            place: len(settings)
            for place, settings in self.in_a_row.items()
            if not self.is_sick(place, in_a_row)
        }
        if (consecutive := sum(counts.values())) >= in_a_row:
            return f"{consecutive} trials failed in a row"
        return f"{self.in_total} trials failed" if self.in_total >= in_total else None


def settings_not_repeated(
    failed: Sequence[FrozenTrial], space: SearchSpace
) -> list[dict[str, Any]]:
    """Returns the settings that ran out of memory in the smallest micro-batches, or are lethal.

    Args:
        failed: trials of the study that failed.
        space: the search space.
    """
    return [
        space.canonical(trial.params)
        for trial in failed
        if str(trial.user_attrs.get(REASON_ATTR, "")).startswith((OUT_OF_MEMORY, LETHAL))
    ]


def _by_origin(at: Counter[str], places: Collection[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for place, count in at.items():
        counts[_origin(place, places)] += count
    return counts


def _origin(place: str, places: Collection[str]) -> str:
    """Returns the machine of a place if workers live on several, else the place."""
    hosts = {each.partition(" ")[0] for each in places}
    return place.partition(" ")[0] if len(hosts) > 1 else place
