"""Checked features and labels, and Euclidean distances in blocks, so that memory does not grow with the queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from reid_aug.errors import DataError

Labels = Sequence[int] | np.ndarray  # pids or camids, one an image

BLOCK_BYTES = 64 * 2**20  # of distances held at a time


def as_features(features: torch.Tensor | np.ndarray, name: str) -> torch.Tensor:
    """``features`` as a float32 tensor [N, D]; ``name`` is what an error calls them.

    Raises:
        DataError: not two-dimensional, empty, or a row with NaN or infinity in it.
    """
    features = torch.as_tensor(features).detach().float()
    if features.ndim != 2 or 0 in features.shape:
        raise DataError(
            f"{name}: shape {list(features.shape)}, expected [images, dimensions] with at least one image. "
            "Check that the folder they were extracted from is not empty."
        )
    bad = (~torch.isfinite(squared_norms(features))).nonzero().flatten().tolist()
    if bad:
        raise DataError(
            f"{name}: NaN or infinity in {len(bad)} of {len(features)} rows: {_some(bad)}. "
            "Leave these images out, or extract again with a model whose training did not diverge."
        )
    return features


def as_feature_pair(
    query_features: torch.Tensor | np.ndarray, gallery_features: torch.Tensor | np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both through :func:`as_features`, on the gallery's device, and of one dimension.

    Raises:
        DataError: as :func:`as_features`; or the dimensions differ.
    """
    queries, gallery = as_features(query_features, "query_features"), as_features(gallery_features, "gallery_features")
    if queries.shape[1] != gallery.shape[1]:
        raise DataError(
            f"query_features have {queries.shape[1]} dimensions and gallery_features {gallery.shape[1]}. "
            "Extract both with the same model."
        )
    return queries.to(gallery.device), gallery


def as_labels(labels: Labels, length: int, name: str) -> np.ndarray:
    """``labels`` as an integer array [length].

    Raises:
        DataError: of another length or not integers; ``name`` is what the error calls them.
    """
    labels = np.asarray(labels)
    if labels.shape != (length,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"{name}: {labels.dtype} of shape {list(labels.shape)}, expected {length} integers, one for each image."
        )
    return labels


def squared_norms(features: torch.Tensor) -> torch.Tensor:
    """[N, D] -> [N], without a second copy of the features."""
    return torch.cat([part.square().sum(dim=1) for part in features.split(1024)])


def distance_blocks(
    queries: torch.Tensor, gallery: torch.Tensor, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Squared Euclidean distances, a few queries at a time.

    Of L2-normalised features this is ``2 - 2 * cosine``, so it ranks as the cosine similarity does. The operations and
    their order are those of torchreid and BoT, so that float32 rounds, and neighbours tie, as in published numbers.

    Args:
        queries: [Q, D] float32.
        gallery: [G, D] float32.
        block_bytes: size of one block of distances; at least one query is always taken.

    Yields:
        The block's queries as a slice, and their distances [B, G].
    """
    gallery_norms = squared_norms(gallery)
    rows = max(1, block_bytes // (4 * len(gallery)))
    for start in range(0, len(queries), rows):
        block = queries[start : start + rows]
        distances = squared_norms(block)[:, None] + gallery_norms
        yield slice(start, start + len(block)), distances.addmm_(block, gallery.T, alpha=-2)


def _some(rows: list[int], limit: int = 10) -> str:
    return ", ".join(map(str, rows[:limit])) + (", ..." if len(rows) > limit else "")
