"""Who is compared, and how each is started."""

import os
import sys
from dataclasses import dataclass
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


PLAIN = Peer("plain", "Optuna, TPE + median", "plain_optuna")
RANDOM = Peer(
    "random",
    "random search, no pruning",
    "plain_optuna",
    ("--sampler", "random", "--pruner", "none"),
    costs="plain",
)
CANOPY = Peer("canopy", "Canopy", "canopy_search")
CANOPY_2 = Peer("canopy-2", "Canopy", "canopy_search", workers=2)
PEERS = [
    PLAIN,
    Peer(
        "hyperband",
        "Optuna, TPE + hyperband",
        "plain_optuna",
        ("--pruner", "hyperband"),
        costs="plain",
    ),
    Peer(
        "halving",
        "Optuna, TPE + successive halving",
        "plain_optuna",
        ("--pruner", "successive_halving"),
        costs="plain",
    ),
    RANDOM,
    Peer("ray", "Ray Tune, OptunaSearch + ASHA", "ray_tune", environment="peers"),
    _syne_tune("stopping", "ASHA, stopping", 1),
    _syne_tune("promotion", "ASHA, promotion", 1),
    _syne_tune("pasha", "PASHA", 1),
    Peer("canopy-alone", "Canopy, stages off", "canopy_search", ("--no-stages",), costs="canopy"),
    CANOPY,
    Peer("ray-2", "Ray Tune, OptunaSearch + ASHA", "ray_tune", (), "peers", 2),
    _syne_tune("stopping", "ASHA, stopping", 2),
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
