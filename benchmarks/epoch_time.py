"""Where an epoch's time goes: how much of it training waits for data.

``python -m benchmarks.epoch_time --epochs 5``.
"""

import argparse
from pathlib import Path

from benchmarks.machine import machine_text, spread_text
from canopy_search.search.environment import state_home
from canopy_search.training.data.dataset import Dataset, open_dataset
from canopy_search.training.metrics import EpochMetrics
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import Augmentation, DataSettings, TrainingSettings

CASES = [("tinycnn_16", 32), ("tinyresnet_16", 32), ("resnet18", 64)]


def demo(home: Path, image_px: int, *, augmented: bool) -> Dataset:
    """Returns the demo data at one size; turned and mirrored where that is to be measured."""
    augment: tuple[Augmentation, ...] = ("hflip", "vflip", "rot90") if augmented else ()
    return open_dataset(DataSettings(demo="digits", image_px=image_px, augment=augment), home)


def measure(backbone: str, dataset: Dataset, epochs: int) -> list[EpochMetrics]:
    """Trains some epochs after one that warms up."""
    run = TrainingRun.of(TrainingSettings(backbone=backbone, epochs=epochs + 1), dataset)
    return [run.train_epoch() for _ in range(epochs + 1)][1:]


def main() -> None:
    """Prints a row for each network, image size and augmentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5, help="measured for each row")
    epochs = parser.parse_args().epochs
    print(machine_text())
    print(f"{epochs} epochs a row, batch 64; median (smallest to largest)\n")
    print("| network | px | augmented | train s an epoch | images/s | waiting for data, % |")
    print("|---|---|---|---|---|---|")
    for backbone, image_px in CASES:
        for augmented in (False, True):
            dataset = demo(state_home(), image_px, augmented=augmented)
            metrics = measure(backbone, dataset, epochs)
            columns = [
                spread_text([m.train_s for m in metrics]),
                spread_text([m.images_per_s for m in metrics], digits=0),
                spread_text([100 * m.wait_s / m.train_s for m in metrics]),
            ]
            mark = "yes" if augmented else "no"
            print(f"| {backbone} | {image_px} | {mark} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
