"""What all peers search, and how each is called: the same space, epochs, trials and seeds."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.peers.rates import Rates
from canopy_search.search.config.space import SearchSpace
from canopy_search.search.simulation.curve_files import read_curves
from canopy_search.search.simulation.curves import CurvePoint, FiniteCurves
from canopy_search.search.simulation.landscapes import FAMILIES, Landscape
from canopy_search.training.settings import TrainingSettings

FOLDER = Path(__file__).parents[1]
SHAPES = FOLDER / "shapes.yaml"
EMOJI = FOLDER / "emoji.yaml"
TRIALS = 40
RATES = "rates"


def curves_of(name: str, seed: int) -> FiniteCurves:
    """Returns the learning curves that a search looks up.

    Args:
        name: `RATES` or a family, which draw others for each seed, or a table's file.
        seed: of the search.
    """
    if name == RATES:
        return Rates(seed)
    return Landscape(FAMILIES[name], seed) if name in FAMILIES else _table(Path(name))


@cache
def _table(path: Path) -> FiniteCurves:
    return read_curves(path)


@dataclass(frozen=True)
class Lookup:
    """Epochs that are looked up, for peers whose numbers differ in the last bits.

    Attributes:
        curves: of the whole space.
    """

    curves: FiniteCurves

    @property
    def space(self) -> SearchSpace:
        """The space, with the epochs of a full run."""
        return SearchSpace(TrainingSettings(epochs=self.curves.epochs), self.curves.distributions)

    def curve(self, params: dict[str, Any]) -> Sequence[CurvePoint]:
        """Returns the learning curve of a setting, an entry for each epoch."""
        return self.curves.curve(self.space.canonical(params))


@dataclass(frozen=True)
class RealSearch:
    """One search that trains.

    Attributes:
        config: Canopy's configuration: space, training, size of images.
        data: folder of images and labels.csv.
        seed: of the search.
        trials: number of trials.
        workers: number of workers.
        began: when it was started, a Unix time.
        own_loop: whether a peer trains by its own loop, as it is shipped, or by Canopy's.
    """

    config: Path
    data: Path
    seed: int
    trials: int
    workers: int
    began: float
    own_loop: bool

    @classmethod
    def of(cls, arguments: argparse.Namespace, seed: int) -> "RealSearch":
        """Returns the search of a seed that the command line asks for."""
        return cls(
            SHAPES,
            arguments.data.resolve(),
            seed,
            arguments.trials,
            arguments.workers,
            arguments.began or time.time(),
            not arguments.canopys_loop,
        )

    @property
    def threads(self) -> int:
        """Threads of each worker."""
        return max(1, 2 // self.workers)


def peer_arguments(description: str | None) -> argparse.ArgumentParser:
    """Returns the options that every peer takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--record", type=Path, required=True, help="file that entries go to")
    parser.add_argument("--curves", metavar="NAME", help="family or table: simulate, do not train")
    parser.add_argument("--data", type=Path, help="folder of images and labels.csv: train")
    parser.add_argument("--canopys-loop", action="store_true", help="train by Canopy's loop")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--began", type=float, help="when the search was started, a Unix time")
    return parser
