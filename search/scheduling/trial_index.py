"""Counts and ranks of all trials of a study, updated instead of computed again."""

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from math import isnan
from operator import is_not

from optuna.trial import FrozenTrial, TrialState

from canopy_search.storage.study.trial_attributes import paused_at

RankKey = tuple[float, int]
"""Of a trial at an epoch: its negated AP, and its number. The best trial sorts first."""


@dataclass(frozen=True)
class _Entry:
    """A trial as it was when it was counted; Optuna still writes to a trial that it has replaced.

    Attributes:
        state: of the trial.
        rank_keys: epoch → its rank key there.
        rung: the rung at which it is paused, if it is and has reported that epoch.
    """

    state: TrialState
    rank_keys: dict[int, RankKey]
    rung: int | None


class TrialIndex:
    """Counts and ranks the trials of one study.

    Optuna's storages replace a trial when they change it, so the cost of an update depends only on
    the number of trials replaced since the last one.

    Attributes:
        states: how many trials are in each state.
        active: the running trials that are not paused, by number.
        failed: the numbers of the trials that failed.
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.states: Counter[TrialState] = Counter()
        self.active: dict[int, FrozenTrial] = {}
        self.failed: set[int] = set()
        self._trials: list[FrozenTrial] = []
        self._entries: list[_Entry] = []
        self._reached: defaultdict[int, list[RankKey]] = defaultdict(list)
        self._paused: defaultdict[int, list[RankKey]] = defaultdict(list)

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Applies the changes since the last update.

        Args:
            trials: all of the study, in the order of their numbers.
        """
        if len(trials) < len(self._trials):
            self._clear()
        for number in changed(self._trials, trials):
            self._remove(number)
            self._trials[number] = trials[number]
            self._entries[number] = self._add(number, trials[number])
        for number in range(len(self._trials), len(trials)):
            self._trials.append(trials[number])
            self._entries.append(self._add(number, trials[number]))

    @property
    def trials(self) -> Sequence[FrozenTrial]:
        """All trials, as of the last update."""
        return self._trials

    @property
    def finished(self) -> int:
        """How many trials count: complete and pruned ones."""
        return self.states[TrialState.COMPLETE] + self.states[TrialState.PRUNED]

    @property
    def settled(self) -> int:
        """How many trials are finished or paused."""
        return self.finished + self.states[TrialState.RUNNING] - len(self.active)

    def best_at(self, epoch: int, except_number: int) -> float | None:
        """Returns the best AP at an epoch among all trials except one."""
        rank_keys = self._reached.get(epoch, [])
        return next((-key for key, number in rank_keys if number != except_number), None)

    def best_paused(self, rung: int) -> int | None:
        """Returns the number of the best trial paused at a rung."""
        paused = self._paused.get(rung)
        return paused[0][1] if paused else None

    def rank(self, number: int, epoch: int) -> tuple[int, int]:
        """Returns how many trials were better than one at an epoch, and how many reached it.

        Failed trials do not count. Of equal trials the earlier one is better.
        """
        reached, key = self._reached[epoch], self._entries[number].rank_keys[epoch]
        failed = [self._entries[other].rank_keys.get(epoch) for other in self.failed]
        excluded = [other for other in failed if other is not None]
        better = bisect_left(reached, key) - sum(other < key for other in excluded)
        return better, len(reached) - len(excluded)

    def _add(self, number: int, trial: FrozenTrial) -> _Entry:
        values = trial.intermediate_values.items()
        rank_keys = {epoch: (-val_ap, number) for epoch, val_ap in values if not isnan(val_ap)}
        rung = paused_at(trial)
        if trial.state == TrialState.RUNNING and rung is None:
            self.active[number] = trial
        if trial.state == TrialState.FAIL:
            self.failed.add(number)
        self.states[trial.state] += 1
        for epoch, key in rank_keys.items():
            insort(self._reached[epoch], key)
        if rung in rank_keys:
            insort(self._paused[rung], rank_keys[rung])
        return _Entry(trial.state, rank_keys, rung if rung in rank_keys else None)

    def _remove(self, number: int) -> None:
        entry = self._entries[number]
        self.states[entry.state] -= 1
        self.active.pop(number, None)
        self.failed.discard(number)
        for epoch, key in entry.rank_keys.items():
            _remove_key(self._reached[epoch], key)
        if entry.rung is not None:
            _remove_key(self._paused[entry.rung], entry.rank_keys[entry.rung])


def changed(before: Sequence[FrozenTrial], trials: Sequence[FrozenTrial]) -> list[int]:
    """Returns the indices at which the trial was replaced; a fast scan, as studies can be long.

    Args:
        before: earlier trials.
        trials: the current ones, as many or more.
    """
    return list(compress(range(len(before)), map(is_not, before, trials)))


def _remove_key(keys: list[RankKey], key: RankKey) -> None:
    del keys[bisect_left(keys, key)]
