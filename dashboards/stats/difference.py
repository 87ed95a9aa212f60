"""Results of comparisons, over images or over seeds, and the words for them."""

from dataclasses import dataclass, replace
from typing import Any, Literal

CONFIDENCE = 0.95

Word = Literal["better", "worse", "within noise", "no verdict from fewer than three seeds"]
BETTER: Word = "better"
WORSE: Word = "worse"
WITHIN_NOISE: Word = "within noise"
NO_VERDICT: Word = "no verdict from fewer than three seeds"


@dataclass(frozen=True)
class Difference:
    """How much better one setting or trial is than another one.

    Attributes:
        mean: its score minus the other's.
        low: lower end of the difference's interval.
        high: its upper end.
        confidence: of the interval, or of all simultaneous ones together.
        over: the source of the estimate, in words.
        comparisons: number of comparisons that the interval is adjusted for.
        has_verdict: whether there is enough data for a verdict.
    """

    mean: float
    low: float
    high: float
    confidence: float = CONFIDENCE
    over: str = "images"
    comparisons: int = 1
    has_verdict: bool = True

    @property
    def verdict(self) -> Word:
        """``better`` or ``worse`` if the interval excludes zero, else ``within noise``."""
        if not self.has_verdict:
            return NO_VERDICT
        if self.low > 0:
            return BETTER
        return WORSE if self.high < 0 else WITHIN_NOISE

    @property
    def than(self) -> str:
        """The verdict before the name of the other: ``better than``, ``within noise of``."""
        return f"{self.verdict} {'of' if self.verdict == WITHIN_NOISE else 'than'}"

    def reversed(self) -> "Difference":
        """Returns the same comparison from the other's side."""
        return replace(self, mean=-self.mean, low=-self.high, high=-self.low)

    def as_json(self) -> dict[str, Any]:
        """Returns JSON values by name, including the verdict."""
        names = ("mean", "low", "high", "confidence", "over", "verdict")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Interval:
    """The range of an AP over other images of the same kind and number.

    Attributes:
        low: lower end.
        high: upper end.
    """

    low: float
    high: float


@dataclass(frozen=True)
class NoVerdict:
    """Two trials cannot be compared.

    Attributes:
        reason: why, as a clause without the names of the trials.
    """

    reason: str


@dataclass(frozen=True)
class Spread:
    """One score of a setting over some seeds.

    Attributes:
        seeds: number of seeds.
        mean: of the score.
        sd: standard deviation over the seeds (n − 1); None for one seed.
        low: lower end of the 95 % t interval of the mean; None for fewer than three seeds.
        high: its upper end.
    """

    seeds: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None

    def as_json(self) -> dict[str, Any]:
        """Returns JSON values by name."""
        return vars(self).copy()
