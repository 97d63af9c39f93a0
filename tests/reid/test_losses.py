"""The losses against per-image loops and torch's own."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from reid_aug.reid.losses import CenterLoss, batch_hard_triplet, cross_entropy

LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 2])


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_cross_entropy_is_torchs_where_images_are_alike():
    logits = _random(7, 3)
    ours = cross_entropy(logits, LABELS, torch.full((7,), 0.1), torch.ones(7))
    torch.testing.assert_close(ours, F.cross_entropy(logits, LABELS, label_smoothing=0.1))


def test_cross_entropy_of_weighted_images_is_the_loop():
    logits = _random(7, 3)
    smoothing = torch.tensor([0.1, 0.1, 0.3, 0.0, 0.2, 0.1, 0.5])
    weight = torch.tensor([1.0, 1.0, 0.5, 0.0, 2.0, 1.0, 0.5])
    total = 0.0
    for row, label, s, w in zip(logits.tolist(), LABELS.tolist(), smoothing.tolist(), weight.tolist()):
        log_sum = math.log(sum(math.exp(value) for value in row))
        target = [s / 3 + (1 - s) * (k == label) for k in range(3)]
        total += w * sum(t * (log_sum - value) for t, value in zip(target, row))
    assert cross_entropy(logits, LABELS, smoothing, weight).item() == pytest.approx(total / 6.0, rel=1e-5)


def test_an_image_of_weight_zero_counts_as_absent():
    logits = _random(7, 3)
    weight = torch.tensor([1.0, 1, 1, 1, 0, 0, 0])
    smoothing = torch.full((7,), 0.1)
    without = cross_entropy(logits[:4], LABELS[:4], smoothing[:4], weight[:4])
    torch.testing.assert_close(cross_entropy(logits, LABELS, smoothing, weight), without)
    assert cross_entropy(logits, LABELS, smoothing, torch.zeros(7)).item() == 0


@pytest.mark.parametrize("margin", [0.3, 5.0, None])
def test_batch_hard_triplet_is_the_loop(margin):
    features = _random(7, 4)
    losses = []
    for anchor, label in zip(features, LABELS):
        distances = [math.dist(anchor.tolist(), other.tolist()) for other in features]
        same = (label == LABELS).tolist()
        difference = max(d for d, s in zip(distances, same) if s) - min(d for d, s in zip(distances, same) if not s)
        losses.append(math.log(1 + math.exp(difference)) if margin is None else max(0.0, difference + margin))
    expected = sum(losses) / len(losses)
    assert batch_hard_triplet(features, LABELS, margin).item() == pytest.approx(expected, rel=1e-5)


def test_triplet_of_one_identity_or_no_image_is_zero_and_differentiable():
    for features in (_random(4, 3), torch.zeros(0, 3)):
        features.requires_grad_()
        loss = batch_hard_triplet(features, torch.zeros(len(features), dtype=torch.long), 0.3)
        loss.backward()
        assert loss.item() == 0


def test_triplet_gradient_is_finite_for_equal_images():
    features = _random(2, 3).repeat_interleave(2, dim=0).requires_grad_()
    batch_hard_triplet(features, torch.tensor([0, 0, 1, 1]), 10.0).backward()
    assert torch.isfinite(features.grad).all() and features.grad.abs().sum() > 0


def test_center_loss_is_the_loop_and_its_weight_leaves_the_centers_alone():
    center = CenterLoss(3, 4)
    features = _random(7, 4)
    expected = sum(((f - center.centers[label]) ** 2).sum() for f, label in zip(features, LABELS)) / 7
    loss = center(features, LABELS)
    torch.testing.assert_close(loss, expected)
    (unweighted,) = torch.autograd.grad(loss, center.centers, retain_graph=True)
    (0.0005 * loss).backward()
    center.undo_weight(0.0005)
    torch.testing.assert_close(center.centers.grad, unweighted)


def test_losses_compute_in_float32():
    features, logits = _random(7, 4).half(), _random(7, 3).bfloat16()
    assert batch_hard_triplet(features, LABELS, 0.3).dtype == torch.float32
    assert cross_entropy(logits, LABELS, torch.zeros(7), torch.ones(7)).dtype == torch.float32
