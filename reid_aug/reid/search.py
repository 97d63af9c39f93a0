"""Ranked lists: the gallery images nearest to each query, found by faiss."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch

from reid_aug.errors import ConfigError
from reid_aug.reid.distance import Labels, as_feature_pair, as_labels

if TYPE_CHECKING:
    import faiss

EXACT_UP_TO = 1_000_000  # gallery images searched one by one; a larger gallery gets an inverted-file index
RECALL_WANTED = 0.99
RECALL_SAMPLE = 256  # queries on which an index's recall is measured

_log = logging.getLogger(__name__)


def ranked_list(
    query_features: torch.Tensor | np.ndarray,
    query_pids: Labels,
    query_camids: Labels,
    gallery_features: torch.Tensor | np.ndarray,
    gallery_pids: Labels,
    gallery_camids: Labels,
    k: int = 10,
    *,
    exact_up_to: int = EXACT_UP_TO,
    seed: int = 0,
) -> np.ndarray:
    """The ``k`` gallery images nearest to each query, without those of its identity in its own camera ("junk").

    Past ``exact_up_to`` gallery images the search is approximate, by an inverted-file index; its recall on these
    queries is logged as a warning.

    Args:
        query_features: [Q, D].
        query_pids, query_camids: [Q] integers.
        gallery_features: [G, D].
        gallery_pids, gallery_camids: [G] integers.
        k: length of a list.
        exact_up_to: largest gallery that is searched exhaustively.
        seed: of the queries on which the recall is measured.

    Returns:
        [Q, k] int64, positions in the gallery, nearest first; -1 where there are fewer than ``k``.

    Raises:
        DataError: empty sets, shapes that do not match, or NaN in the features.
        ConfigError: ``k`` below 1.
    """
    if k < 1:
        raise ConfigError(f"k={k}: a ranked list has at least 1 image.")
    queries, gallery = (features.cpu().numpy() for features in as_feature_pair(query_features, gallery_features))
    pids = as_labels(query_pids, len(queries), "query_pids"), as_labels(gallery_pids, len(gallery), "gallery_pids")
    camids = (
        as_labels(query_camids, len(queries), "query_camids"),
        as_labels(gallery_camids, len(gallery), "gallery_camids"),
    )
    # Images of one identity in one camera share a number.
    views = np.unique(np.stack([np.concatenate(pids), np.concatenate(camids)]), axis=1, return_inverse=True)[1].ravel()
    query_views, gallery_views = np.split(views, [len(queries)])
    most_junk = np.bincount(gallery_views, minlength=views.max() + 1)[query_views].max()
    found = _nearest(queries, gallery, min(k + int(most_junk), len(gallery)), exact_up_to, seed)
    junk = (gallery_views[found] == query_views[:, None]) | (found < 0)
    kept = np.take_along_axis(np.where(junk, -1, found), np.argsort(junk, axis=1, kind="stable"), axis=1)[:, :k]
    return np.pad(kept, ((0, 0), (0, k - kept.shape[1])), constant_values=-1)


def _nearest(queries: np.ndarray, gallery: np.ndarray, k: int, exact_up_to: int, seed: int) -> np.ndarray:
    """[Q, k] int64, nearest first, -1 where an approximate search found fewer."""
    import faiss

    if len(gallery) <= exact_up_to:
        return faiss.knn(queries, gallery, k)[1]
    sample = np.random.default_rng(seed).permutation(len(queries))[:RECALL_SAMPLE]
    index, recall = inverted_file(gallery, queries[sample], k)
    _log.warning(
        "Approximate ranked lists: recall@%d %.4f on %d queries, %d of %d cells searched in a gallery of %d.",
        *(k, recall, len(sample), index.nprobe, index.nlist, len(gallery)),
    )
    return index.search(queries, k)[1]


def inverted_file(gallery: np.ndarray, sample: np.ndarray, k: int) -> tuple[faiss.IndexIVFFlat, float]:
    """An inverted-file index that searches as many cells as it takes to find RECALL_WANTED of the ``k`` nearest.

    Args:
        gallery: [G, D] float32.
        sample: [S, D] float32, queries on which the recall is measured.
        k: neighbours.

    Returns:
        The index, and its recall@k: the share of the true ``k`` nearest that it finds.
    """
    import faiss

    dim = gallery.shape[1]
    cells = max(1, min(int(4 * len(gallery) ** 0.5), len(gallery) // 64))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(dim), dim, cells)
    index.train(gallery[:: max(1, len(gallery) // (64 * cells))])  # 64 images a cell, spread over the gallery
    index.add(gallery)
    truth = faiss.knn(sample, gallery, k)[1]
    while True:
        found = index.search(sample, k)[1]
        recall = np.mean([np.isin(near, all_found).mean() for near, all_found in zip(truth, found)])
        if recall >= RECALL_WANTED or index.nprobe >= cells:
            return index, float(recall)
        index.nprobe = min(2 * index.nprobe, cells)
