"""A re-ID model in training: its optimisers, moving average and state, on accelerate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from reid_aug.config import ReidConfig, ReidTrainingConfig
from reid_aug.records import Mix
from reid_aug.reid.losses import CenterLoss, batch_hard_triplet, cross_entropy
from reid_aug.reid.memory import keep_freed_memory
from reid_aug.reid.model import ReidModel

_DROPOUT_STREAM = 3  # beside the sampler's and the transforms' streams under the same seed


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """Images as the network takes them.

    Attributes:
        images: float32 [B, 3, H, W], normalised.
        labels: [B] int64.
        synthetic: [B] bool.
        real: [R] int64, positions of the real images; a mask would wait for the network to count them.
    """

    images: Tensor
    labels: Tensor
    synthetic: Tensor
    real: Tensor


def make_accelerator(settings: ReidTrainingConfig) -> Accelerator:
    """The processes and precision of a run."""
    AcceleratorState._reset_state()  # else a second run in a process could not choose another precision
    return Accelerator(mixed_precision=settings.precision, gradient_accumulation_steps=settings.accumulation)


class Learner:
    """Takes batches, steps the model; everything it needs to go on after a kill is in its state."""

    def __init__(self, config: ReidConfig, model: ReidModel, accelerator: Accelerator):
        settings = config.training
        self._accelerator = accelerator
        self.config = config
        self.device = accelerator.device
        self.is_main = accelerator.is_main_process
        if self.device.type == "cpu":
            keep_freed_memory()
        model = model.to(self.device, memory_format=torch.channels_last).train()
        average = get_ema_multi_avg_fn(settings.ema_decay) if settings.ema_decay is not None else None
        self._average = AveragedModel(model, multi_avg_fn=average, use_buffers=True) if average else None
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimiser = torch.optim.Adam(trained, settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
        self._model, self._optimiser = self._accelerator.prepare(model, optimiser)
        self._centers = self._center_optimiser = None
        if config.loss.center_weight > 0:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(settings.seed)
                centers = CenterLoss(model.classifier.out_features, model.dimension)
            # Not prepared: two prepared optimisers would move the one loss scale of float16 twice in a step.
            self._center_optimiser = torch.optim.SGD(centers.parameters(), config.loss.center_learning_rate)
            self._centers = self._accelerator.prepare(centers.to(self.device))

    def batch_numbers(self, iteration: int) -> range:
        """Numbers of this process's batches in an iteration; no two processes or iterations share one."""
        accumulation, processes = self.config.training.accumulation, self._accelerator.num_processes
        first = iteration * accumulation * processes + self._accelerator.process_index
        return range(first, first + accumulation * processes, processes)

    def step(self, iteration: int, batches: Iterable[TrainingBatch], mix: Mix) -> dict[str, float]:
        """One optimiser step on the iteration's batches; the mean of each loss over them."""
        self._set_rate(iteration)
        self._seed(iteration)
        history = []
        for batch in batches:
            with self._accelerator.accumulate(*self._modules()):
                losses = self._losses(batch, mix)
                self._accelerator.backward(losses["loss"])
                self._step()
            history.append(torch.stack(list(losses.values())).detach())
        if self._average is not None:
            self._average.update_parameters(self._accelerator.unwrap_model(self._model))
        return dict(zip(losses, torch.stack(history).mean(dim=0).tolist()))

    def evaluate(self, evaluate: Callable[[ReidModel], Mapping[str, float]]) -> Mapping[str, float]:
        """What ``evaluate`` says of the model as it would be returned now; training goes on unchanged."""
        model = self._current(keep_precision=True)
        values = evaluate(model.eval()) if self.is_main else {}
        model.train()
        self.wait()
        return values

    def result(self) -> ReidModel:
        """The trained model, or its moving average, in evaluation mode."""
        return self._current(keep_precision=False).eval()

    def state(self) -> dict[str, Any]:
        """All that changes in training. Random draws are functions of (seed, iteration) and need no state."""
        unwrap, scaler = self._accelerator.unwrap_model, self._accelerator.scaler
        return {
            "modules": [unwrap(module).state_dict() for module in self._modules()],
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers()],
            "average": None if self._average is None else self._average.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        for module, values in zip(self._modules(), state["modules"]):
            self._accelerator.unwrap_model(module).load_state_dict(values)
        for optimiser, values in zip(self._optimisers(), state["optimisers"]):
            optimiser.load_state_dict(values)
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])

    def wait(self) -> None:
        """Until every process is here."""
        self._accelerator.wait_for_everyone()

    @contextmanager
    def reproducible(self):
        """Dropout knows only the global random state: :meth:`step` seeds it, and this gives it back untouched."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            yield

    def _losses(self, batch: TrainingBatch, mix: Mix) -> dict[str, Tensor]:
        """The total under ``loss``, and its parts before their weights."""
        settings = self.config.loss
        feature, logits = self._model(batch.images)
        real_smoothing = settings.label_smoothing
        synthetic_smoothing = real_smoothing if mix.smoothing is None else mix.smoothing
        smoothing = _by_kind(batch.synthetic, real_smoothing, synthetic_smoothing)
        weight = _by_kind(batch.synthetic, 1.0, mix.weight)
        losses = {"identity": cross_entropy(logits, batch.labels, smoothing, weight)}
        labels = batch.labels
        if not mix.in_triplet:
            feature, labels = feature[batch.real], labels[batch.real]
        losses["triplet"] = batch_hard_triplet(feature, labels, settings.triplet_margin)
        total = losses["identity"] + settings.triplet_weight * losses["triplet"]
        if self._centers is not None:
            losses["center"] = self._centers(feature, labels)
            total = total + settings.center_weight * losses["center"]
        return {"loss": total, **losses}

    def _step(self) -> None:
        """Step network and centers, once the gradients of an iteration are together."""
        with_centers = self._centers is not None and self._accelerator.sync_gradients
        scale = self._loss_scale() if with_centers else 1.0  # asked before the step, which may change it
        self._optimiser.step()
        self._optimiser.zero_grad()
        if with_centers:
            self._step_centers(scale)

    def _step_centers(self, scale: float) -> None:
        """Where gradients overflowed, the loss's ``scale`` fell and the centers wait as the network does.

        (``step_was_skipped`` does not say so of a fused optimiser, which looks at the overflow itself.)
        """
        if self._loss_scale() >= scale:
            self._accelerator.unwrap_model(self._centers).undo_weight(self.config.loss.center_weight * scale)
            self._center_optimiser.step()
        self._center_optimiser.zero_grad()

    def _loss_scale(self) -> float:
        """What float16 training multiplies the loss with, so that its gradients do not vanish."""
        return 1.0 if self._accelerator.scaler is None else self._accelerator.scaler.get_scale()

    def _modules(self) -> list:
        return [self._model] if self._centers is None else [self._model, self._centers]

    def _optimisers(self) -> list:
        return [self._optimiser] if self._centers is None else [self._optimiser, self._center_optimiser]

    def _current(self, keep_precision: bool) -> ReidModel:
        if self._average is not None:
            return self._average.module
        # Without its wrapper the model would go on training in float32.
        return self._accelerator.unwrap_model(self._model, keep_fp32_wrapper=keep_precision)

    def _set_rate(self, iteration: int) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(iteration, self.config.training)

    def _seed(self, iteration: int) -> None:
        key = [self.config.training.seed, _DROPOUT_STREAM, iteration, self._accelerator.process_index]
        torch.manual_seed(int(np.random.default_rng(key).integers(2**63)))


def learning_rate(iteration: int, settings: ReidTrainingConfig) -> float:
    """The rate of an iteration (from 0): linear warm-up from 0.01 of it, then a tenth at each milestone."""
    warmup = settings.warmup * settings.iterations
    factor = 1.0 if iteration >= warmup else 0.01 + 0.99 * iteration / warmup
    drops = sum(iteration >= share * settings.iterations for share in settings.milestones)
    return settings.learning_rate * factor * 0.1**drops


def _by_kind(synthetic: Tensor, real_value: float, synthetic_value: float) -> Tensor:
    """[B] float32: each image's value."""
    return torch.where(synthetic, synthetic_value, real_value)
