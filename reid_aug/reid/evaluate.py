"""The Market-1501 protocol: Rank-k, mAP and mINP of queries against a gallery.

For each query, gallery images of the same identity from the same camera are left out ("junk"); a query that has no
match left is skipped and not counted. Gallery images at equal distance stand in gallery order, so a score never
depends on a sorting algorithm. No list is sorted: only the ranks of the few gallery images that show the query's
identity enter a score, and a rank is a count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from reid_aug.errors import ConfigError, DataError
from reid_aug.reid.distance import BLOCK_BYTES, Labels, as_feature_pair, as_labels, distance_blocks

AveragePrecision = Literal["mean", "trapezoidal"]

CMC_RANKS = (1, 5, 10)
COUNTED_RANKS = 64  # ranks counted one by one for a query; beyond, sorting its distances once is cheaper


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores in percent (0..100), and what they were computed over and how.

    Attributes:
        rank1, rank5, rank10: queries with a match among the first 1, 5, 10 (CMC).
        mAP: mean average precision, in the form ``average_precision`` names.
        mINP: mean inverse negative penalty (Ye et al. 2021), matches over the rank of the last one.
        queries: queries that count.
        skipped: queries without a match in the gallery; they do not count.
        average_precision: "mean" of the precisions at the matches (torchreid, BoT), or "trapezoidal" (the official
            MATLAB code of Market-1501), which is a little lower.
        single_shot_trials: 0 for the Market-1501 protocol; else Rank-k is that of single gallery shots, averaged over
            this many trials.
    """

    rank1: float
    rank5: float
    rank10: float
    mAP: float
    mINP: float
    queries: int
    skipped: int = 0
    average_precision: AveragePrecision = "mean"
    single_shot_trials: int = 0

    def __str__(self) -> str:
        shot = f" ({self.single_shot_trials} single gallery shots)" if self.single_shot_trials else ""
        form = "" if self.average_precision == "mean" else f" ({self.average_precision})"
        return (
            f"Rank-1 {self.rank1:.2f}  Rank-5 {self.rank5:.2f}  Rank-10 {self.rank10:.2f}{shot}  "
            f"mAP {self.mAP:.2f}{form}  mINP {self.mINP:.2f}  over {self.queries} queries"
            + (f", {self.skipped} without a match skipped" if self.skipped else "")
        )


def evaluate(
    query_features: torch.Tensor | np.ndarray,
    query_pids: Labels,
    query_camids: Labels,
    gallery_features: torch.Tensor | np.ndarray,
    gallery_pids: Labels,
    gallery_camids: Labels,
    *,
    average_precision: AveragePrecision = "mean",
    single_shot_trials: int = 0,
    seed: int = 0,
    block_bytes: int = BLOCK_BYTES,
) -> Scores:
    """Score features by Euclidean distance (of L2-normalised ones: by cosine similarity).

    Args:
        query_features: [Q, D].
        query_pids, query_camids: [Q] integers.
        gallery_features: [G, D].
        gallery_pids, gallery_camids: [G] integers.
        average_precision: form of the average precision, see :class:`Scores`.
        single_shot_trials: above 0, Rank-k is measured on galleries of one random image of each identity, drawn this
            often for each query (the CUHK03 metric); mAP and mINP are always those of the whole gallery.
        seed: of those draws.
        block_bytes: distances held at a time.

    Raises:
        DataError: empty sets, shapes that do not match, NaN in the features, or no query with a match.
        ConfigError: an unknown ``average_precision`` or a negative number of trials.
    """
    queries, gallery = as_feature_pair(query_features, gallery_features)
    protocol = _Protocol(gallery_pids, gallery_camids, len(gallery), average_precision, single_shot_trials, seed)
    blocks = ((rows, block.cpu().numpy()) for rows, block in distance_blocks(queries, gallery, block_bytes))
    return protocol.scores(blocks, query_pids, query_camids, len(queries))


def evaluate_distances(
    distances: torch.Tensor | np.ndarray,
    query_pids: Labels,
    query_camids: Labels,
    gallery_pids: Labels,
    gallery_camids: Labels,
    *,
    average_precision: AveragePrecision = "mean",
    single_shot_trials: int = 0,
    seed: int = 0,
) -> Scores:
    """Score a distance matrix [Q, G] (any measure, smaller is nearer), such as a re-ranked one.

    The other arguments and the errors are those of :func:`evaluate`.
    """
    distances = torch.as_tensor(distances).detach().cpu().numpy()
    if distances.ndim != 2 or 0 in distances.shape:
        raise DataError(
            f"distances: shape {list(distances.shape)}, expected [queries, gallery] with at least one of each. "
            "Check that neither folder is empty."
        )
    bad = np.flatnonzero(np.isnan(distances.min(axis=1)))
    if bad.size:
        raise DataError(f"distances: NaN in {bad.size} rows, the first is {bad[0]}. Leave these queries out.")
    num_queries, num_gallery = distances.shape
    protocol = _Protocol(gallery_pids, gallery_camids, num_gallery, average_precision, single_shot_trials, seed)
    return protocol.scores([(slice(0, num_queries), distances)], query_pids, query_camids, num_queries)


