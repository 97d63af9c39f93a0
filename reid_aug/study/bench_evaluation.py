"""Evaluation and re-ranking measured at a data set's size, beside torchreid's Python code in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from reid_aug.data.market1501 import Market1501
from reid_aug.metrics.efficiency import MemoryMeter
from reid_aug.reid.evaluate import CMC_RANKS, evaluate, evaluate_distances
from reid_aug.reid.model import ReidModel
from reid_aug.reid.rerank import k_reciprocal
from reid_aug.study.evaluate_reid import Evaluation
from reid_aug.torchreid_library import import_torchreid

IDENTITIES = 750  # of the Market-1501 test set
CAMERAS = 6


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """L2-normalised features [N, D] float32 of query or gallery, their pids [N] and camids [N]."""

    features: torch.Tensor
    pids: np.ndarray
    camids: np.ndarray

    @property
    def parts(self) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
        return self.features, self.pids, self.camids


def extracted(model: ReidModel, market: Market1501) -> tuple[FeatureSet, FeatureSet]:
    """Query and gallery of a data set as a trained model sees them."""
    features = Evaluation(market, model.config.image_size).features(model)
    sets = (market.query, market.gallery)
    query, gallery = (FeatureSet(of_set, part.pids, part.camids) for of_set, part in zip(features, sets))
    return query, gallery


def clustered(
    queries: int = 3368, gallery: int = 15913, dim: int = 2048, seed: int = 0
) -> tuple[FeatureSet, FeatureSet]:
    """Random query and gallery around identity centres, about as hard as a trained model's; Market-1501's size."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((IDENTITIES, dim), dtype=np.float32)

    def draw(length: int) -> FeatureSet:
        pids, camids = rng.integers(len(centres), size=length), rng.integers(1, CAMERAS + 1, size=length)
        spread = rng.uniform(2.0, 5.0, size=(length, 1)).astype(np.float32)  # some images are easy, some are not
        features = centres[pids] + spread * rng.standard_normal((length, dim), dtype=np.float32)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        return FeatureSet(torch.from_numpy(features), pids, camids)

    return draw(queries), draw(gallery)


def bench_evaluation(query: FeatureSet, gallery: FeatureSet) -> dict[str, Any]:
    """Time the full protocol here and by torchreid, whose share is its distance matrix and ``evaluate_rank`` in Python.

    torchreid's takes minutes at Market-1501's size. Both begin at the features.

    Returns:
        scores: ours, in words.
        seconds, torchreid_seconds: of all, and torchreid_rank_seconds of its ``evaluate_rank`` alone.
        ratio: torchreid_rank_seconds / seconds, that is, with our distances counted and theirs not.
        max_difference: largest difference of Rank-1, 5, 10 and mAP as fractions of 1.
        peak_memory_mb, torchreid_peak_memory_mb: beyond the features (NaN where the system does not say).
    """
    ours, seconds, memory = _measure(lambda: evaluate(*query.parts, *gallery.parts))
    library = import_torchreid()
    rank_seconds = []

    def torchreid() -> list[float]:
        distances = library.metrics.compute_distance_matrix(query.features, gallery.features).numpy()
        labels = (query.pids, gallery.pids, query.camids, gallery.camids)
        start = time.perf_counter()
        cmc, mean_average_precision = library.metrics.evaluate_rank(distances, *labels, use_cython=False)
        rank_seconds.append(time.perf_counter() - start)
        return [*(cmc[k - 1] for k in CMC_RANKS), mean_average_precision]

    theirs, torchreid_seconds, torchreid_memory = _measure(torchreid)
    differences = np.array([ours.rank1, ours.rank5, ours.rank10, ours.mAP]) / 100 - theirs
    return {
        "scores": str(ours),
        "seconds": seconds,
        "torchreid_seconds": torchreid_seconds,
        "torchreid_rank_seconds": rank_seconds[0],
        "ratio": rank_seconds[0] / seconds,
        "max_difference": float(np.abs(differences).max()),
        "peak_memory_mb": memory,
        "torchreid_peak_memory_mb": torchreid_memory,
    }


def bench_reranking(query: FeatureSet, gallery: FeatureSet) -> dict[str, Any]:
    """Time k-reciprocal re-ranking with the published settings.

    Returns:
        scores: re-ranked, in words.
        seconds, peak_memory_mb: of the re-ranking, beyond the features (NaN where the system does not say).
    """
    distances, seconds, memory = _measure(lambda: k_reciprocal(query.features, gallery.features))
    scores = evaluate_distances(distances, query.pids, query.camids, gallery.pids, gallery.camids)
    return {"scores": str(scores), "seconds": seconds, "peak_memory_mb": memory}


def _measure(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """What ``call`` returns, its seconds, and its peak memory in MiB."""
    meter = MemoryMeter()
    start = time.perf_counter()
    result = call()
    seconds, peak = time.perf_counter() - start, meter.peak()
    return result, seconds, float("nan") if peak is None else peak / 2**20
