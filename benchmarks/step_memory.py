"""The estimate of a step's memory against what a process really takes: one process a case."""

import subprocess
import sys
import threading
import time

import psutil
import torch

from benchmarks.machine import machine_text
from canopy_search.training.device.memory import step_memory
from canopy_search.training.network.backbones import build_backbone
from canopy_search.training.settings import TrainingSettings

CASES = (
    ("tinycnn_16", 64, 16),
    ("tinycnn_16", 64, 64),
    ("tinycnn_16", 128, 256),
    ("mobilenet_v3_small", 64, 64),
    ("mobilenet_v3_small", 128, 64),
    ("resnet18", 64, 16),
    ("resnet18", 64, 64),
    ("resnet18", 128, 64),
    ("resnet50", 64, 64),
    ("resnet50", 128, 32),
    ("vit_b_16", 64, 64),
    ("vit_b_16", 128, 16),
    ("vit_b_16", 224, 8),
)
RUNS = 3
LABELS = 17
EVERY_S = 0.002


def measured_bytes(backbone: str, image_px: int, batch_size: int) -> int:
    """Returns by how much the resident size grows, at most, in two training steps."""
    process = psutil.Process()
    before = process.memory_info().rss
    largest = [before]
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            largest[0] = max(largest[0], process.memory_info().rss)
            time.sleep(EVERY_S)

    watcher = threading.Thread(target=watch)
    watcher.start()
    model = build_backbone(backbone, labels=LABELS, image_px=image_px, weights="none", seed=0)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    pixels = torch.randn(batch_size, 3, image_px, image_px)
    for _ in range(2):
        # As `TrainingRun` does: the last step's gradients are there during the forward pass.
        logits = model(pixels.contiguous(memory_format=torch.channels_last))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, torch.zeros(batch_size, LABELS)
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call] # torch's own
        optimizer.step()
    done.set()
    watcher.join()
    return largest[0] - before


def main() -> None:
    """Prints estimate, measurement and their ratio for every case."""
    if len(sys.argv) == 4:
        print(measured_bytes(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
        return
    print(machine_text())
    print("| backbone | px | batch | estimate MiB | real MiB | estimate / real | estimated in |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for backbone, image_px, batch_size in CASES:
        settings = TrainingSettings(
            backbone=backbone, batch_size=batch_size, precision="fp32", device="cpu"
        )
        started_s = time.perf_counter()
        memory = step_memory(settings, labels=LABELS, image_px=image_px)
        took_s = time.perf_counter() - started_s
        estimate = memory.needed_bytes
        command = [sys.executable, "-m", "benchmarks.step_memory", backbone]
        real = sorted(
            int(subprocess.check_output([*command, str(image_px), str(batch_size)]))
            for _ in range(RUNS)
        )
        mib = 2**20
        print(
            f"| {backbone} | {image_px} | {batch_size} | {estimate / mib:.0f} "
            f"| {real[RUNS // 2] / mib:.0f} ({real[0] / mib:.0f}–{real[-1] / mib:.0f}) "
            f"| {estimate / real[RUNS // 2]:.2f} | {took_s:.2f} s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
