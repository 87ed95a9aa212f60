"""One training run: state after epoch k → state after epoch k+1, and its metrics."""

import math
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from canopy_search.training.checkpoint import RunState
from canopy_search.training.data.dataset import Dataset
from canopy_search.training.data.labels.targets import as_float, is_known
from canopy_search.training.data.loading import Batch, BatchLoader, epoch_seed
from canopy_search.training.data.normalise import normalised
from canopy_search.training.device.compiling import CompiledNetwork
from canopy_search.training.device.device_cache import images_on_device, release_images
from canopy_search.training.device.host_memory import keep_freed_memory
from canopy_search.training.device.memory import peak_memory_mib
from canopy_search.training.device.out_of_memory import (
    Shortage,
    free_garbage,
    return_unused_memory,
    within_memory,
)
from canopy_search.training.device.precision import Precision, autocast, resolve_precision
from canopy_search.training.errors import DivergedError, OutOfMemoryError
from canopy_search.training.liveness import progressed, silent_step
from canopy_search.training.metrics import (
    EpochMetrics,
    Evaluation,
    NonFiniteLogitsError,
    accuracies_of,
    multilabel_metrics,
    one_vs_rest_logits,
)
from canopy_search.training.network.average import averaged
from canopy_search.training.network.backbones import (
    build_backbone,
    heads_of,
    load_weights,
    pixel_scale,
    start_head_at,
)
from canopy_search.training.network.depth import layers_above
from canopy_search.training.network.layers import checkpoint_blocks
from canopy_search.training.optimization.accumulation import (
    largest_batch,
    micro_batch_count,
    micro_batch_size,
)
from canopy_search.training.optimization.losses import (
    MultilabelLoss,
    check_targets_fit,
    loss_for,
)
from canopy_search.training.optimization.optimizers import (
    build_optimizer,
    parameter_groups,
    set_learning_rate,
)
from canopy_search.training.optimization.priors import prior_logits
from canopy_search.training.optimization.schedules import learning_rates
from canopy_search.training.resolve import ResolvedSettings, resolve_settings
from canopy_search.training.settings import EXCLUSIVE_LOSS, TrainingSettings

BatchProgress = Callable[[int, int, int], None]

# Below this loss scale, after some 30 skipped steps, scaling does not help; as in fairseq's
# ``--min-loss-scale``.
LOWEST_LOSS_SCALE = 1e-4

# Without gradients there is room for more images at once, and fewer calls for the same work.
EVALUATION_BATCH_FACTOR = 2

T = TypeVar("T")


