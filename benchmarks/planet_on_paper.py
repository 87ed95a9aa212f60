"""The whole of Planet on paper: what a search of 40 trials would take, beside the hand search.

``python -m benchmarks.planet_on_paper``. Decoding and checkpoints are measured here, the epochs
that are trained come from replayed searches (`search.forecast.searches`). No GPU is needed: an
epoch takes what the hand search's own runs took, or resnet18's scaled by FLOPs.
"""

import argparse
import tempfile
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import optuna
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import machine_text, spread_text
from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.forecast.estimates import Range
from canopy_search.search.forecast.forecast import TRIAL_OVERHEAD_S
from canopy_search.search.forecast.searches import ReplayedSearch, replay_searches
from canopy_search.search.forecast.speed import measure_speed
from canopy_search.search.study.configuration import checked
from canopy_search.search.study.plan import SearchPlan, plan_search
from canopy_search.search.study.request import StudyRequest
from canopy_search.storage.workspace import Workspace
from canopy_search.training.data.cache.pixels import cache_bytes
from canopy_search.training.data.sample import DataSample, open_sample
from canopy_search.training.network.backbones import meta_backbone
from canopy_search.training.resolve import resolve_settings
from canopy_search.training.settings import DataSettings

IMAGES, LABELS, IMAGE_PX, EPOCHS, TRIALS = 40_479, 17, 256, 20, 40
BACKBONES = ("resnet18", "resnet50", "resnet152")
# The hand search's runs, in minutes; that its baseline was resnet18, and that a run had `EPOCHS`
# epochs, is assumed.
HAND_RUN_MIN = {"resnet18": 28.0, "resnet152": 180.0}
WAYS = {
    "all in full, nothing shared": {"pruner": {"name": "none"}, "stages": False},
    "all in full, shared": {"pruner": {"name": "none"}, "stages": True},
    "median, shared": {"pruner": {"name": "median"}, "stages": True},
    "asha, shared (default of 0.1.0)": {"pruner": {"name": "asha"}, "stages": True},
    "**branches, shared (default)**": {"pruner": {"name": "branches"}, "stages": True},
}


def main() -> None:
    """Prints what is measured, and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1200, help="JPEGs to decode")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(machine_text())
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        sample = decoded_sample(home, arguments.images)
        speeds = [IMAGES / speed for speed in sample.images_per_s]
        print(f"\ndecoding {IMAGES:,} images on this machine: {spread_text(speeds, 0)} s")
        print(f"cache at {IMAGE_PX} px: {cache_bytes(IMAGES, IMAGE_PX) / 1e9:.1f} GB")
        print("\n| network | GFLOP an image | s an epoch | a run by hand | checkpoint, MB |")
        print("|---|---|---|---|---|")
        sizes = {name: checkpoint_bytes(name, sample) for name in BACKBONES}
        for name in BACKBONES:
            print(
                f"| {name} | {gflop(name):.1f} | {epoch_s(name):.0f} "
                f"| {hand_text(name)} | {sizes[name] / 1e6:.0f} |"
            )
        print(
            f"\n| {TRIALS} trials | GPUs | reported | trained | of resnet18, 50, 152 | hours |"
            " checkpoints, GB |"
        )
        print("|---|---|---|---|---|---|---|")
        for gpus in (1, 4):
            for way in WAYS:
                print(row(way, gpus, home, sample, sizes), flush=True)


def row(way: str, gpus: int, home: Path, sample: DataSample, sizes: dict[str, int]) -> str:
    """Replays searches of one kind; returns a row of the table."""
    plan = planned(way, home)
    replays = replay_searches(
        replace(plan, workers=gpus),
        resolve_settings(plan.config.training),
        sample.dataset,
        lambda network: epoch_s(network.backbone),
        lambda _network: TRIAL_OVERHEAD_S,
    )

    def text(values: list[float], digits: int = 0) -> str:
        found = Range.from_values(values)
        return f"{found.likely:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"

    parts = [
        f"{Range.from_values([trained(replay, name) for replay in replays]).likely:.0f}"
        for name in BACKBONES
    ]
    held = [
        sum(count * sizes[network.backbone] for network, count in replay.trained.items()) / 1e9
        for replay in replays
    ]
    cells = [
        way,
        str(gpus),
        text([replay.reported for replay in replays]),
        text([sum(replay.trained.values()) for replay in replays]),
        ", ".join(parts),
        text([replay.search_s / 3600 for replay in replays], 1),
        text(held) if plan.config.stages.enabled else "–",
    ]
    return f"| {' | '.join(cells)} |"


def trained(replay: ReplayedSearch, backbone: str) -> float:
    """Returns the epochs that a search trained with a backbone."""
    return sum(n for network, n in replay.trained.items() if network.backbone == backbone)


def planned(way: str, home: Path) -> SearchPlan:
    """Returns the search: the mission's space, 20 epochs."""
    config = CanopyConfig.model_validate(
        {
            "data": {"demo": "digits", "image_px": IMAGE_PX},
            "training": {"epochs": EPOCHS, "device": "cpu", "threads": 1},
            "search": {"pruner": WAYS[way]["pruner"]},
            "stages": {"enabled": WAYS[way]["stages"]},
        }
    )
    return plan_search(StudyRequest(Workspace(home), checked(config), "planet on paper"), TRIALS)


