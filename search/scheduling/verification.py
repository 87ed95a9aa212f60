"""Verifies the best trial: trains the likeliest better settings before the search ends."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from canopy_search.search.scheduling.neighbours import most_informative_number, nearest, numbers
from canopy_search.search.scheduling.open_study import best_complete, network, runs_to_end, stage_at
from canopy_search.search.scheduling.pausing_pruner import NewTrial, PausingPruner, Promotion
from canopy_search.search.scheduling.projection import Outlook
from canopy_search.storage.study.trial_attributes import (
    CONTENDER,
    NEIGHBOUR,
    RUNG_ATTR,
    UNTRAINED,
    VERIFIES_ATTR,
    is_paused,
    paused_at,
)

# Differences between final APs: of networks, and of settings that differ in one number alone.
_NETWORK_SPREAD, _NEIGHBOUR_SPREAD = 0.06, 0.01
# One in this many of verification's share of the trials is reserved for new neighbours.
_TRIALS_PER_RESERVED = 4
# With fewer trials than this, none is reserved.
_MIN_TRIALS = 8


@dataclass(frozen=True)
class Check:
    """What to verify next.

    Attributes:
        move: the trial that resumes or starts.
        kind: why; see `dashboards.answer.verified`.
        from_epoch: the epoch that it has already reached.
    """

    move: Promotion | NewTrial
    kind: str
    from_epoch: int


@dataclass(frozen=True)
class Verification:
    """Spends a share of the epochs trained so far, and at least a full run, on verification.

    It verifies trials that may be better than the best complete one: paused trials, by the AP that
    they are heading for plus a margin, which is larger for a network without a complete trial; and
    for each number of the space, the setting in the larger gap next to the best trial's.

    Attributes:
        share: of the epochs trained so far.
        epochs: of a full run.
        pruner: of the study, if its trials pause.
    """

    share: float
    epochs: int
    pruner: PausingPruner | None

    def reserve(self, n_trials: int) -> int:
        """Returns how many of a study's trials are reserved for new neighbours.

        Args:
            n_trials: total of finished trials of the study.
        """
        if n_trials < _MIN_TRIALS:
            return 0
        return max(1, round(self.share * n_trials / _TRIALS_PER_RESERVED))

    def check(self, trials: Iterable[FrozenTrial], *, begins: bool) -> Check | None:
        """Returns what to verify next; None if nothing qualifies, or the epochs are spent.

        Args:
            trials: of the study.
            begins: whether a new trial may start.
        """
        started = [t for t in trials if t.state not in {TrialState.FAIL, TrialState.WAITING}]
        best = best_complete(started)
        if best is None:
            return None
        found = [*self._paused(started), *self._neighbours(best, started, begins=begins)]
        spent = sum(map(self._spent, started))
        left = max(self.epochs, self.share * (_trained(started) - spent)) - spent
        affordable = [
            (possible_ap, check)
            for possible_ap, check in found
            if possible_ap >= (best.value or 0.0) and check.move.to_epoch - check.from_epoch <= left
        ]
        return max(affordable, key=lambda pair: pair[0], default=(0.0, None))[1]

    def _paused(self, trials: Sequence[FrozenTrial]) -> Iterable[tuple[float, Check]]:
        """Yields the trials that may resume, with the AP that they may reach."""
        if self.pruner is None:
            return
        trained = {
            network(trial)
            for trial in trials
            if trial.state == TrialState.COMPLETE
            or (trial.state == TrialState.RUNNING and not is_paused(trial))
        }
        outlook = Outlook(trials, self.epochs)
        for trial in trials:
            epoch = paused_at(trial)
            if epoch not in trial.intermediate_values or runs_to_end(trial):
                continue
            is_new = network(trial) not in trained
            if epoch == 1 and not is_new:
                continue
            spread = _NETWORK_SPREAD if is_new else _NEIGHBOUR_SPREAD
            possible_ap = outlook(trial) + spread * (1 - epoch / self.epochs)
            move = Promotion(trial.number, self.pruner.next_rung(epoch))
            yield possible_ap, Check(move, UNTRAINED if is_new else CONTENDER, epoch)

    def _neighbours(
        self, best: FrozenTrial, trials: Sequence[FrozenTrial], *, begins: bool
    ) -> Iterable[tuple[float, Check]]:
        """Yields the settings next to the best one, with the AP that they may reach."""
        to_epoch = self.pruner.next_rung(1) if self.pruner else self.epochs
        fresh = [trial for trial in trials if paused_at(trial) == 1]
        new = {trial.number for trial in fresh}
        known = [trial for trial in trials if trial.number not in new]
        for name in numbers(best):
            wanted = most_informative_number(best, known, name)
            if wanted is None:
                continue
            possible_ap = (best.value or 0.0) + _NEIGHBOUR_SPREAD
            if sibling := nearest(fresh, best, name, wanted):
                yield possible_ap, Check(Promotion(sibling.number, to_epoch), NEIGHBOUR, 1)
            elif begins:
                yield (
                    possible_ap,
                    Check(NewTrial({**best.params, name: wanted}, to_epoch), NEIGHBOUR, 0),
                )

    def _spent(self, trial: FrozenTrial) -> int:
        """Returns how many epochs of a trial count as verification, planned ones included."""
        if VERIFIES_ATTR not in trial.user_attrs:
            return 0
        end = max(trial.intermediate_values, default=0)
        if trial.state == TrialState.RUNNING and not is_paused(trial):
            end = int(trial.user_attrs.get(RUNG_ATTR, {}).get("to_epoch", self.epochs))
        return end - int(trial.user_attrs[VERIFIES_ATTR]["from_epoch"])


def verifying(share: float, epochs: int, pruner: BasePruner) -> Verification | None:
    """Returns the verification of a study; None if it has none.

    Args:
        share: of the epochs trained so far; 0 for none.
        epochs: of a full run.
        pruner: of the study.
    """
    if share == 0:
        return None
    return Verification(share, epochs, pruner if isinstance(pruner, PausingPruner) else None)


def verifies_mark(check: Check) -> dict[str, object]:
    """Returns the user attribute of a trial that verifies the answer."""
    return {"kind": check.kind, "from_epoch": check.from_epoch}


def _trained(trials: Iterable[FrozenTrial]) -> int:
    """Returns how many epochs were trained, counting shared ones once."""
    return len(
        {(epoch, stage_at(trial, epoch)) for trial in trials for epoch in trial.intermediate_values}
    )
