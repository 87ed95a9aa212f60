"""What a search has verified of its answer before it ended, and what it has not."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from optuna.trial import TrialState

from dashboards.summary import StudySummary, TrialSummary
from dashboards.tables import value_text

NEIGHBOUR, CONTENDER, UNTRAINED = "neighbour", "contender", "untrained"
"""Why a trial verifies: it differs from the best one in one number, is heading as high as the best
one, or is of a network of which no trial had run to its end."""
_NETWORK = "backbone"
_FEW = 3


@dataclass(frozen=True)
class Verified:
    """What was verified of a study's answer.

    Attributes:
        epochs: that were trained for it.
        neighbours: trials that differ from the best one in one number.
        contenders: trials that were heading as high as the best one.
        untrained: trials of networks of which none had run to its end.
        left: networks of which none has.
        beside: number of the best setting → the nearest ones that were tried with all else equal.
        best: the best trial.
    """

    epochs: int
    neighbours: int
    contenders: int
    untrained: int
    left: list[str]
    beside: dict[str, list[float]]
    best: TrialSummary

    def as_json(self) -> dict[str, Any]:
        """Returns what ``canopy status --json`` prints of it."""
        shown = asdict(self)
        del shown["best"]
        return shown

    @property
    def text(self) -> str:
        """What was verified, in words."""
        parts = [
            f"beside {name} {value_text(self.best.params[name])}, "
            f"{_and([value_text(each) for each in values])} "
            f"{'is' if len(values) == 1 else 'are'} no better"
            for name, values in self.beside.items()
            if values
        ]
        if self.left:
            shown = self.left[:_FEW]
            more = len(self.left) - len(shown)
            names = _and([*shown, f"{more} more networks"] if more else shown)
            parts.append(f"{names} {'was' if len(self.left) == 1 else 'were'} not fully trained")
        else:
            parts.append("every network was fully trained")
        epochs = f"{self.epochs} epoch{'' if self.epochs == 1 else 's'}"
        return f"verified with {epochs}: {'; '.join(parts)}"


def verified(summary: StudySummary) -> Verified | None:
    """Returns what was verified of a study's answer; None if nothing was, or there is none."""
    best = summary.best
    checks = [trial for trial in summary.trials if trial.verifies is not None]
    if best is None or not checks:
        return None
    kinds = Counter(trial.verifies for trial in checks)
    trained = {
        trial.params.get(_NETWORK)
        for trial in summary.trials
        if trial.state == TrialState.COMPLETE.name
    }
    known = {
        str(trial.params[_NETWORK]): None for trial in summary.trials if _NETWORK in trial.params
    }
    numbers = [
        name
        for name, value in best.params.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return Verified(
        epochs=sum(trial.epochs_verifying for trial in checks),
        neighbours=kinds[NEIGHBOUR],
        contenders=kinds[CONTENDER],
        untrained=kinds[UNTRAINED],
        left=[name for name in known if name not in trained],
        beside={name: _beside(summary, best, name) for name in numbers},
        best=best,
    )


def _beside(summary: StudySummary, best: TrialSummary, name: str) -> list[float]:
    """Returns the nearest numbers below and above that were tried beyond the first epoch."""
    tried = [
        trial.params[name]
        for trial in summary.trials
        if len(trial.metrics) > 1
        and name in trial.params
        and _others(trial, name) == _others(best, name)
    ]
    at = best.params[name]
    below = max((value for value in tried if value < at), default=None)
    above = min((value for value in tried if value > at), default=None)
    return [value for value in (below, above) if value is not None]


def _others(trial: TrialSummary, name: str) -> dict[str, Any]:
    return {key: value for key, value in trial.params.items() if key != name}


def _and(words: list[str]) -> str:
    """Returns ``a``, ``a and b`` or ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
