"""torchreid's engines following a schedule: losses against naive loops, and whole runs of a tiny model."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from reid_aug.integrations.torchreid import load_checkpoint
from reid_aug.integrations.torchreid_engine import (
    ScheduledSoftmaxEngine,
    ScheduledTripletEngine,
    cross_entropy,
    triplet,
)
from reid_aug.records import Mix
from reid_aug.torchreid_library import import_torchreid

torchreid = import_torchreid()


class TinyModel(nn.Module):
    """torchreid's contract for a model: logits (and features for triplet) in training, features in evaluation."""

    def __init__(self, classes: int, loss: str):
        super().__init__()
        self.loss = loss
        self.embed = nn.Linear(3 * 32 * 16, 8)
        self.classifier = nn.Linear(8, classes)

    def forward(self, images):
        features = self.embed(images.flatten(1))
        if not self.training:
            return features
        logits = self.classifier(features)
        return logits if self.loss == "softmax" else (logits, features)


def make_engine(manager, loss, schedule, **options):
    torch.manual_seed(0)
    model = TinyModel(manager.num_train_pids, loss)
    engine = {"softmax": ScheduledSoftmaxEngine, "triplet": ScheduledTripletEngine}[loss]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return engine(manager, model, optimizer, schedule=schedule, identities=4, **options)


@pytest.mark.parametrize("smoothing, weight, own", [(0.1, 1.0, None), (0.1, 0.5, 0.3), (0.0, 0.25, 0.2), (0.1, 0.0, 0)])
def test_cross_entropy_against_a_loop(smoothing, weight, own):
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.tensor([0, 4, 2, 2, 1, 3, 0])
    synthetic = torch.tensor([False, True, True, False, False, True, False])
    total = weights = 0.0
    for row, label, generated in zip(logits.tolist(), labels.tolist(), synthetic.tolist()):
        epsilon = own if generated and own is not None else smoothing
        target = [(1 - epsilon) * (k == label) + epsilon / 5 for k in range(5)]
        log_sum = np.log(np.sum(np.exp(row)))
        scale = weight if generated else 1.0
        total += scale * sum(-t * (value - log_sum) for t, value in zip(target, row))
        weights += scale
    loss = cross_entropy(logits, labels, Mix(weight=weight, smoothing=own), synthetic, smoothing)
    assert loss.item() == pytest.approx(total / weights, abs=1e-12)


def test_without_generated_images_the_losses_are_torchreids():
    generator = torch.Generator().manual_seed(0)
    logits, features = torch.randn(8, 5, generator=generator), torch.randn(8, 6, generator=generator)
    labels, synthetic = torch.arange(8) % 4, torch.zeros(8, dtype=torch.bool)
    reference = torchreid.losses.CrossEntropyLoss(5, use_gpu=False)
    mix = Mix(real=2, weight=0.3, smoothing=0.9, in_triplet=False)
    torch.testing.assert_close(cross_entropy(logits, labels, mix, synthetic, 0.1), reference(logits, labels))
    margin = torchreid.losses.TripletLoss(margin=0.3)
    torch.testing.assert_close(triplet(features, labels, margin, mix, synthetic), margin(features, labels))


def test_triplet_sees_generated_images_only_where_the_mix_says():
    features = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    labels, synthetic = torch.arange(8) % 2, torch.arange(8) >= 6
    loss = torchreid.losses.TripletLoss(margin=0.3)
    torch.testing.assert_close(triplet(features, labels, loss, Mix(), synthetic), loss(features, labels))
    real = triplet(features, labels, loss, Mix(in_triplet=False), synthetic)
    torch.testing.assert_close(real, loss(features[:6], labels[:6]))
    assert real != loss(features, labels)


def test_a_batch_of_absent_images_has_no_loss_and_no_nan():
    logits = torch.randn(4, 3, requires_grad=True)
    labels, synthetic = torch.tensor([0, 1, 2, 0]), torch.ones(4, dtype=torch.bool)
    mix = Mix(synthetic=2, weight=0.0, in_triplet=False)
    loss = cross_entropy(logits, labels, mix, synthetic, 0.1)
    loss = loss + triplet(logits, labels, torchreid.losses.TripletLoss(), mix, synthetic)
    loss.backward()
    assert loss.item() == 0.0 and torch.equal(logits.grad, torch.zeros(4, 3))


@pytest.mark.parametrize("loss", ["softmax", "triplet"])
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_what_a_generated_image_shows_matters_only_if_it_has_weight(datamanager, loss, weight):
    engine = make_engine(
        datamanager(), loss, lambda i: Mix(real=2, synthetic=1, weight=weight, in_triplet=False), use_gpu=False
    )
    engine.num_batches, engine.batch_idx = 3, 0
    engine.set_model_mode("train")
    data = next(iter(engine.train_loader))
    start = copy.deepcopy(engine.model.state_dict())
    results = []
    for pixels in (0.0, 1.0):
        engine.model.load_state_dict(start)
        data["img"][data["dsetid"] == 1] = pixels
        engine.forward_backward(data)
        results.append(engine.model.embed.weight.clone())
    assert torch.equal(*results) == (weight == 0.0)


@pytest.mark.parametrize("loss", ["softmax", "triplet"])
def test_the_schedule_is_followed_over_epochs_and_from_a_resumed_one(datamanager, loss, tmp_path):
    seen: dict[int, list[str]] = {}

    def schedule(iteration):
        return Mix(real=2) if iteration < 4 else Mix(real=1, synthetic=1)

    def run(start_epoch):
        engine = make_engine(manager, loss, schedule, use_gpu=False)
        forward_backward = engine.forward_backward

        def spy(data):
            seen.setdefault(engine.epoch * engine.num_batches + engine.batch_idx, []).append(data)
            return forward_backward(data)

        engine.forward_backward = spy
        engine.run(save_dir=str(tmp_path / f"from{start_epoch}"), start_epoch=start_epoch, max_epoch=3)

    manager = datamanager()
    run(0)
    run(2)
    assert sorted(seen) == list(range(9))
    for iteration, batches in seen.items():
        assert len(batches) == (2 if iteration >= 6 else 1)
        assert all(batch["impath"] == batches[0]["impath"] for batch in batches)
        assert (batches[0]["dsetid"] == 1).any() == (iteration >= 4)


def test_a_run_without_scheduler_ends_in_a_checkpoint_that_loads(datamanager, tmp_path):
    """torchreid's own engine raises AttributeError there, after all the training."""
    engine = make_engine(datamanager(), "softmax", lambda i: Mix(real=1, either=1), use_gpu=False)
    engine.run(save_dir=str(tmp_path / "log"), max_epoch=1)
    path = tmp_path / "log" / "model" / "model.pth.tar-1"
    plain = torch.load(path, weights_only=True)  # as torchreid's own functions load it
    assert type(plain["rank1"]) is float and 0.0 <= plain["rank1"] <= 1.0
    assert load_checkpoint(path)["epoch"] == 1
    assert engine.get_current_lr() == 0.01
    weights = engine.model.state_dict()
    assert all(torch.equal(plain["state_dict"][name], weights[name]) for name in weights)
