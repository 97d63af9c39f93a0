"""Measurements that ``reid-aug bench reid`` prints."""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from reid_aug.reid.evaluate import CMC_RANKS, evaluate
from reid_aug.torchreid_library import import_torchreid

IDENTITIES = 750  # of the Market-1501 test set
CAMERAS = 6


def bench_evaluation(
    queries: int = 3368, gallery: int = 15913, dim: int = 2048, seed: int = 0
) -> dict[str, float | str]:
    """Time the evaluation of clustered random features, here and by torchreid's Python code; Market-1501's size.

    Both begin at the features. torchreid's share is its Euclidean distance matrix and ``evaluate_rank`` without
    Cython, which takes minutes at the default size.

    Returns:
        scores: ours, in words.
        seconds, torchreid_seconds: of all, and torchreid_rank_seconds of its ``evaluate_rank`` alone.
        ratio: torchreid_rank_seconds / seconds, that is, with our distances counted and theirs not.
        max_difference: largest difference of Rank-1, 5, 10 and mAP as fractions of 1.
        peak_memory_mb: of the process when ours ended (NaN on Windows), and features_mb of it for the features.
    """
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((IDENTITIES, dim), dtype=np.float32)
    query_features, *query_labels = _clustered(rng, centres, queries)
    gallery_features, *gallery_labels = _clustered(rng, centres, gallery)
    features_mb = (query_features.nbytes + gallery_features.nbytes) / 2**20

    start = time.perf_counter()
    ours = evaluate(query_features, *query_labels, gallery_features, *gallery_labels)
    seconds, peak_memory_mb = time.perf_counter() - start, _peak_memory_mb()

    metrics = import_torchreid().metrics
    start = time.perf_counter()
    distances = metrics.compute_distance_matrix(torch.from_numpy(query_features), torch.from_numpy(gallery_features))
    distance_seconds = time.perf_counter() - start
    labels = (query_labels[0], gallery_labels[0], query_labels[1], gallery_labels[1])
    cmc, average_precision = metrics.evaluate_rank(distances.numpy(), *labels, use_cython=False)
    torchreid_seconds = time.perf_counter() - start

    theirs = [*(cmc[k - 1] for k in CMC_RANKS), average_precision]
    differences = np.array([ours.rank1, ours.rank5, ours.rank10, ours.mAP]) / 100 - theirs
    return {
        "scores": str(ours),
        "seconds": seconds,
        "torchreid_seconds": torchreid_seconds,
        "torchreid_rank_seconds": torchreid_seconds - distance_seconds,
        "ratio": (torchreid_seconds - distance_seconds) / seconds,
        "max_difference": float(np.abs(differences).max()),
        "peak_memory_mb": peak_memory_mb,
        "features_mb": features_mb,
    }


def _clustered(rng: np.random.Generator, centres: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """L2-normalised features around identity centres, pids and camids, about as hard as a trained model's."""
    pids, camids = rng.integers(len(centres), size=length), rng.integers(1, CAMERAS + 1, size=length)
    spread = rng.uniform(2.0, 5.0, size=(length, 1)).astype(np.float32)  # some images are easy, some are not
    features = centres[pids] + spread * rng.standard_normal((length, centres.shape[1]), dtype=np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True), pids, camids


def _peak_memory_mb() -> float:
    """NaN where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # macOS counts bytes, Linux KiB
