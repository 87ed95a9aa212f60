"""One trial of Syne Tune: trains a setting, reports every epoch, keeps a checkpoint.

Syne Tune starts it as a process of its own, with a configuration on the command line, and ends it
when its scheduler says so; the folder for checkpoints is in the trial's own.

References:
    https://syne-tune.readthedocs.io/en/latest/faq.html (checkpointing)
"""

import argparse
import time
from pathlib import Path

import torch
from syne_tune import Reporter
from syne_tune.constants import ST_CHECKPOINT_DIR

from benchmarks.peers.loops import training_of
from benchmarks.peers.record import EpochEntry, Recorder
from benchmarks.peers.task import TRIALS, RealSearch


def main() -> None:
    """Trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("backbone", "loss", "config", "data", "record"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("gamma", "began"):
        parser.add_argument(f"--{name}", type=float, required=True)
    for name in ("search_seed", "workers", "own_loop"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument(f"--{ST_CHECKPOINT_DIR}", type=Path, required=True)
    arguments, _ = parser.parse_known_args()
    folder: Path = getattr(arguments, ST_CHECKPOINT_DIR)
    checkpoint = folder / "checkpoint.pt"
    state = torch.load(checkpoint) if checkpoint.exists() else None
    search = RealSearch(
        Path(arguments.config),
        Path(arguments.data),
        arguments.search_seed,
        TRIALS,
        arguments.workers,
        arguments.began,
        bool(arguments.own_loop),
    )
    training = training_of(search, loader_workers=2 if search.workers == 1 else 0)
    params = training.space.canonical(vars(arguments))
    report = Reporter()
    recorder = Recorder(Path(arguments.record))
    trial = int(folder.parent.name)
    for reached, val_ap, seconds in training.epochs_with_state(params, state):
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(reached, checkpoint)
        epoch = reached["epoch"]
        at_s = time.time() - search.began
        recorder.add(EpochEntry(search.seed, trial, epoch, val_ap, at_s, seconds, params))
        report(epoch=epoch, val_ap=val_ap)


if __name__ == "__main__":
    main()
