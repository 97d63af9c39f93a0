"""Frechet inception distance (Heusel et al. 2017), from features or from images.

FIDs compare only where the network, its weights and the resizing are the same. Here they are torch-fidelity's, that
is the original TensorFlow Inception and its resizing; the code released with CFLD takes torchvision's ImageNet weights
instead, so its FIDs are on another scale. The real side of the published protocol is the whole training set.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from reid_aug.errors import CheckpointError, DataError, MissingDependencyError
from reid_aug.metrics.weights import load_weights

INCEPTION_WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
SOURCE = f"{INCEPTION_WEIGHTS} is in the releases (v0.2.0) of toshas/torch-fidelity on GitHub"


@dataclass(frozen=True)
class Gaussian:
    """Mean [D] and covariance [D, D] (float64) of the features of ``count`` images; kept, a real set is read once."""

    mean: torch.Tensor
    covariance: torch.Tensor
    count: int


def fit_gaussian(features: Iterable[torch.Tensor]) -> Gaussian:
    """Gaussian of features given as batches [B, D]; memory does not grow with their number.

    Raises:
        DataError: fewer than two images, or a value that is not finite.
    """
    count, total, products = 0, 0.0, 0.0
    for batch in features:
        batch = batch.double()
        count += len(batch)
        total = total + batch.sum(dim=0)
        products = products + batch.T @ batch
    if count < 2:
        raise DataError(f"FID: {count} images have no covariance. Give at least two, and some thousands to compare.")
    mean = total / count
    covariance = (products - count * torch.outer(mean, mean)) / (count - 1)
    if not covariance.isfinite().all():
        raise DataError("FID: features that are not finite. Look for NaN in the images or the network.")
    return Gaussian(mean, covariance, count)


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """``|mu_a - mu_b|^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2))`` (Dowson and Landau 1982), >= 0.

    The trace of the root is taken from ``S_a^(1/2) S_b S_a^(1/2)``, which has the same eigenvalues and is symmetric,
    so that no complex root appears where there are fewer images than features.
    """
    if a.mean.shape != b.mean.shape:
        raise DataError(f"FID: {len(a.mean)} against {len(b.mean)} features. Take both from one network.")
    values, vectors = torch.linalg.eigh(a.covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    shared = torch.linalg.eigvalsh(root @ b.covariance @ root).clamp(min=0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * shared
    return max(distance.item(), 0.0)


def load_inception(weights: str | Path | None = None, device: str | torch.device = "cpu") -> nn.Module:
    """FID's Inception v3 as torchmetrics runs it: uint8 [B, 3, H, W] -> [B, 2048].

    Args:
        weights: the file ``INCEPTION_WEIGHTS`` or the folder it is in; None is torch.hub's own.
        device: where it is computed.

    Raises:
        CheckpointError: the file is not there or is of another network; names the file to give.
        MissingDependencyError: torch-fidelity is not installed.
    """
    try:
        import torch_fidelity  # noqa: F401  (torchmetrics takes the network's layers from it)
    except ImportError:
        raise MissingDependencyError("FID needs torch-fidelity: pip install torch-fidelity.") from None
    from torchmetrics.image.fid import NoTrainInceptionV3

    # Read first as weights alone: torch-fidelity's own reading would also run code that a pickle brings.
    path, _ = load_weights(INCEPTION_WEIGHTS, weights, SOURCE)
    try:
        network = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(path), antialias=False)
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{path}: of another network ({detail}). {SOURCE}.") from None
    return network.to(device, memory_format=torch.channels_last)


def image_gaussian(network: nn.Module, images: Iterable[torch.Tensor]) -> Gaussian:
    """Gaussian of the features of images given as batches, uint8 [B, 3, H, W]; runs where ``network`` lies."""
    device = next(network.parameters()).device

    def features() -> Iterable[torch.Tensor]:
        for batch in images:
            if batch.dtype != torch.uint8 or batch.ndim != 4 or batch.shape[1] != 3:
                raise DataError(f"FID: {batch.dtype} {list(batch.shape)}. Give uint8 images [B, 3, H, W].")
            yield network(batch.to(device)).cpu()

    with torch.inference_mode():
        return fit_gaussian(features())


def fid(real: Iterable[torch.Tensor], generated: Iterable[torch.Tensor], network: nn.Module) -> float:
    """FID of two sets of images, each given as batches, uint8 [B, 3, H, W]; ``network`` from :func:`load_inception`."""
    return frechet_distance(image_gaussian(network, real), image_gaussian(network, generated))
