"""What is asked of all trials of a study again and again, kept from one look to the next."""

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from math import isnan
from operator import is_not

from optuna.trial import FrozenTrial, TrialState

from canopy_search.storage.study.trial_attributes import paused_at

Place = tuple[float, int]
"""Of a trial at an epoch: its AP with the sign changed, and its number. The best one is first."""


@dataclass(frozen=True)
class _Entry:
    """What a trial was when it was counted; Optuna goes on writing to a trial that it has replaced.

    Attributes:
        state: of the trial.
        places: epoch → its place there.
        rung: the rung that it pauses at, if it does and has reported that epoch.
    """

    state: TrialState
    places: dict[int, Place]
    rung: int | None


class TrialIndex:
    """Counts and ranks the trials of one study.

    Whoever changes a trial puts another one in its place, as Optuna's storages do, so a look costs
    as much as has changed since the last one.

    Attributes:
        states: how many trials are in each state.
        active: the running trials that do not pause, by their numbers.
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
        self._reached: defaultdict[int, list[Place]] = defaultdict(list)
        self._paused: defaultdict[int, list[Place]] = defaultdict(list)

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Takes notice of what has changed.

        Args:
            trials: all of the study, in the order of their numbers.
        """
        if len(trials) < len(self._trials):
            self._clear()
        for number in changed(self._trials, trials):
            self._leave(number)
            self._trials[number] = trials[number]
            self._entries[number] = self._enter(number, trials[number])
        for number in range(len(self._trials), len(trials)):
            self._trials.append(trials[number])
            self._entries.append(self._enter(number, trials[number]))

    @property
    def trials(self) -> Sequence[FrozenTrial]:
        """All trials, as they were when they were counted last."""
        return self._trials

    @property
    def finished(self) -> int:
        """How many trials count: complete and pruned ones."""
        return self.states[TrialState.COMPLETE] + self.states[TrialState.PRUNED]

    @property
    def settled(self) -> int:
        """How many trials are finished, or paused and perhaps done for good."""
        return self.finished + self.states[TrialState.RUNNING] - len(self.active)

    def best_at(self, epoch: int, besides: int) -> float | None:
        """Returns the best AP at an epoch of any trial but one."""
        places = self._reached.get(epoch, [])
        return next((-place for place, number in places if number != besides), None)

    def best_paused(self, rung: int) -> int | None:
        """Returns the number of the best trial that pauses at a rung."""
        paused = self._paused.get(rung)
        return paused[0][1] if paused else None

    def rank(self, number: int, epoch: int) -> tuple[int, int]:
        """Returns how many trials were better than one at an epoch, and how many came to it.

        Trials that failed do not count. Of equals the earlier one is better.
        """
        reached, place = self._reached[epoch], self._entries[number].places[epoch]
        failed = [self._entries[at].places.get(epoch) for at in self.failed]
        out = [other for other in failed if other is not None]
        better = bisect_left(reached, place) - sum(other < place for other in out)
        return better, len(reached) - len(out)

    def _enter(self, number: int, trial: FrozenTrial) -> _Entry:
        values = trial.intermediate_values.items()
        places = {epoch: (-val_ap, number) for epoch, val_ap in values if not isnan(val_ap)}
        rung = paused_at(trial)
        if trial.state == TrialState.RUNNING and rung is None:
            self.active[number] = trial
        if trial.state == TrialState.FAIL:
            self.failed.add(number)
        self.states[trial.state] += 1
        for epoch, place in places.items():
            insort(self._reached[epoch], place)
        if rung in places:
            insort(self._paused[rung], places[rung])
        return _Entry(trial.state, places, rung if rung in places else None)

    def _leave(self, number: int) -> None:
        entry = self._entries[number]
        self.states[entry.state] -= 1
        self.active.pop(number, None)
        self.failed.discard(number)
        for epoch, place in entry.places.items():
            _remove(self._reached[epoch], place)
        if entry.rung is not None:
            _remove(self._paused[entry.rung], entry.places[entry.rung])


def changed(before: Sequence[FrozenTrial], trials: Sequence[FrozenTrial]) -> list[int]:
    """Returns the places in which another trial is now; a study is long, and few of it change.

    Args:
        before: the trials at some time.
        trials: as many or more of them, now.
    """
    return list(compress(range(len(before)), map(is_not, before, trials)))


def _remove(places: list[Place], place: Place) -> None:
    del places[bisect_left(places, place)]
