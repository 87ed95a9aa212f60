"""What a search did, epoch by epoch, as every peer writes it: a line of JSON each."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class EpochEntry:
    """One epoch of one trial.

    Attributes:
        seed: of the search.
        trial: counts from 0 within a search.
        epoch: counts from 1.
        val_ap: validation AP after it.
        at_s: when it was known, in seconds since the search was started.
        train_s: training and validation time; 0 where the epoch was known already.
        params: backbone, loss and gamma.
    """

    seed: int
    trial: int
    epoch: int
    val_ap: float
    at_s: float
    train_s: float
    params: dict[str, Any]

    @property
    def trained(self) -> bool:
        """Whether it cost anything."""
        return self.train_s > 0


class Recorder:
    """Appends entries to a file, each as soon as it is known."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path

    def add(self, entry: EpochEntry) -> None:
        """Writes one line; several processes may do so at once."""
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(entry)) + "\n")


def read_record(path: Path) -> list[EpochEntry]:
    """Returns all entries of a file in the order of time, seed by seed."""
    lines = path.read_text().splitlines()
    return in_order(EpochEntry(**json.loads(line)) for line in lines)


def in_order(entries: Iterable[EpochEntry]) -> list[EpochEntry]:
    """Returns entries by seed and then by time."""
    return sorted(entries, key=lambda entry: (entry.seed, entry.at_s, entry.epoch))
