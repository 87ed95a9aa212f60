"""What a search verified about its answer before it ended, and what it did not."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState

from canopy_search.dashboards.formatting.values import counted, listed_text, value_text
from canopy_search.dashboards.study.model import StudyData, TrialData
from canopy_search.dashboards.study.settings import differing
from canopy_search.storage.study.parameters import NETWORK
from canopy_search.storage.study.trial_attributes import CONTENDER, NEIGHBOUR, UNTRAINED

_FEW = 3


@dataclass(frozen=True)
class Verified:
    """What was verified about a study's answer.

    Attributes:
        epochs: number of epochs trained for it.
        neighbours: trials that differ from the best one in one number.
        contenders: trials that seemed able to reach the best one's AP.
        untrained: trials of networks that had no fully trained trial before.
        left: networks that still have no fully trained trial.
        beside: numeric parameter → the nearest values that were tried with all else equal.
        stopped: the parameters in `beside` for which one of these trials was not fully trained.
        best: the best trial.
    """

    epochs: int
    neighbours: int
    contenders: int
    untrained: int
    left: list[str]
    beside: dict[str, list[float]]
    stopped: list[str]
    best: TrialData

    def as_json(self) -> dict[str, Any]:
        """Returns what ``canopy status --json`` prints for it."""
        return {name: value for name, value in vars(self).items() if name != "best"}

    @property
    def text(self) -> str:
        """What was verified, in words; empty if there is nothing to report."""
        parts = [
            f"compared with {name} {value_text(self.best.params[name])}, "
            f"{listed_text([value_text(value) for value in values])} "
            + (
                "did not look better before the end"
                if name in self.stopped
                else f"{'is' if len(values) == 1 else 'are'} no better"
            )
            for name, values in self.beside.items()
            if values
        ]
        if self.left:
            shown = self.left[:_FEW]
            more = len(self.left) - len(shown)
            names = listed_text([*shown, counted(more, "more network")] if more else shown)
            parts.append(f"{names} {'was' if len(self.left) == 1 else 'were'} not fully trained")
        if not self.epochs:
            return "; ".join(parts)
        epochs = counted(self.epochs, "epoch")
        return f"verified with {epochs}: {'; '.join(parts)}" if parts else f"verified with {epochs}"


def verified(summary: StudyData) -> Verified | None:
    """Returns what was verified about a study's answer; None while there is no answer."""
    best = summary.best
    if best is None:
        return None
    checks = [trial for trial in summary.trials if trial.verifies is not None]
    kinds = Counter(trial.verifies for trial in checks)
    trained = {
        trial.params.get(NETWORK)
        for trial in summary.trials
        if trial.state == TrialState.COMPLETE.name
    }
    known = {
        str(trial.params[NETWORK]): None for trial in summary.trials if NETWORK in trial.params
    }
    numbers = [
        name
        for name, value in best.params.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    nearest = {name: _nearest(summary, best, name) for name in numbers}
    return Verified(
        epochs=sum(trial.epochs_verifying for trial in checks),
        neighbours=kinds[NEIGHBOUR],
        contenders=kinds[CONTENDER],
        untrained=kinds[UNTRAINED],
        left=[name for name in known if name not in trained],
        beside={name: [trial.params[name] for trial in trials] for name, trials in nearest.items()},
        stopped=[
            name
            for name, trials in nearest.items()
            if any(trial.state != TrialState.COMPLETE.name for trial in trials)
        ],
        best=best,
    )


def _nearest(summary: StudyData, best: TrialData, name: str) -> list[TrialData]:
    """Returns the trials with the nearest values below and above, all else equal.

    Only trials with more than one epoch count; of several with one value, the longest trained.
    """
    tried = [
        trial
        for trial in summary.trials
        if len(trial.metrics) > 1
        and name in trial.params
        and differing([trial.params, best.params]).keys() <= {name}
    ]
    best_value = best.params[name]
    below = max(
        (trial for trial in tried if trial.params[name] < best_value),
        key=lambda trial: (trial.params[name], len(trial.metrics)),
        default=None,
    )
    above = min(
        (trial for trial in tried if trial.params[name] > best_value),
        key=lambda trial: (trial.params[name], -len(trial.metrics)),
        default=None,
    )
    return [trial for trial in (below, above) if trial is not None]
