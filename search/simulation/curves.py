"""Learning curves of every point of a search space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.distributions import BaseDistribution

from canopy_search.search.errors import CurveTableError


@dataclass(frozen=True)
class CurvePoint:
    """One epoch of one point.

    Attributes:
        stage: its stage key; points that share an epoch have the same key there.
        val_ap: validation AP after it; None where the run diverged.
        seconds: training and validation time.
    """

    stage: str
    val_ap: float | None
    seconds: float


class Curves(Protocol):
    """Learning curves of a whole space, from any source."""

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The space, by dotted name of the setting."""

    @property
    def epochs(self) -> int:
        """Epochs of a full run."""

    def curve(self, params: Mapping[str, Any]) -> Sequence[CurvePoint]:
        """Returns the learning curve of a setting, one point an epoch."""


class FiniteCurves(Curves, Protocol):
    """Learning curves of a space whose best full run is known."""

    @property
    def best_ap(self) -> float:
        """The best AP of a full run."""


@dataclass(frozen=True)
class CurveTable:
    """Recorded learning curves of a whole space.

    Attributes:
        distributions: the space, by dotted name of the setting.
        epochs: of a full run.
        curves: values of the parameters in the order of `distributions` → one entry an epoch.
        about: metadata of the file.
    """

    distributions: dict[str, BaseDistribution]
    epochs: int
    curves: dict[tuple[Any, ...], list[CurvePoint]]
    about: dict[str, Any]

    @property
    def best_ap(self) -> float:
        """The best AP of a full run.

        Raises:
            CurveTableError: every point diverges.
        """
        full = [
            curve[-1].val_ap
            for curve in self.curves.values()
            if len(curve) == self.epochs and curve[-1].val_ap is not None
        ]
        if not full:
            raise CurveTableError("every point of the table diverges, so there is nothing to find")
        return max(full)

    def curve(self, params: Mapping[str, Any]) -> list[CurvePoint]:
        """Returns the learning curve of a setting.

        Raises:
            CurveTableError: it is not in the table.
        """
        point = tuple(params[name] for name in self.distributions)
        try:
            return self.curves[point]
        except KeyError:
            raise CurveTableError(f"the table has no point {dict(params)}") from None
