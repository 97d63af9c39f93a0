"""torchreid's image engines, following a mixing schedule: batches, weights, smoothing and the triplet loss's images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from reid_aug.integrations.torchreid import mixing_loader
from reid_aug.integrations.torchreid_sampler import SYNTHETIC
from reid_aug.records import Mix, Schedule
from reid_aug.torchreid_library import import_torchreid

torchreid = import_torchreid()


class ScheduledEngine:
    """What the two engines below add to torchreid's; a base of theirs, in front of torchreid's engine.

    Args:
        datamanager: its only source is a data set of ``register``.
        model, optimizer: as torchreid's engines take them.
        schedule: iteration, counted over all epochs -> ``Mix``.
        identities: P of the P x K batch.
        seed: of the batches.
        **options: torchreid's own: scheduler, use_gpu, label_smooth, margin, weight_t, weight_x.
    """

    def __init__(
        self, datamanager, model, optimizer, schedule: Schedule, identities: int = 16, seed: int = 0, **options
    ):
        if options.get("scheduler") is None:  # torchreid calls its state_dict() when it saves, after all the training
            options["scheduler"] = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
        super().__init__(datamanager, model, optimizer, **options)
        self.schedule = schedule
        self.train_loader = mixing_loader(datamanager, schedule, identities, seed)

    def train(self, *args, **options) -> None:
        self.train_loader.batch_sampler.set_epoch(self.epoch)  # a resumed run starts with the batches of its epoch
        super().train(*args, **options)

    def forward_backward(self, data: dict) -> dict[str, float]:
        mix = self.schedule(self.epoch * self.num_batches + self.batch_idx)
        self._set_criteria(mix, data["dsetid"] == SYNTHETIC)
        return super().forward_backward(data)

    def save_model(self, epoch: int, rank1: float, save_dir: str, is_best: bool = False) -> None:
        # A plain float: a checkpoint with torchreid's numpy scalar does not load from torch 2.6 on.
        super().save_model(epoch, float(rank1), save_dir, is_best)


class ScheduledSoftmaxEngine(ScheduledEngine, torchreid.engine.ImageSoftmaxEngine):
    """torchreid's ImageSoftmaxEngine with the arguments of :class:`ScheduledEngine`."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._smoothing = self.criterion.eps

    def _set_criteria(self, mix: Mix, synthetic: Tensor) -> None:
        self.criterion = partial(cross_entropy, mix=mix, synthetic=synthetic, smoothing=self._smoothing)


class ScheduledTripletEngine(ScheduledEngine, torchreid.engine.ImageTripletEngine):
    """torchreid's ImageTripletEngine with the arguments of :class:`ScheduledEngine`."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._smoothing, self._triplet = self.criterion_x.eps, self.criterion_t

    def _set_criteria(self, mix: Mix, synthetic: Tensor) -> None:
        self.criterion_x = partial(cross_entropy, mix=mix, synthetic=synthetic, smoothing=self._smoothing)
        self.criterion_t = partial(triplet, loss=self._triplet, mix=mix, synthetic=synthetic)


def cross_entropy(logits: Tensor, labels: Tensor, mix: Mix, synthetic: Tensor, smoothing: float) -> Tensor:
    """Weighted mean of the images' smoothed cross-entropies.

    Args:
        logits: [B, classes].
        labels: int64 [B].
        mix: ``weight`` and ``smoothing`` of generated images.
        synthetic: bool [B].
        smoothing: of real images.
    """
    synthetic = synthetic.to(logits.device)
    own = smoothing if mix.smoothing is None else mix.smoothing
    of_real, of_synthetic = (
        functional.cross_entropy(logits, labels, reduction="none", label_smoothing=epsilon)
        for epsilon in (smoothing, own)
    )
    weight = torch.ones_like(of_real).masked_fill(synthetic, mix.weight)
    losses = torch.where(synthetic, of_synthetic, of_real)
    return (weight * losses).sum() / weight.sum().clamp(min=1e-12)  # 0 for a batch of images of weight 0


def triplet(
    features: Tensor, labels: Tensor, loss: Callable[[Tensor, Tensor], Tensor], mix: Mix, synthetic: Tensor
) -> Tensor:
    """``loss`` of the features [B, D] that the mix lets in: all, or those of real images only."""
    if mix.in_triplet:
        return loss(features, labels)
    real = ~synthetic.to(features.device)
    return loss(features[real], labels[real]) if real.any() else features.sum() * 0.0