def epoch_s(backbone: str) -> float:
    """Returns seconds of an epoch: the hand search's own, else resnet18's scaled by FLOPs."""
    if backbone in HAND_RUN_MIN:
        return 60 * HAND_RUN_MIN[backbone] / EPOCHS
    return epoch_s("resnet18") * gflop(backbone) / gflop("resnet18")


def hand_text(backbone: str) -> str:
    """Returns what a run took by hand, or would have taken."""
    if backbone in HAND_RUN_MIN:
        by_flops = HAND_RUN_MIN["resnet18"] * gflop(backbone) / gflop("resnet18")
        return f"{HAND_RUN_MIN[backbone]:.0f} min (by FLOPs {by_flops:.0f})"
    return f"{epoch_s(backbone) * EPOCHS / 60:.0f} min by FLOPs"


@cache
def gflop(backbone: str) -> float:
    """Returns the FLOPs of one image's forward pass, in 10⁹."""
    model = meta_backbone(backbone, labels=LABELS, image_px=IMAGE_PX)
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, IMAGE_PX, IMAGE_PX, device="meta"))
    return float(counter.get_total_flops()) / 1e9


def checkpoint_bytes(backbone: str, sample: DataSample) -> int:
    """Returns the size of a checkpoint with Adam's state, whatever the images."""
    dataset = sample.dataset
    small = replace(dataset, pixels=dataset.pixels[:, ::4, ::4].copy(), image_px=IMAGE_PX // 4)
    few = replace(sample, dataset=small, train=4, validation=4)
    training = planned(next(iter(WAYS)), Path()).config.training
    settings = training.model_copy(update={"backbone": backbone, "batch_size": 4})
    return measure_speed(resolve_settings(settings), few, budget_s=0.0).checkpoint_bytes


def decoded_sample(home: Path, images: int) -> DataSample:
    """Makes JPEGs of the size and weight of Planet's, and decodes them."""
    folder = home / "jpg"
    folder.mkdir()
    random = np.random.default_rng(0)
    rows = ["image_name,tags"]
    for at in range(images):
        coarse = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC)
        noisy = np.asarray(picture) + random.normal(0, 4, (IMAGE_PX, IMAGE_PX, 3))
        content = BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(content, "JPEG", quality=80)
        (folder / f"image_{at}.jpg").write_bytes(content.getvalue())
        rows.append(f"image_{at},label_{at % LABELS}")
    labels = home / "labels.csv"
    labels.write_text("\n".join(rows))
    mean_kb = np.mean([file.stat().st_size for file in folder.iterdir()]) / 1000
    print(f"\n{images:,} JPEGs of {IMAGE_PX} px, {mean_kb:.1f} KB each")
    settings = DataSettings(labels=labels, images=folder, image_px=IMAGE_PX)
    return open_sample(settings, home / "state", images)


if __name__ == "__main__":
    main()
