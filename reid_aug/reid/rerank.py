"""Re-ranking with k-reciprocal encoding (Zhong et al., CVPR 2017), in sparse form.

The published code fills dense matrices of (queries + gallery) squared, four of them. All but the distances is nearly
empty, so here neighbourhoods are sparse 0/1 matrices with an image a row, set operations on them are products, and
distances are kept only between queries and gallery. The numbers are the published code's.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse

from reid_aug.errors import ConfigError
from reid_aug.reid.distance import BLOCK_BYTES, as_feature_pair, distance_blocks

TINY = np.finfo(np.float32).tiny  # where all images are the same, no distance is above 0


def k_reciprocal(
    query_features: torch.Tensor | np.ndarray,
    gallery_features: torch.Tensor | np.ndarray,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    block_bytes: int = BLOCK_BYTES,
) -> np.ndarray:
    """Re-ranked distances of queries to gallery images, for :func:`~reid_aug.reid.evaluate.evaluate_distances`.

    Args:
        query_features: [Q, D], L2-normalised for the published numbers.
        gallery_features: [G, D].
        k1: neighbours whose neighbour an image must be in turn.
        k2: nearest images over which encodings are averaged (the paper's local query expansion); 1 leaves it out.
        lambda_value: weight of the original distance, 0..1; the Jaccard distance has the rest.
        block_bytes: original distances held at a time.

    Returns:
        [Q, G] float32 in [0, 1].

    Raises:
        DataError: empty features, dimensions that differ, NaN in the features.
        ConfigError: a parameter out of range.
    """
    if k1 < 1 or k2 < 1:
        raise ConfigError(f"k1={k1}, k2={k2}: both count neighbours and must be at least 1.")
    if not 0 <= lambda_value <= 1:
        raise ConfigError(f"lambda_value={lambda_value}: a weight, must lie in [0, 1].")
    queries, gallery = as_feature_pair(query_features, gallery_features)
    features = torch.cat([queries, gallery]).cpu()
    distances, farthest, neighbours = _survey(features, len(queries), max(k1 + 1, k2), block_bytes)
    encoding = _encode(features.numpy(), _expanded_neighbourhoods(neighbours, k1), farthest)
    if k2 > 1:
        encoding = _adjacency(neighbours[:, :k2]).astype(np.float32) @ encoding / min(k2, len(features))
    distances *= lambda_value
    _add_jaccard(distances, encoding[: len(queries)], encoding[len(queries) :], 1 - lambda_value)
    return distances


def _survey(
    features: torch.Tensor, num_queries: int, k: int, block_bytes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One pass over all distances between the N = Q + G images.

    Returns:
        Distances of queries to gallery [Q, G], each row divided by that query's largest distance to anything; the
        largest squared distance of each image [N]; its k nearest images, itself among them, nearest first, ties in
        list order [N, k].
    """
    length = len(features)
    k = min(k, length)
    scaled = np.empty((num_queries, length - num_queries), np.float32)
    farthest, neighbours = np.empty(length, np.float32), np.empty((length, k), np.int32)
    for rows, block in distance_blocks(features, features, block_bytes):
        limits = block.topk(k, dim=1, largest=False).values[:, -1].numpy()
        block = block.numpy()
        farthest[rows] = np.maximum(block.max(axis=1), TINY)
        for image, row, limit in zip(range(rows.start, rows.stop), block, limits):
            near = np.flatnonzero(row <= limit)
            neighbours[image] = near[np.argsort(row[near], kind="stable")[:k]]
        query_rows = slice(rows.start, min(rows.stop, num_queries))
        count = max(0, query_rows.stop - query_rows.start)
        scaled[query_rows] = block[:count, num_queries:] / farthest[rows][:count, None]
    return scaled, farthest, neighbours


def _adjacency(neighbours: np.ndarray) -> sparse.csr_array:
    """Lists of neighbours [N, k] as a 0/1 matrix [N, N]."""
    length, k = neighbours.shape
    ones = np.ones(length * k, np.int32)
    return sparse.csr_array((ones, neighbours.ravel(), np.arange(0, length * k + 1, k)), shape=(length, length))


def _reciprocal(neighbours: np.ndarray) -> sparse.csr_array:
    """R(i, k): the neighbours of i that have i among theirs (Eq. 2 of Zhong et al.), [N, N] of 0/1."""
    adjacency = _adjacency(neighbours)
    return adjacency.multiply(adjacency.T).tocsr()


def _expanded_neighbourhoods(neighbours: np.ndarray, k1: int) -> sparse.csr_array:
    """R*(i, k1): R(i, k1), and R(c, k1 / 2) of its members c where two thirds of that lie in R(i, k1) (Eq. 3).

    [N, N], not 0 where a member.
    """
    members = _reciprocal(neighbours[:, : k1 + 1])
    half = _reciprocal(neighbours[:, : int(np.around(k1 / 2)) + 1])
    # common[i, c] = |R(i, k1) and R(c, k1 / 2)|, for the c in R(i, k1)
    common = (members @ half.T).multiply(members).tocoo()
    joins = 3 * common.data > 2 * half.sum(axis=1)[common.col]
    joining = sparse.csr_array(
        (np.ones(joins.sum(), np.int32), (common.row[joins], common.col[joins])), shape=members.shape
    )
    return (members + joining @ half).tocsr()


def _encode(features: np.ndarray, members: sparse.csr_array, farthest: np.ndarray) -> sparse.csr_array:
    """V: exp(-distance) to the members of each image's neighbourhood (Eq. 7), each row summing to 1. [N, N] float32."""
    weights = np.empty(members.nnz, np.float32)
    for image, feature in enumerate(features):  # a neighbourhood at a time stays in the cache
        part = slice(members.indptr[image], members.indptr[image + 1])
        difference = features[members.indices[part]] - feature
        closeness = np.exp(-np.einsum("nd,nd->n", difference, difference) / farthest[image])
        weights[part] = closeness / closeness.sum()
    return sparse.csr_array((weights, members.indices, members.indptr), shape=members.shape)


def _add_jaccard(distances: np.ndarray, queries: sparse.csr_array, gallery: sparse.csr_array, weight: float) -> None:
    """Add ``weight`` times the Jaccard distance of the encodings (Eq. 10) to ``distances`` [Q, G], in place.

    Rows of an encoding sum to 1, so the sum of the maxima is 2 less that of the minima.
    """
    holders = gallery.tocsc()  # by column: the gallery images that have an image in their encoding
    for query in range(len(distances)):
        part = slice(queries.indptr[query], queries.indptr[query + 1])
        shared = holders[:, queries.indices[part]]
        minima = np.minimum(shared.data, np.repeat(queries.data[part], np.diff(shared.indptr)))
        overlap = np.bincount(shared.indices, minima, minlength=distances.shape[1])
        distances[query] += weight * (1 - overlap / (2 - overlap))
