"""The training loop beside the same network on a tensor held in memory, and where its time goes.

``python -m benchmarks.loop_profile --rounds 3``. In turns: an epoch of `TrainingRun`, and as many
steps by hand with the same network, loss, optimizer and precision on one batch that is already in
memory, normalised and in the memory format of the network. The epoch's side gathers its batches
from a memory map and normalises them; neither side validates within what is compared. The parts of
an epoch are timed in an epoch of their own.

What is compared is CPU time, that of the thread which gathers batches included: where each core has
a worker of its own, as in a search, it is what an epoch takes, and other work on the machine hardly
changes it. Images a second by the clock stand beside it.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from benchmarks.machine import machine_text, spread_text
from benchmarks.noise_images import Case, noise_images
from canopy_search.training import run as training_run
from canopy_search.training.data.normalise import normalised
from canopy_search.training.device.precision import autocast
from canopy_search.training.network.backbones import build_backbone
from canopy_search.training.optimization.losses import build_loss
from canopy_search.training.optimization.optimizers import ParameterGroup, build_optimizer
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import TrainingSettings

CASES = (
    Case("tinycnn_16", 32, 64, 30),
    Case("resnet18", 64, 64, 3),
    Case("resnet50", 64, 32, 3),
    Case("resnet18", 224, 8, 3),
    Case("resnet50", 224, 8, 3),
)
EPOCHS = 1000


class Seconds(NamedTuple):
    """What something took, or when it was.

    Attributes:
        wall: by the clock.
        cpu: of all threads of the process.
    """

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Seconds":
        """Returns the present moment."""
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, earlier: "Seconds") -> "Seconds":
        return Seconds(self.wall - earlier.wall, self.cpu - earlier.cpu)


class HeldBatch:
    """Training steps by hand, on one batch that is already in memory.

    Args:
        run: whose settings, first images and device are taken; it is not changed.
    """

    def __init__(self, run: TrainingRun) -> None:
        self._precision, self._device = run._precision, run._device
        self._model = (
            build_backbone(
                run.settings.backbone,
                labels=len(run.dataset.labels),
                image_px=run.dataset.image_px,
                weights="none",
                seed=0,
            )
            .to(memory_format=torch.channels_last)
            .to(self._device)
        )
        rows = run.dataset.split.train[: run.settings.batch_size]
        self._images = normalised(torch.from_numpy(run.dataset.pixels[rows]).to(self._device))
        self._targets = torch.from_numpy(run.dataset.targets[rows]).float().to(self._device)
        priors = self._targets.mean(dim=0).cpu()
        self._loss = build_loss(run.settings, priors, len(rows)).to(self._device)
        group = ParameterGroup(tuple(self._model.parameters()))
        self._optimizer = build_optimizer([group], run.settings.optimizer, self._device)

    def train(self, steps: int) -> Seconds:
        """Takes some steps."""
        self._model.train()
        started = Seconds.now()
        for _ in range(steps):
            self._optimizer.zero_grad(set_to_none=True)
            with autocast(self._precision, self._device):
                logits = self._model(self._images)
            self._loss(logits, self._targets).backward()
            self._optimizer.step()
        return Seconds.now() - started


def train_epoch(run: TrainingRun) -> Seconds:
    """Trains an epoch of a run; returns the seconds up to validation."""
    validates: list[Seconds] = []

    def evaluate(*arguments: Any) -> Any:
        validates.append(Seconds.now())
        return plain(*arguments)

    plain = run.evaluate
    started = Seconds.now()
    with _replaced(run, "evaluate", evaluate):
        run.train_epoch()
    return validates[0] - started


def epoch_parts(run: TrainingRun) -> dict[str, float]:
    """Trains an epoch; returns the CPU seconds of its parts, those of the training thread."""
    parts: dict[str, float] = defaultdict(float)
    prefix = ""

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            started = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                parts[prefix + name] += time.thread_time() - started

        return call

    def evaluated(*arguments: Any) -> Any:
        nonlocal prefix
        parts["training: all"] = time.thread_time() - began_s
        prefix = "validation: "
        return evaluate(*arguments)

    place: Any = training_run
    evaluate, measured = timed("all", run.evaluate), place.multilabel_metrics
    with (
        _replaced(training_run, "normalised", timed("normalise", place.normalised)),
        _replaced(training_run, "multilabel_metrics", timed("metrics", measured)),
        _replaced(run, "evaluate", evaluated),
        _replaced(run.model, "forward", timed("forward", run.model.forward)),
        _replaced(run._loss, "forward", timed("loss", run._loss.forward)),
        _replaced(run._optimizer, "zero_grad", timed("optimizer", run._optimizer.zero_grad)),
        _replaced(run._optimizer, "step", timed("optimizer", run._optimizer.step)),
        _replaced(torch.Tensor, "backward", timed("backward", torch.Tensor.backward)),
    ):  # fmt: skip
        before = Seconds.now()
        began_s = time.thread_time()
        metrics = run.train_epoch()
        main_s = time.thread_time() - began_s
    others_s = (Seconds.now() - before).cpu - main_s if run.settings.threads == 1 else 0.0
    timed_s = sum(seconds for name, seconds in parts.items() if ":" not in name)
    parts["the rest of training"] = parts["training: all"] - timed_s
    return {**parts, "gather (its own thread)": others_s, "wait for data": metrics.wait_s}


PARTS = (
    "gather (its own thread)",
    "wait for data",
    "normalise",
    "forward",
    "loss",
    "backward",
    "optimizer",
    "the rest of training",
    "training: all",
    "validation: forward",
    "validation: normalise",
    "validation: metrics",
    "validation: all",
)


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    is_own = name in vars(owner)
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if is_own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def profile(case: Case, rounds: int, folder: Path, **settings: Any) -> tuple[str, list[str]]:
    """Measures a case.

    Returns:
        A row of the table of ratios, and the cells of the parts, in % of the training steps.
    """
    options: dict[str, Any] = {
        "backbone": case.backbone,
        "batch_size": case.batch_size,
        "epochs": EPOCHS,
    }
    run = TrainingRun.of(TrainingSettings(**(options | settings)), noise_images(case, folder))
    held = HeldBatch(run)
    run.train_epoch()
    held.train(case.steps)
    ours, theirs, parts = [], [], []
    for _ in range(rounds):
        ours.append(train_epoch(run))
        theirs.append(held.train(case.steps))
        parts.append(epoch_parts(run))
    images = case.steps * case.batch_size
    ratios = [their.cpu / mine.cpu for mine, their in zip(ours, theirs, strict=True)]
    cells = [
        run.settings.precision,
        *(spread_text([images / each.wall for each in side], 1) for side in (ours, theirs)),
        *(spread_text([images / each.cpu for each in side], 1) for side in (ours, theirs)),
        spread_text(ratios),
    ]
    row = f"| {case.name} | {' | '.join(cells)} |"
    shares = [
        100 * median(part.get(name, 0.0) / part["training: all"] for part in parts)
        for name in PARTS
    ]
    return row, [f"{share:.1f}" if share >= 0.05 else f"{share:.2f}" for share in shares]


def main() -> None:
    """Prints a row for each case, and a table of the parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backbone", nargs="+", help="only these")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=1, help="default 1, as in a search here")
    arguments = parser.parse_args()
    cases = [c for c in CASES if not arguments.backbone or c.backbone in arguments.backbone]
    print(machine_text())
    print(f"{arguments.threads} threads, {arguments.rounds} rounds; median (smallest to largest)\n")
    print(
        "| case | precision | the loop, images/s | held tensor, images/s "
        "| the loop, images/CPU s | held tensor, images/CPU s | ratio of CPU time |"
    )
    print("|---|---|---|---|---|---|---|")
    columns = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            row, cells = profile(
                case,
                arguments.rounds,
                Path(folder),
                precision=arguments.precision,
                threads=arguments.threads,
            )
            print(row, flush=True)
            columns.append(cells)
    print("\nParts, in % of the training steps' CPU time (waiting: of the clock's):\n")
    print(f"| part | {' | '.join(case.name for case in cases)} |")
    print("|---|" + "---|" * len(cases))
    for at, name in enumerate(PARTS):
        print(f"| {name} | {' | '.join(cells[at] for cells in columns)} |")


if __name__ == "__main__":
    main()