class TrainingRun:
    """A training run as a pure function of its settings and data.

    The state after epoch k and the settings give the state after epoch k+1: all randomness of an
    epoch comes from (seed, epoch). A run restored at k equals an uninterrupted run bit for bit: on
    the same CPU always, on the same model of GPU with ``deterministic: true``.

    Args:
        settings: one run's settings, resolved for this machine; see `of`.
        dataset: images, targets and the split.
        accumulation: see the attribute.

    Attributes:
        accumulation: number of micro-batches per batch in the next epochs, to need less memory. The
            gradient of a step stays the mean over the whole batch; batch normalisation and dropout,
            which see one micro-batch at a time, give different numbers.

    Raises:
        TrainingError: a name is unknown, or the settings do not fit together or the machine.
        OutOfMemoryError: the network alone does not fit in memory.
    """

    def __init__(self, settings: ResolvedSettings, dataset: Dataset, accumulation: int = 1) -> None:
        self.settings = settings
        self.dataset = dataset
        self.accumulation = accumulation
        self.epoch = 0
        self._device = torch.device(settings.device)
        self._precision = resolve_precision(settings.precision, self._device)
        _configure_backend(settings)
        return_unused_memory()  # of another network, whose blocks have other sizes
        self._evaluation_cut = 1
        check_targets_fit(settings.loss, dataset.targets)
        self._scale = pixel_scale(settings.backbone)
        self.model, self._loss = self._with_room(self._built)
        self._heads = [head for _, head in heads_of(self.model)]
        self._groups = parameter_groups(
            self.model.parameters(), layers_above(self.model, self._heads), settings
        )
        self._optimizer, self._average = self._with_room(self._updating)
        train_targets = torch.from_numpy(as_float(dataset.targets[dataset.split.train]))
        self._train_count = float(self._loss.count(train_targets))
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._precision == "fp16")
        self._network = CompiledNetwork(self.model, settings.compile)
        self._on_device = images_on_device(dataset, settings.device_cache, self._device)
        self._train_loader = self._loader(dataset.split.train, settings.batch_size)

    @classmethod
    def of(
        cls, settings: TrainingSettings, dataset: Dataset, accumulation: int = 1
    ) -> "TrainingRun":
        """Returns a run whose every ``auto`` is resolved for this machine and this data."""
        return cls(resolve_settings(settings, len(dataset.split.train)), dataset, accumulation)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and kept: with ``training.ema`` the average of `model`."""
        return self.model if self._average is None else self._average.module

    @property
    def is_finished(self) -> bool:
        """Whether all epochs of the settings are trained."""
        return self.epoch >= self.settings.epochs

    def train_epoch(self, on_batch: BatchProgress | None = None) -> EpochMetrics:
        """Trains the next epoch and validates.

        Args:
            on_batch: called with (epoch, batches done, batches of the epoch).

        Raises:
            DivergedError: the loss or a logit is NaN or infinite; the run cannot continue.
            OutOfMemoryError: the device or the host ran out of memory. The run then stopped in the
                middle of an epoch: call `restore`, or build another run, before training on.
        """
        epoch = self.epoch + 1
        metrics = within_memory(partial(self._next_epoch, on_batch))
        if not isinstance(metrics, Shortage):
            return metrics
        self._optimizer.zero_grad(set_to_none=True)
        made_room = self._free_memory()
        raise self._step_does_not_fit(epoch, metrics, made_room=made_room)

    def _next_epoch(self, on_batch: BatchProgress | None) -> EpochMetrics:
        """Trains the next epoch and validates, without handling out-of-memory errors."""
        settings = self.settings
        rates = learning_rates(settings, self.epoch, len(self._train_loader))
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        started = time.perf_counter()
        train_loss = self._train_steps(rates, on_batch)
        train_s = time.perf_counter() - started
        self.epoch += 1
        if not math.isfinite(train_loss):
            raise DivergedError(f"the training loss is {train_loss} in epoch {self.epoch}")
        if self._scaler.is_enabled() and self._scaler.get_scale() < LOWEST_LOSS_SCALE:
            raise DivergedError(f"fp16 overflows in step after step in epoch {self.epoch}")
        return EpochMetrics(
            epoch=self.epoch,
            lr=rates[-1],
            loss_name=settings.loss,
            train_loss=train_loss,
            validation=self.evaluate(self.dataset.split.validation),
            train_s=train_s,
            wait_s=self._train_loader.wait_s,
            images_per_s=len(self.dataset.split.train) / train_s,
            peak_memory_mib=peak_memory_mib(self._device),
        )

    def _train_steps(self, rates: list[float], on_batch: BatchProgress | None) -> float:
        """Takes an optimizer step with each learning rate and returns their mean loss."""
        settings = self.settings
        # What is frozen computes as in validation: no dropout, no new statistics.
        is_frozen = self.epoch < settings.freeze_epochs
        self.model.train(not is_frozen).requires_grad_(not is_frozen)
        for head in self._heads:
            head.requires_grad_()
        # Summed on the device: reading each step's loss would make the GPU wait for the host.
        loss_sum = torch.zeros((), device=self._device)
        images = torch.zeros((), device=self._device)
        epoch = self.epoch + 1
        # Always closed: the traceback of an error would keep the loader's threads alive.
        with (
            self._forked_rng(),
            closing(self._train_loader.training_batches(settings.seed, epoch)) as batches,
        ):
            torch.manual_seed(epoch_seed(settings.seed, epoch))
            for done, (batch, rate) in enumerate(zip(batches, rates, strict=True), start=1):
                set_learning_rate(self._optimizer, self._groups, rate)
                if self._scaler.is_enabled():
                    loss, is_finite = self._step_in_fp16(batch)
                    loss_sum += loss
                    images += is_finite * self._loss.count(batch.targets)
                else:
                    loss_sum += self._step(batch)
                if self._average is not None:
                    self._average.update_parameters(self.model)
                if on_batch is not None:
                    on_batch(epoch, done, len(self._train_loader))
        if self._scaler.is_enabled():
            return float(loss_sum / images)
        return float(loss_sum) / self._train_count

    def _step(self, batch: Batch) -> Tensor:
        """Takes one optimizer step and returns the sum of the images' losses, on the device."""
        self._optimizer.zero_grad(set_to_none=True)
        loss_sum = torch.zeros((), device=self._device)
        count = micro_batch_count(len(batch.targets), self.accumulation)
        for part in batch.parts(count):
            with autocast(self._precision, self._device):
                logits = self._network(normalised(part.pixels, self._scale), is_cut=count > 1)
            loss = self._loss(logits, part.targets)
            # Losses are means over images, so each part is weighted by its number of images.
            images = self._loss.count(part.targets)
            self._scaler.scale(loss * (images / self._loss.count(batch.targets))).backward()
            loss_sum += loss.detach() * images
        clip_norm = self.settings.clip_norm
        if clip_norm is not None:
            self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss_sum

    def _step_in_fp16(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Takes one step like `_step`; one that overflows changes nothing but the loss scale.

        The scaler keeps its gradients from the weights, but not its features from the statistics of
        batch normalisation. An average of the weights counts the unchanged weights once more.

        Returns:
            The sum of the images' losses, 0 if it overflowed; and whether it did not.
        """
        statistics = list(self.model.buffers())
        before = [each.clone() for each in statistics]
        loss = self._step(batch)
        is_finite = torch.isfinite(loss)
        for now, each in zip(statistics, before, strict=True):
            now.copy_(torch.where(is_finite, now, each))
        return torch.where(is_finite, loss, 0.0), is_finite

    def evaluate(self, indices: npt.NDArray[np.int64]) -> Evaluation:
        """Scores the current model on the images at `indices`.

        Raises:
            DivergedError: the loss or a logit is NaN or infinite.
            OutOfMemoryError: not even a single image fits in memory.
        """
        started = time.perf_counter()
        outputs, targets = self._outputs(indices)
        if self._precision == "fp16" and not bool(torch.isfinite(outputs).all()):
            outputs, targets = self._outputs(indices, "fp32")
        return self._with_room(partial(self._scored, outputs, targets, started))

    def _scored(self, outputs: Tensor, targets: Tensor, started: float) -> Evaluation:
        loss = float(self._loss(outputs, targets))
        if not math.isfinite(loss):
            raise DivergedError(f"the loss is {loss} after epoch {self.epoch}")
        try:
            logits, targets = self._independent(outputs).cpu(), targets.cpu()
            with silent_step():
                metrics = multilabel_metrics(logits, targets, labels=self.dataset.labels)
        except NonFiniteLogitsError as error:
            raise DivergedError(f"{error} after epoch {self.epoch}") from error
        is_exclusive = self.settings.loss == EXCLUSIVE_LOSS
        accuracies = accuracies_of(logits, targets) if is_exclusive else {}
        seconds = time.perf_counter() - started
        return Evaluation(loss, metrics, logits.numpy(), seconds, accuracies)

    def logits(self, indices: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Returns logits and targets, each (images, labels) in float32 on the run's device.

        The sigmoid of a logit is a label's probability, also after softmax cross-entropy.

        Raises:
            OutOfMemoryError: not even a single image fits.
        """
        outputs, targets = self._outputs(indices)
        return self._independent(outputs), targets

    def _independent(self, outputs: Tensor) -> Tensor:
        return one_vs_rest_logits(outputs) if self.settings.loss == EXCLUSIVE_LOSS else outputs

    def _outputs(
        self, indices: npt.NDArray[np.int64], precision: Precision | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns what the network computes and targets, both (images, labels), float32.

        If memory runs out, the batches of this and later evaluations are smaller; those of training
        are not, and the weights do not change.

        Args:
            indices: rows of the images.
            precision: to compute in; by default the run's.

        Raises:
            OutOfMemoryError: not even a single image fits.
        """
        micro = micro_batch_size(self.settings.batch_size, self.accumulation)
        whole = min(EVALUATION_BATCH_FACTOR * micro, len(indices))
        while True:
            images = max(1, whole // self._evaluation_cut)
            found = within_memory(
                partial(self._outputs_at_once, indices, images, precision or self._precision)
            )
            if not isinstance(found, Shortage):
                return found
            self._optimizer.zero_grad(set_to_none=True)
            if self._free_memory():
                continue
            if images == 1:
                with_what = f" with a single image of {self.dataset.image_px} px"
                raise self._does_not_fit(with_what, found)
            self._evaluation_cut *= 2

    @torch.inference_mode()
    def _outputs_at_once(
        self, indices: npt.NDArray[np.int64], images_at_once: int, precision: Precision
    ) -> tuple[Tensor, Tensor]:
        network = self.evaluated.eval()
        loader = self._loader(indices, images_at_once)
        outputs, targets = [], []
        with closing(loader.evaluation_batches()) as batches:
            for batch in batches:
                with autocast(precision, self._device):
                    outputs.append(network(normalised(batch.pixels, self._scale)).float())
                targets.append(batch.targets)
                progressed()
        return torch.cat(outputs), torch.cat(targets)

    def state(self) -> RunState:
        """Returns the state after the latest epoch; its tensors are not copied."""
        state = RunState(
            epoch=self.epoch,
            model=self.model.state_dict(),
            optimizer=self._optimizer.state_dict(),
            scaler=self._scaler.state_dict(),
        )
        if self._average is not None:
            state["average"] = self._average.state_dict()
        return state

    def restore(self, state: RunState) -> None:
        """Sets the run to `state`.

        Raises:
            RuntimeError: the state belongs to another backbone.
            ValueError: the state belongs to another optimizer.
            OutOfMemoryError: the optimizer's state does not fit in memory.
        """
        self._with_room(partial(self._load, state))

    def _load(self, state: RunState) -> None:
        load_weights(self.model, state["model"])
        if self._average is not None:
            load_weights(self._average, state.get("average", {}))
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self.epoch = state["epoch"]

    def _loader(self, indices: npt.NDArray[np.int64], batch_size: int) -> BatchLoader:
        return BatchLoader(self.dataset, indices, batch_size, self._device, self._on_device)

    def _forked_rng(self) -> AbstractContextManager[None]:
        """Restores the process's random generators after an epoch has seeded them."""
        devices = [self._device] if self._device.type == "cuda" else []
        return torch.random.fork_rng(devices=devices)

    def _built(self) -> tuple[nn.Module, MultilabelLoss]:
        """Returns network and loss, on the device."""
        settings, dataset = self.settings, self.dataset
        model = build_backbone(
            settings.backbone,
            labels=len(dataset.labels),
            image_px=dataset.image_px,
            weights=settings.weights,
            seed=settings.seed,
        ).to(memory_format=torch.channels_last)
        train_targets = dataset.targets[dataset.split.train]
        if settings.head_bias == "priors":
            start_head_at(model, prior_logits(settings.loss, train_targets))
        model.to(self._device)
        if settings.gradient_checkpointing:
            checkpoint_blocks(model)
        is_masked = not is_known(dataset.targets).all()
        loss = loss_for(settings, train_targets, is_masked=is_masked).to(self._device)
        return model, loss

    def _updating(self) -> tuple[Optimizer, AveragedModel | None]:
        """Returns the optimizer, and the average of the weights if there is one."""
        settings = self.settings
        optimizer = build_optimizer(self._groups, settings.optimizer, self._device)
        average = None if settings.ema is None else averaged(self.model, settings.ema)
        return optimizer, average

    def _with_room(self, work: Callable[[], T]) -> T:
        """Does `work`, and once more after freeing memory if it does not fit.

        Raises:
            OutOfMemoryError: it does not fit either.
        """
        done = within_memory(work)
        if isinstance(done, Shortage):
            self._free_memory()
            done = within_memory(work)
        if isinstance(done, Shortage):
            raise self._does_not_fit("", done)
        return done

    def _free_memory(self) -> bool:
        """Frees the memory of failed work, so that it can be retried.

        Returns:
            Whether the images cached in the device's memory were freed too.
        """
        made_room = release_images(self.dataset, self.settings.device_cache)
        if made_room:
            self._on_device = None
            self._train_loader = self._loader(self.dataset.split.train, self.settings.batch_size)
        free_garbage()
        return made_room

    def _step_does_not_fit(
        self, epoch: int, shortage: Shortage, *, made_room: bool
    ) -> OutOfMemoryError:
        settings = self.settings
        images = largest_batch(len(self.dataset.split.train), settings.batch_size)
        micro = micro_batch_size(images, self.accumulation)
        cut = f" in micro-batches of {micro}" if micro < images else ""
        return OutOfMemoryError(
            f"{settings.backbone} with batch_size {settings.batch_size}{cut} and images of "
            f"{self.dataset.image_px} px does not fit in memory on {settings.device} in epoch "
            f"{epoch} ({shortage.text})",
            "set training.device_cache to off, or choose a smaller training.batch_size"
            if made_room
            else "choose a smaller training.batch_size or data.image_px, or another backbone",
            epoch=epoch,
            made_room=made_room,
            cut_helps=not made_room,
        )

    def _does_not_fit(self, with_what: str, shortage: Shortage) -> OutOfMemoryError:
        return OutOfMemoryError(
            f"{self.settings.backbone}{with_what} does not fit in memory on "
            f"{self.settings.device} ({shortage.text})",
            "end other programs that use it, or choose another backbone",
            epoch=self.epoch,
        )


def _configure_backend(settings: TrainingSettings) -> None:
    """Sets the process-wide switches that affect a run's numbers or speed."""
    if settings.device == "cpu":
        keep_freed_memory()
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(settings.deterministic)
    torch.backends.cudnn.benchmark = not settings.deterministic
    if isinstance(settings.threads, int):
        torch.set_num_threads(settings.threads)
