"""The last word is checked: what a search spends before it ends on what would be regretted most."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from canopy_search.search.scheduling.heading import Outlook
from canopy_search.search.scheduling.neighbours import nearest, numbers, wanted_beside
from canopy_search.search.scheduling.open_study import best_complete, network, runs_to_end, stage_at
from canopy_search.search.scheduling.pausing import NewTrial, PausingPruner, Promotion
from canopy_search.storage.study.trial_attributes import (
    CONTENDER,
    NEIGHBOUR,
    RUNG_ATTR,
    UNTRAINED,
    VERIFIES_ATTR,
    is_paused,
    paused_at,
)

# How far final APs lie apart: of networks, and of settings that differ in one number alone.
_NETWORK_SPREAD, _NEIGHBOUR_SPREAD = 0.06, 0.01
# One in so many of the trials that the share would be is kept for neighbours that are new.
_FEW_ARE_NEW = 4
_TOO_FEW = 8


@dataclass(frozen=True)
class Check:
    """What is to be verified next.

    Attributes:
        move: the trial that resumes or begins.
        kind: why; see `dashboards.answer.verified`.
        from_epoch: what it has come to already.
    """

    move: Promotion | NewTrial
    kind: str
    from_epoch: int


@dataclass(frozen=True)
class Verification:
    """Spends a share of the epochs trained so far, and at least a full run, on the best answer.

    Worth verifying is what may be better than the best complete trial: where a paused trial is
    heading and how far it may go beyond, more for a network of which nothing is known at the end;
    and in each number of the space, the one in the larger gap beside the best trial's.

    Attributes:
        share: of the epochs trained so far.
        epochs: of a full run.
        pruner: of the study, where trials pause under it.
    """

    share: float
    epochs: int
    pruner: PausingPruner | None

    def reserve(self, n_trials: int) -> int:
        """Returns how many of a study's trials are kept for neighbours that have to begin.

        Args:
            n_trials: total of finished trials of the study.
        """
        if n_trials < _TOO_FEW:
            return 0
        return max(1, round(self.share * n_trials / _FEW_ARE_NEW))

    def check(self, trials: Iterable[FrozenTrial], *, begins: bool) -> Check | None:
        """Returns what is verified next; None if nothing is worth it, or all is spent.

        Args:
            trials: of the study.
            begins: whether a trial may begin.
        """
        begun = [t for t in trials if t.state not in {TrialState.FAIL, TrialState.WAITING}]
        best = best_complete(begun)
        if best is None:
            return None
        found = [*self._paused(begun), *self._neighbours(best, begun, begins=begins)]
        spent = sum(map(self._spent, begun))
        left = max(self.epochs, self.share * (_trained(begun) - spent)) - spent
        affordable = [
            (worth, check)
            for worth, check in found
            if worth >= (best.value or 0.0) and check.move.to_epoch - check.from_epoch <= left
        ]
        return max(affordable, key=lambda each: each[0], default=(0.0, None))[1]

    def _paused(self, trials: Sequence[FrozenTrial]) -> Iterable[tuple[float, Check]]:
        """Yields the trials that may resume, with the AP that they may have."""
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
            worth = outlook(trial) + spread * (1 - epoch / self.epochs)
            move = Promotion(trial.number, self.pruner.next_rung(epoch))
            yield worth, Check(move, UNTRAINED if is_new else CONTENDER, epoch)

    def _neighbours(
        self, best: FrozenTrial, trials: Sequence[FrozenTrial], *, begins: bool
    ) -> Iterable[tuple[float, Check]]:
        """Yields the settings beside the best one, with the AP that they may have."""
        to_epoch = self.pruner.next_rung(1) if self.pruner else self.epochs
        fresh = [trial for trial in trials if paused_at(trial) == 1]
        new = {trial.number for trial in fresh}
        known = [trial for trial in trials if trial.number not in new]
        for name in numbers(best):
            wanted = wanted_beside(best, known, name)
            if wanted is None:
                continue
            worth = (best.value or 0.0) + _NEIGHBOUR_SPREAD
            if sibling := nearest(fresh, best, name, wanted):
                yield worth, Check(Promotion(sibling.number, to_epoch), NEIGHBOUR, 1)
            elif begins:
                yield (
                    worth,
                    Check(NewTrial({**best.params, name: wanted}, to_epoch), NEIGHBOUR, 0),
                )

    def _spent(self, trial: FrozenTrial) -> int:
        """Returns how many epochs of a trial verify, those to come included."""
        if VERIFIES_ATTR not in trial.user_attrs:
            return 0
        end = max(trial.intermediate_values, default=0)
        if trial.state == TrialState.RUNNING and not is_paused(trial):
            end = int(trial.user_attrs.get(RUNG_ATTR, {}).get("to_epoch", self.epochs))
        return end - int(trial.user_attrs[VERIFIES_ATTR]["from_epoch"])


def verifying(share: float, epochs: int, pruner: BasePruner) -> Verification | None:
    """Returns what verifies the answer of a study; None where nothing is to.

    Args:
        share: of the epochs trained so far; 0 for none.
        epochs: of a full run.
        pruner: of the study.
    """
    if share == 0:
        return None
    return Verification(share, epochs, pruner if isinstance(pruner, PausingPruner) else None)


def verifies_mark(check: Check) -> dict[str, object]:
    """Returns what a trial's user attribute says of why it verifies."""
    return {"kind": check.kind, "from_epoch": check.from_epoch}


def _trained(trials: Iterable[FrozenTrial]) -> int:
    """Returns how many epochs were trained, those that trials share once."""
    return len(
        {(epoch, stage_at(trial, epoch)) for trial in trials for epoch in trial.intermediate_values}
    )
