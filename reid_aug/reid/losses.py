"""The losses of the BoT recipe: smoothed cross-entropy, batch-hard triplet and center loss.

Each takes what a mixed batch of real and generated images needs: a weight and a smoothing for each image. All compute
in float32 whatever the precision of their inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of the label-smoothed cross-entropy (Szegedy et al. 2016: (1 - s) one-hot + s / N).

    Args:
        logits: [B, N].
        labels: [B] int64 in 0..N-1.
        smoothing: [B] in [0, 1).
        weight: [B], at least 0. An image of weight 0 counts as absent, not as an image without loss.

    Returns:
        Scalar; 0 where every weight is 0.
    """
    log_probabilities = F.log_softmax(logits.float(), dim=1)
    of_label = -log_probabilities.gather(1, labels[:, None]).squeeze(1)
    loss = (1 - smoothing) * of_label - smoothing * log_probabilities.mean(dim=1)
    return (weight * loss).sum() / weight.sum().clamp_min(torch.finfo(loss.dtype).tiny)


def batch_hard_triplet(features: Tensor, labels: Tensor, margin: float | None) -> Tensor:
    """Triplet loss of every anchor with its farthest positive and nearest negative (Hermans et al. 2017, Eq. 5).

    Args:
        features: [B, D], not normalised; Euclidean distance.
        labels: [B] int64.
        margin: of the hinge; None is the soft margin, ``log(1 + exp(d_ap - d_an))``.

    Returns:
        Scalar, the mean over anchors that have a negative; 0 where none has.
    """
    features = features.float()
    if not len(features):
        return features.sum()
    same = labels[:, None] == labels[None, :]
    # The exact form: the Gram-matrix form loses the small distances that the hardest negatives are about.
    distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    farthest_positive = distances.masked_fill(~same, -torch.inf).max(dim=1).values
    nearest_negative = distances.masked_fill(same, torch.inf).min(dim=1).values
    difference = farthest_positive - nearest_negative  # minus infinity without a negative, and then a loss of 0
    losses = F.softplus(difference) if margin is None else F.relu(difference + margin)
    return losses.sum() / (~same.all(dim=1)).sum().clamp_min(1)


class CenterLoss(nn.Module):
    """Mean squared distance of features to their identity's learned center (Wen et al. 2016).

    The centers have their own optimiser; :meth:`undo_weight` gives them the gradient of the unweighted loss, as the
    reference does, so that the loss's weight moves the network and not the centers.
    """

    def __init__(self, num_classes: int, dimension: int):
        super().__init__()
        self.centers = nn.Parameter(torch.randn(num_classes, dimension))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """``features`` [B, D], ``labels`` [B] int64 -> scalar; 0 for an empty batch."""
        squared = (features.float() - self.centers[labels]).square().sum(dim=1)
        return squared.sum() / max(len(squared), 1)

    def undo_weight(self, weight: float) -> None:
        """Divide the centers' gradient by the weight the loss was given in the total."""
        self.centers.grad.div_(weight)
