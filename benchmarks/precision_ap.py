"""Whether bf16 costs AP: the same runs in fp32 and in bf16, over some seeds.

``python -m benchmarks.precision_ap --seeds 3``. Slow where the processor has no bf16 of its own.
"""

import argparse
from statistics import mean

from benchmarks.epoch_time import demo
from benchmarks.machine import machine_text, spread_text
from canopy_search.search.environment import state_home
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import OptimizerSettings, TrainingSettings

IMAGE_PX = 32
EPOCHS = 8


def main() -> None:
    """Prints the AP after the last epoch for each seed and format, and their difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backbone", default="tinycnn_8")
    arguments = parser.parse_args()
    dataset = demo(state_home(), IMAGE_PX, augmented=False)
    print(machine_text())
    print(f"{arguments.backbone}, {IMAGE_PX} px, {EPOCHS} epochs, gamma .95\n")
    print("| seed | fp32 AP | bf16 AP | bf16 − fp32 |\n|---|---|---|---|")
    differences = []
    for seed in range(arguments.seeds):
        ap = []
        for precision in ("fp32", "bf16"):
            settings = TrainingSettings.model_validate(
                {
                    "backbone": arguments.backbone,
                    "epochs": EPOCHS,
                    "gamma": 0.95,
                    "precision": precision,
                    "optimizer": OptimizerSettings(lr=3e-3),
                    "seed": seed,
                }
            )
            run = TrainingRun.of(settings, dataset)
            scores = [run.train_epoch().validation.metrics.ap or 0.0 for _ in range(EPOCHS)]
            ap.append(scores[-1])
        differences.append(ap[1] - ap[0])
        print(f"| {seed} | {ap[0]:.4f} | {ap[1]:.4f} | {differences[-1]:+.4f} |", flush=True)
    print(f"\nmean difference {mean(differences):+.4f}, {spread_text(differences, digits=4)}")


if __name__ == "__main__":
    main()
