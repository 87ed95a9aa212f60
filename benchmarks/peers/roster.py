"""Who is compared, and how each is started."""

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

Environment = Literal["canopy", "peers", "syne-tune-0.13"]

REPOSITORY = Path(__file__).parents[2]
PYTHONS: dict[Environment, Path] = {
    "canopy": Path(sys.executable),
    "peers": REPOSITORY / ".venv-peers" / "bin" / "python",
    "syne-tune-0.13": REPOSITORY / ".venv-peers-syne-tune-0.13" / "bin" / "python",
}


@dataclass(frozen=True)
class Peer:
    """One way of doing the search, with a number of workers.

    Attributes:
        key: names it in files.
        title: names it for people.
        module: below `benchmarks.peers`.
        options: on its command line.
        environment: that it needs.
        workers: that train at once; one has two threads, two have one each.
        costs: key of the peer that trains by the same script, whose real costs stand for its own
            until those are measured.
    """

    key: str
    title: str
    module: str
    options: tuple[str, ...] = ()
    environment: Environment = "canopy"
    workers: int = 1
    costs: str = ""

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return PYTHONS[self.environment]

    @property
    def is_installed(self) -> bool:
        """Whether its environment is there."""
        return self.python.exists()

    def command(self, *options: str) -> list[str]:
        """Returns what starts it."""
        module = f"benchmarks.peers.{self.module}"
        workers = ("--workers", str(self.workers))
        return [str(self.python), "-m", module, *self.options, *workers, *options]


def _syne_tune(method: str, title: str, workers: int) -> Peer:
    return Peer(
        f"syne-tune-{method}-{workers}",
        f"Syne Tune {title}",
        "syne_tune_asha",
        ("--method", method),
        "peers" if method == "stopping" else "syne-tune-0.13",
        workers,
        costs=f"syne-tune-stopping-{workers}",
    )


def _optuna(key: str, title: str, sampler: str, pruner: str) -> Peer:
    options = ("--sampler", sampler, "--pruner", pruner)
    return Peer(key, title, "plain_optuna", options, costs="plain")


PLAIN = _optuna("plain", "Optuna, TPE + median", "tpe", "median")
HYPERBAND = _optuna("hyperband", "Optuna, TPE + hyperband", "tpe", "hyperband")
RANDOM = _optuna("random", "random search, no pruning", "random", "none")
RAY = Peer("ray", "Ray Tune, OptunaSearch + ASHA", "ray_tune", environment="peers")
RAY_2 = replace(RAY, key="ray-2", workers=2)
STOPPING = _syne_tune("stopping", "ASHA, stopping", 1)
STOPPING_2 = _syne_tune("stopping", "ASHA, stopping", 2)
CANOPY = Peer("canopy", "Canopy", "canopy")
CANOPY_2 = replace(CANOPY, key="canopy-2", workers=2)
PEERS = [
    PLAIN,
    HYPERBAND,
    _optuna("advised", "Optuna, multivariate TPE + hyperband", "multivariate", "hyperband"),
    _optuna("halving", "Optuna, TPE + successive halving", "tpe", "successive_halving"),
    RANDOM,
    RAY,
    replace(
        RAY,
        key="ray-factor-3",
        title="Ray Tune, the same with factor 3",
        options=("--reduction-factor", "3"),
        costs="ray",
    ),
    STOPPING,
    _syne_tune("promotion", "ASHA, promotion", 1),
    _syne_tune("pasha", "PASHA", 1),
    replace(
        CANOPY,
        key="canopy-asha",
        title="Canopy, asha (0.1.0)",
        options=("--pruner", "asha"),
        costs="canopy",
    ),
    replace(
        CANOPY,
        key="canopy-alone",
        title="Canopy, stages off",
        options=("--no-stages",),
        costs="canopy",
    ),
    CANOPY,
    RAY_2,
    STOPPING_2,
    _syne_tune("promotion", "ASHA, promotion", 2),
    _syne_tune("pasha", "PASHA", 2),
    CANOPY_2,
]


def environment_of_peers() -> dict[str, str]:
    """Returns the environment variables that all peers run with."""
    return {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONHASHSEED": "0",  # PASHA goes through sets
        "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    }
