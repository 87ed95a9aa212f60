"""Checks of the training loop, each in a process of its own: ``python -m … PART DEVICE``.

The last line that it prints says what was found; an exit status other than 0 that it is wrong.
"""

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from canopy_search.training.checkpoint import state_from_bytes, state_to_bytes
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.data.splits import Split
from canopy_search.training.device.memory import available_bytes
from canopy_search.training.errors import DivergedError, OutOfMemoryError
from canopy_search.training.metrics import Evaluation
from canopy_search.training.optimization.accumulation import finer_steps, largest_batch
from canopy_search.training.run import TrainingRun
from canopy_search.training.settings import TrainingSettings

_LABELS = 6
_SHARE = 0.3
_TRIALS = 6


def synthetic_images(train: int, validation: int, image_px: int) -> Dataset:
    """Returns images in memory: each label is a square of one place and colour, on noise."""
    draw = np.random.default_rng(0)
    images, side = train + validation, image_px // 4
    pixels = draw.integers(0, 128, (images, image_px, image_px, 3), dtype=np.uint8)
    targets = (draw.random((images, _LABELS)) < _SHARE).astype(np.uint8)
    for label in range(_LABELS):
        top, left = side * (label // 3), side * (label % 3)
        square = pixels[targets[:, label] == 1, top : top + side, left : left + side]
        square[..., label % 3] = 255
        pixels[targets[:, label] == 1, top : top + side, left : left + side] = square
    return Dataset(
        pixels=pixels,
        targets=targets,
        labels=tuple(f"label_{at}" for at in range(_LABELS)),
        image_names=tuple(map(str, range(images))),
        split=Split(np.arange(train), np.arange(train, images), np.arange(0)),
        fingerprint="0" * 64,
        image_px=image_px,
        augment=("hflip",),
    )


def settings(device: str, **values: Any) -> TrainingSettings:
    """Returns settings of a run."""
    return TrainingSettings.model_validate({"device": device, **values})


def search(device: str) -> str:
    """A short search in this process has to find what can be learned."""
    dataset = synthetic_images(1024, 256, 32)
    found: list[float] = []
    suggest, tell, sampler = _sampler()
    for number in range(_TRIALS):
        lr, gamma = suggest()
        run = TrainingRun.of(
            settings(
                device,
                backbone="tinycnn_16",
                epochs=3,
                gamma=gamma,
                seed=number,
                optimizer={"name": "adam", "lr": lr},
            ),
            dataset,
        )
        ap = 0.0
        try:
            while not run.is_finished:
                ap = run.train_epoch().validation.metrics.ap or 0.0
        except DivergedError:
            ap = 0.0
        tell(ap)
        found.append(ap)
    text = f"{_TRIALS} trials by {sampler}: AP {min(found):.3f} to {max(found):.3f}"
    if max(found) < 2 * _SHARE:
        raise SystemExit(f"{text}; chance is {_SHARE}")
    return text


def _sampler() -> tuple[Callable[[], tuple[float, float]], Callable[[float], None], str]:
    """Returns what draws a learning rate and a gamma, what hears the AP, and its name."""
    try:
        import optuna
    except ImportError:
        draw = random.Random(0)
        return (
            lambda: (10 ** draw.uniform(-3.5, -2), draw.uniform(0.8, 1.0)),
            lambda _ap: None,
            "random search (Optuna is not installed)",
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    trials: list[optuna.trial.Trial] = []

    def suggest() -> tuple[float, float]:
        trials.append(study.ask())
        lr = trials[-1].suggest_float("lr", 10**-3.5, 1e-2, log=True)
        return lr, trials[-1].suggest_float("gamma", 0.8, 1.0)

    def tell(ap: float) -> None:
        study.tell(trials[-1], ap)

    return suggest, tell, f"Optuna {optuna.__version__}"


def resume(device: str) -> str:
    """A deterministic run that is resumed has to equal one that never stopped, bit for bit."""
    dataset = synthetic_images(128, 64, 64)
    names = ("tinycnn_8",) if device == "cpu" else ("resnet18", "alexnet", "vgg11_bn")
    for name in names:
        chosen = settings(device, backbone=name, epochs=3, batch_size=32, deterministic=True)
        straight = TrainingRun.of(chosen, dataset)
        stopped = TrainingRun.of(chosen, dataset)
        stopped.train_epoch()
        resumed = TrainingRun.of(chosen, dataset)
        resumed.restore(state_from_bytes(state_to_bytes(stopped.state())))
        ends = [_last(run) for run in (straight, resumed)]
        if not np.array_equal(ends[0].logits, ends[1].logits):
            raise SystemExit(f"{name}: validation logits differ after resuming")
        pairs = zip(
            straight.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
        )
        differing = [key for (key, one), other in pairs if not torch.equal(one, other)]
        if differing:
            raise SystemExit(f"{name}: {differing[0]} differs after resuming")
    return f"{', '.join(names)}: every tensor and logit equal"


def _last(run: TrainingRun) -> Evaluation:
    while True:
        validation = run.train_epoch().validation
        if run.is_finished:
            return validation


def out_of_memory(device: str) -> str:
    """Training and validation have to fit into half of the memory that they need."""
    batch = 16 if device == "cpu" else 512
    dataset = synthetic_images(2 * batch, 2 * batch, 64)
    backbone = "tinycnn_8" if device == "cpu" else "resnet18"
    chosen = settings(device, backbone=backbone, epochs=2, batch_size=batch)
    free = TrainingRun.of(chosen, dataset)
    peak_bytes = int(free.train_epoch().peak_memory_mib * 2**20)
    del free
    with half_the_memory(torch.device(device), peak_bytes, batch):
        count, tries = 1, 1
        while True:
            run = TrainingRun.of(chosen, dataset, count)
            try:
                run.train_epoch()
                break
            except OutOfMemoryError as error:
                tries += 1
                finer = (
                    count
                    if error.made_room
                    else finer_steps(largest_batch(2 * batch, batch), count)
                )
                if finer is None:
                    raise SystemExit(str(error)) from error
            count = finer
    if count == 1:
        raise SystemExit(f"memory never ran out in {tries} tries, although half of it was taken")
    text = f"batches of {batch} in {count} parts after {tries} tries"
    whole = run.logits(dataset.split.validation)[0]
    evaluated_bytes = _evaluation_bytes(run)
    with half_the_memory(torch.device(device), evaluated_bytes, batch // count):
        cut = run.logits(dataset.split.validation)[0]
    worst = float((cut - whole).abs().max())
    return f"{text}; validation with half of its memory differs by {worst:.1g}"


def _evaluation_bytes(run: TrainingRun) -> int:
    """Returns what validation takes of a GPU beyond what the run holds."""
    device = torch.device(run.settings.device)
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_allocated(device)
    run.logits(run.dataset.split.validation)
    return torch.cuda.max_memory_allocated(device) - held


@contextmanager
def half_the_memory(device: torch.device, needed_bytes: int, images: int) -> Iterator[None]:
    """Leaves half of some memory free on a GPU; elsewhere, networks take half of the images."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        filler = torch.empty(
            max(0, available_bytes(device) - needed_bytes // 2), dtype=torch.uint8, device=device
        )
        yield
        del filler
        return

    def check(_network: nn.Module, inputs: tuple[Any, ...]) -> None:
        is_image = inputs and isinstance(inputs[0], torch.Tensor) and inputs[0].dim() == 4
        if is_image and len(inputs[0]) > images // 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    hook = nn.modules.module.register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        hook.remove()


PARTS: dict[str, Callable[[str], str]] = {
    "search": search,
    "resume": resume,
    "out of memory": out_of_memory,
}

if __name__ == "__main__":
    print(PARTS[sys.argv[1]](sys.argv[2]))
