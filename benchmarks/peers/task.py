"""What all peers search, and how each is called: the same space, epochs, trials and seeds."""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution

from canopy_search.search.simulation.curve_files import read_curves
from canopy_search.search.simulation.curves import CurvePoint, CurveTable

TRIALS = 40
_FOLDER = Path(__file__).parents[1]
TRAINING_SEED = 0
FLIPS = ("hflip", "vflip", "rot90")
IMAGE_SETTINGS: dict[str, Any] = {"image_px": 32, "augment": FLIPS}


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        backbones: names of networks.
        losses: names of losses.
        gamma_low: smallest gamma of ExponentialLR.
        gamma_high: largest.
        gamma_step: between two gammas.
        epochs: of a full run.
    """

    backbones: list[str]
    losses: list[str]
    gamma_low: float
    gamma_high: float
    gamma_step: float
    epochs: int

    @property
    def gammas(self) -> list[float]:
        """Every gamma."""
        steps = round((self.gamma_high - self.gamma_low) / self.gamma_step)
        return [round(self.gamma_low + k * self.gamma_step, 6) for k in range(steps + 1)]


# benchmarks/shapes.yaml for peers that do not read it.
SHAPES = Space(
    ["tinycnn_8", "tinycnn_16", "tinyresnet_8", "tinyresnet_16"],
    ["bce", "weighted_bce", "asymmetric"],
    0.70,
    1.00,
    0.03,
    9,
)


@dataclass(frozen=True)
class Task:
    """What is searched, and how a setting of it is trained.

    Attributes:
        space: of the search.
        config: Canopy's configuration of the same.
        lr: Adam's learning rate.
        augment: `FLIPS`, or nothing.
        image_px: side of the images that are trained on.
        batch_size: for training.
    """

    space: Space
    config: Path
    lr: float
    augment: tuple[str, ...] = ()
    image_px: int = 32
    batch_size: int = 32


SHAPES_TASK = Task(SHAPES, _FOLDER / "shapes.yaml", 4e-3, FLIPS)
# benchmarks/emoji.yaml; drawings face to the right, so nothing flips.
EMOJI_TASK = Task(
    Space(
        ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5"],
        ["bce", "focal_bce", "asymmetric"],
        0.80,
        1.00,
        0.01,
        8,
    ),
    _FOLDER / "emoji.yaml",
    1e-3,
)


def space_of(table: CurveTable) -> Space:
    """Returns the space that a table of learning curves covers."""
    backbone, loss = table.distributions["backbone"], table.distributions["loss"]
    gamma = table.distributions["gamma"]
    if not (
        isinstance(backbone, CategoricalDistribution)
        and isinstance(loss, CategoricalDistribution)
        and isinstance(gamma, FloatDistribution)
        and gamma.step is not None
    ):
        raise SystemExit("the table must be of backbone, loss and gamma with a step")
    return Space(
        [str(each) for each in backbone.choices],
        [str(each) for each in loss.choices],
        gamma.low,
        gamma.high,
        gamma.step,
        table.epochs,
    )


class Curves:
    """A table of learning curves, for peers whose gammas differ in the last bits."""

    def __init__(self, path: Path) -> None:
        table = read_curves(path)
        self.table = table
        self.space = space_of(table)
        names = list(table.distributions)
        self._curves = {
            self._key(dict(zip(names, point, strict=True))): curve
            for point, curve in table.curves.items()
        }

    def curve(self, params: Mapping[str, Any]) -> list[CurvePoint]:
        """Returns the learning curve of a setting, an entry for each epoch."""
        return self._curves[self._key(params)]

    @staticmethod
    def _key(params: Mapping[str, Any]) -> tuple[str, str, float]:
        return params["backbone"], params["loss"], round(params["gamma"], 4)


@dataclass(frozen=True)
class RealSearch:
    """One search that trains.

    Attributes:
        data: folder of images and labels.csv.
        seed: of the search.
        trials: number of trials.
        workers: number of workers.
        began: when it was started, a Unix time.
    """

    data: Path
    seed: int
    trials: int
    workers: int
    began: float

    @classmethod
    def of(cls, arguments: argparse.Namespace, seed: int) -> "RealSearch":
        """Returns the search of a seed that the command line asks for."""
        return cls(
            arguments.data.resolve(),
            seed,
            arguments.trials,
            arguments.workers,
            arguments.began or time.time(),
        )

    @property
    def threads(self) -> int:
        """Threads of each worker."""
        return max(1, 2 // self.workers)


def peer_arguments(description: str | None) -> argparse.ArgumentParser:
    """Returns the options that every peer takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--record", type=Path, required=True, help="file that entries go to")
    parser.add_argument("--table", type=Path, help="learning curves: simulate, do not train")
    parser.add_argument("--data", type=Path, help="folder of images and labels.csv: train")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--began", type=float, help="when the search was started, a Unix time")
    return parser


def setting(params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns backbone, loss and gamma of a peer's configuration, as plain values."""
    return {
        "backbone": str(params["backbone"]),
        "loss": str(params["loss"]),
        "gamma": round(float(params["gamma"]), 4),
    }
