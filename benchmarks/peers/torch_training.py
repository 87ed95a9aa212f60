"""The training loop of the peers, as PyTorch's tutorials teach it, and with nothing of Canopy's.

A `Dataset` that opens JPEGs, torchvision's transforms, a `DataLoader` with workers that stay, Adam,
`ExponentialLR`, and scikit-learn's average precision. The networks and losses are Canopy's, for
they are what is searched and not what is compared.

References:
    https://docs.pytorch.org/tutorials/beginner/basics/data_tutorial.html
    https://docs.pytorch.org/tutorials/beginner/data_loading_tutorial.html
    https://docs.pytorch.org/tutorials/beginner/basics/optimization_tutorial.html
"""

import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from canopy_search.search.study.configuration import load_config
from canopy_search.training.network.backbones import build_backbone
from canopy_search.training.optimization.losses import build_loss

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageFolder(Dataset[tuple[Tensor, Tensor]]):
    """The images of one part of ``labels.csv``.

    Args:
        folder: holds ``labels.csv`` and ``images``.
        part: train, validation or test.
        transform: PIL image → tensor.
    """

    def __init__(self, folder: Path, part: str, transform: v2.Transform) -> None:
        with (folder / "labels.csv").open() as file:
            rows = list(csv.DictReader(file))
        self.labels = sorted({tag for row in rows for tag in row["tags"].split()})
        rows = [row for row in rows if row["split"] == part]
        self.paths = [folder / "images" / f"{row['image_name']}.jpg" for row in rows]
        self.targets = torch.tensor(
            [[float(label in row["tags"].split()) for label in self.labels] for row in rows]
        )
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = Image.open(self.paths[index]).convert("RGB")
        return self.transform(image), self.targets[index]


def _tensor_of(image_px: int, *before: v2.Transform) -> v2.Transform:
    after = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    return v2.Compose([v2.Resize((image_px, image_px)), *before, v2.ToImage(), *after])


class TorchTraining:
    """Trains settings one after the other on the same loaders.

    Args:
        folder: of the data.
        config: Canopy's configuration of what is trained.
        threads: torch's.
        loader_workers: processes that load images; 0 loads in this one.

    Attributes:
        space: what is searched, and the settings that are not.
    """

    def __init__(self, folder: Path, config: Path, *, threads: int, loader_workers: int) -> None:
        torch.set_num_threads(threads)
        read = load_config(config)
        self.space = read.space
        self._image_px = read.settings.data.image_px
        flips = [
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.RandomApply([v2.RandomRotation((90, 90))], p=0.5),
        ]
        augment = flips if read.settings.data.augment else []
        train = ImageFolder(folder, "train", _tensor_of(self._image_px, *augment))
        validation = ImageFolder(folder, "validation", _tensor_of(self._image_px))
        batch_size = self.space.training.batch_size
        options: dict[str, Any] = {
            "num_workers": loader_workers,
            "persistent_workers": loader_workers > 0,
        }
        self._train: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
            train, batch_size=batch_size, shuffle=True, **options
        )
        self._validation: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
            validation, batch_size=4 * batch_size, **options
        )
        self._priors = train.targets.mean(dim=0)
        self._images = len(train)

    def epochs(self, params: dict[str, Any]) -> Iterator[tuple[float, float]]:
        """Trains one setting from scratch.

        Yields:
            Validation AP and seconds of every epoch.
        """
        for _, val_ap, seconds in self.epochs_with_state(params, None):
            yield val_ap, seconds

    def epochs_with_state(
        self, params: dict[str, Any], state: dict[str, Any] | None
    ) -> Iterator[tuple[dict[str, Any], float, float]]:
        """Trains one setting, from a checkpoint's content on if there is one.

        Yields:
            What a checkpoint holds, validation AP and seconds of every epoch.
        """
        settings = self.space.training_settings(params)
        torch.manual_seed(settings.seed)
        model = build_backbone(
            settings.backbone,
            labels=len(self._priors),
            image_px=self._image_px,
            weights="none",
            seed=settings.seed,
        )
        loss = build_loss(settings, self._priors, self._images)
        optimizer = torch.optim.Adam(model.parameters(), lr=settings.optimizer.lr)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=settings.gamma)
        parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "schedule": schedule}
        done = 0
        if state is not None:
            done = state["epoch"]
            for name, part in parts.items():
                part.load_state_dict(state[name])
        for epoch in range(done + 1, settings.epochs + 1):
            began = time.perf_counter()
            self._train_epoch(model, loss, optimizer)
            schedule.step()
            val_ap = self._validation_ap(model)
            seconds = time.perf_counter() - began
            states = {name: part.state_dict() for name, part in parts.items()}
            yield {"epoch": epoch, **states}, val_ap, seconds

    def _train_epoch(
        self, model: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        model.train()
        for images, targets in self._train:
            optimizer.zero_grad()
            loss(model(images), targets).backward()
            optimizer.step()

    def _validation_ap(self, model: nn.Module) -> float:
        model.eval()
        logits, targets = [], []
        with torch.inference_mode():
            for images, batch_targets in self._validation:
                logits.append(model(images))
                targets.append(batch_targets)
        scores = average_precision_score(
            torch.cat(targets).numpy(), torch.cat(logits).numpy(), average=None
        )
        return float(np.mean(scores))
