"""What verdicts cost, and how often they are right about models whose truth is known.

``python -m benchmarks.verdicts``: the time on validation images like Planet's, then one thousand
simulated studies for each question.
"""

import argparse
import time

import numpy as np

from benchmarks.machine import machine_text, spread_text
from canopy_search.dashboards.stats.bootstrap import RESAMPLES, resample_ap
from canopy_search.dashboards.stats.difference import Difference
from canopy_search.dashboards.stats.verdict import verdicts
from canopy_search.storage.study.predictions import Predictions
from tests.dashboards.simulated_predictions import EQUAL, SimulatedData

PLANET_IMAGES = 6072
PLANET_FREQUENCIES = tuple(np.geomspace(0.93, 0.0025, 17).tolist())
RUNS = 5


def main() -> None:
    """Prints the time, and a row for each question."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1000, help="simulated studies of each kind")
    arguments = parser.parse_args()
    print(machine_text())
    planet = SimulatedData(0, PLANET_IMAGES, PLANET_FREQUENCIES)
    for trials in (1, 2, 6):
        given = [planet.model() for _ in range(trials)]
        seconds = [timed(given) for _ in range(RUNS)]
        print(f"{RESAMPLES} resamples of 6,072 × 17, {trials} trials: {spread_text(seconds)} s")

    print("\n| truth | better, % | worse, % | within noise, % |")
    print("|---|---|---|---|")
    cases = [SimulatedData(case) for case in range(arguments.cases)]
    base = np.array([observed(case.model()) for case in cases])
    equal = np.array([observed(case.model()) for case in cases])
    own, paired = base.std(), (equal - base).std()
    print(f"| standard errors: an AP {own:.4f}, a difference {paired:.4f} | | | |")
    for name, distance in (
        ("equal", 0.0),
        ("three standard errors of an AP apart", 3 * own),
        ("three standard errors of the difference apart", 3 * paired),
    ):
        quality = quality_apart(cases, base.mean() + distance) if distance else EQUAL
        words = [word({0: case.model(), 1: case.model(quality)}, 1, looked_at=2) for case in cases]
        print(row(f"two models, {name}", words))
    corrected, naive = [], []
    for case in cases:
        models = {number: case.model() for number in range(40)}
        observations = {number: observed(model) for number, model in models.items()}
        best = max(observations, key=observations.__getitem__)
        corrected.append(word(models, best, looked_at=40))
        naive.append(word(models, best, looked_at=2))
    print(row("the best of 40 equal ones, against the first", corrected))
    print(row("the same, as if only two had been looked at", naive))


def timed(models: list[Predictions]) -> float:
    """Returns how long the bootstrap takes."""
    started = time.perf_counter()
    resample_ap(models)
    return time.perf_counter() - started


def observed(model: Predictions) -> float:
    """Returns a model's macro AP."""
    return float(resample_ap([model], resamples=1).observed[0])


def quality_apart(cases: list[SimulatedData], ap: float) -> float:
    """Returns the quality of models that have that AP in the mean."""
    low, high = EQUAL, 2 * EQUAL
    while high - low > 0.01:
        middle = (low + high) / 2
        mean = np.mean([observed(case.model(middle)) for case in cases[:200]])
        low, high = (middle, high) if mean < ap else (low, middle)
    return (low + high) / 2


def word(models: dict[int, Predictions], other: int, *, looked_at: int) -> str:
    """Returns the verdict on a model, against model 0."""
    found = verdicts(models, 0, [other], looked_at=looked_at)[other]
    return found.verdict if isinstance(found, Difference) else found.reason


def row(name: str, words: list[str]) -> str:
    """Returns how often each verdict was given."""
    shares = [100 * words.count(each) / len(words) for each in ("better", "worse", "within noise")]
    return f"| {name} | " + " | ".join(f"{share:.1f}" for share in shares) + " |"


if __name__ == "__main__":
    main()
