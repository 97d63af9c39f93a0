"""Identity: is a generated image still found as the person it was made from?

Images of held-out people, generated, query the real gallery through a re-ID model. Nothing is downloaded for it, and
it measures what augmentation needs more directly than SSIM does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from reid_aug.errors import DataError


class Ranking(Protocol):
    """What an evaluation gives, in percent 0..100; ``reid.evaluate.Scores`` is one."""

    rank1: float
    mAP: float


Labels = Sequence[int] | np.ndarray


@dataclass(frozen=True)
class IdentityScores:
    """Rank-1 and mAP in percent of generated queries, and of their sources as the mark to reach."""

    rank1: float
    mAP: float
    source_rank1: float
    source_mAP: float
    queries: int


def identity_scores(
    generated_features: torch.Tensor,
    source_features: torch.Tensor,
    pids: Labels,
    camids: Labels,
    gallery: tuple[torch.Tensor, Labels, Labels],
    evaluate: Callable[..., Ranking],
) -> IdentityScores:
    """Query a real gallery with generated images and with the images they were made from.

    A generated image counts as its source's camera's: its background, light and resolution come from there. So the
    protocol's rule (gallery images of the query's identity and camera are junk) leaves out the source and its near
    duplicates, and copying the source scores no better than the source does. The image whose pose was asked for
    stays: the generator saw none of its pixels.

    Args:
        generated_features: [N, D] of the generated images.
        source_features: [N, D] of the source of each.
        pids: N identities.
        camids: N cameras of the sources.
        gallery: features [M, D], identities and cameras of real images.
        evaluate: ``reid.evaluate.evaluate`` or alike, called with features, pids and camids of the queries, then of
            the gallery.

    Raises:
        DataError: numbers of features and labels that differ.
    """
    counts = {
        "generated_features": len(generated_features),
        "source_features": len(source_features),
        "pids": len(pids),
        "camids": len(camids),
    }
    if len(set(counts.values())) != 1 or not len(pids):
        raise DataError(f"identity: {counts}. Give one of each for every generated image.")
    generated = evaluate(generated_features, pids, camids, *gallery)
    source = evaluate(source_features, pids, camids, *gallery)
    return IdentityScores(generated.rank1, generated.mAP, source.rank1, source.mAP, len(pids))