class _Protocol:
    """A gallery's labels, grouped by identity, and the rules by which a query is scored against them."""

    def __init__(self, pids: Labels, camids: Labels, length: int, average_precision: str, trials: int, seed: int):
        if average_precision not in ("mean", "trapezoidal"):
            raise ConfigError(f"average_precision: {average_precision!r}, expected 'mean' or 'trapezoidal'.")
        if trials < 0:
            raise ConfigError(f"single_shot_trials: {trials}, expected 0 (off) or a number of trials.")
        pids, self.camids = as_labels(pids, length, "gallery_pids"), as_labels(camids, length, "gallery_camids")
        self.by_identity = np.argsort(pids, kind="stable")
        identities, self.starts, self.sizes = np.unique(pids[self.by_identity], return_index=True, return_counts=True)
        self.group_of = {pid: group for group, pid in enumerate(identities.tolist())}
        self.average_precision, self.trials, self.seed = average_precision, trials, seed

    def scores(
        self, blocks: Iterable[tuple[slice, np.ndarray]], query_pids: Labels, query_camids: Labels, num_queries: int
    ) -> Scores:
        """Mean over the queries that have a match; ``blocks`` hold the distances [B, G] of successive queries."""
        pids = as_labels(query_pids, num_queries, "query_pids").tolist()
        camids = as_labels(query_camids, num_queries, "query_camids").tolist()
        rows = []
        for queries, distances in blocks:
            for query, row in zip(range(queries.start, queries.stop), distances):
                if (measures := self._measure(query, row, pids[query], camids[query])) is not None:
                    rows.append(measures)
        if not rows:
            raise DataError(
                f"query_pids: none of the {num_queries} queries has a gallery image of its identity from another "
                "camera. Check that both sets number identities alike and that camids are camera numbers."
            )
        return Scores(
            *(100 * np.mean(rows, axis=0)).tolist(),
            queries=len(rows),
            skipped=num_queries - len(rows),
            average_precision=self.average_precision,
            single_shot_trials=self.trials,
        )

    def _measure(self, query: int, distances: np.ndarray, pid: int, camid: int) -> tuple[float, ...] | None:
        """(hit at each of CMC_RANKS, average precision, inverse negative penalty); None for a query with no match."""
        group = self.group_of.get(pid)
        if group is None:
            return None
        own = self.by_identity[self.starts[group] : self.starts[group] + self.sizes[group]]
        junk = self.camids[own] == camid
        if junk.all():
            return None
        ranks = _ranks(distances, own)
        matches = np.sort(ranks[~junk])
        matches -= np.searchsorted(np.sort(ranks[junk]), matches)  # junk does not take a place in the list
        if self.trials:
            rng = np.random.default_rng([self.seed, query])
            firsts = self._single_shot_ranks(distances, own[~junk], group, rng)
        else:
            firsts = matches[0]
        hits = (np.mean(firsts <= k) for k in CMC_RANKS)
        return *hits, _average_precision(matches, self.average_precision), len(matches) / matches[-1]

    def _single_shot_ranks(
        self, distances: np.ndarray, matches: np.ndarray, group: int, rng: np.random.Generator
    ) -> np.ndarray:
        """[trials]: rank of one random match among one random image of each other identity."""
        chosen = self.by_identity[self.starts + rng.integers(self.sizes, size=(self.trials, len(self.sizes)))]
        match = rng.choice(matches, size=(self.trials, 1))
        chosen[:, group] = match[:, 0]
        distance, own = distances[chosen], distances[match]
        return 1 + np.count_nonzero((distance < own) | ((distance == own) & (chosen < match)), axis=1)


def _ranks(distances: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Ranks, from 1, of some gallery ``images`` among all ``distances`` [G], ties in gallery order."""
    if len(images) > COUNTED_RANKS:
        ranks = np.empty(len(distances), np.int64)
        ranks[np.argsort(distances, kind="stable")] = np.arange(1, len(distances) + 1)
        return ranks[images]
    return np.array(
        [
            1 + np.count_nonzero(distances[:image] <= own) + np.count_nonzero(distances[image:] < own)
            for image, own in zip(images.tolist(), distances[images])
        ]
    )


def _average_precision(ranks: np.ndarray, form: str) -> float:
    """``ranks`` of all matches, ascending, from 1."""
    found = np.arange(1, len(ranks) + 1)
    precision = found / ranks
    if form == "trapezoidal":  # averaged with the precision one place earlier, which is 1 before the first place
        earlier = np.where(ranks > 1, (found - 1) / np.maximum(ranks - 1, 1), 1.0)
        precision = (precision + earlier) / 2
    return precision.mean()
