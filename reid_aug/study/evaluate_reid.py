"""A re-ID model scored on one or several data sets; on others than it was trained on, that is cross-domain."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from reid_aug.data.images import Images
from reid_aug.data.market1501 import Market1501
from reid_aug.reid.evaluate import Scores, evaluate, evaluate_distances
from reid_aug.reid.features import extract_features
from reid_aug.reid.model import ReidModel
from reid_aug.reid.search import ranked_list

SHOWN_QUERIES, SHOWN_RANKS = 3, 8  # ranked lists that a report shows, and their length


def evaluate_reid(
    model: ReidModel, markets: Mapping[str, Market1501], rerank: bool = False, **protocol: Any
) -> dict[str, Scores]:
    """Scores by "data set, distance"; features are extracted once for each data set.

    Args:
        model: a trained model.
        markets: data sets by name; their query and gallery are scored.
        rerank: score with k-reciprocal re-ranking (Zhong et al. 2017) as well.
        **protocol: of :func:`~reid_aug.reid.evaluate.evaluate`: ``average_precision``, ``single_shot_trials``, ...
    """
    rows = {}
    for name, market in markets.items():
        evaluation = Evaluation(market, model.config.image_size)
        features = evaluation.features(model)
        rows[f"{name}, cosine"] = evaluation.by_cosine(*features, **protocol)
        if rerank:
            rows[f"{name}, re-ranked"] = evaluation.re_ranked(*features, **protocol)
    return rows


class Evaluation:
    """Query and gallery of a data set, decoded once however many models of one image size are scored."""

    def __init__(self, market: Market1501, image_size: tuple[int, int]):
        self.market = market
        self.image_size = image_size

    @cached_property
    def images(self) -> tuple[Images, Images]:
        """Of query and gallery."""
        return Images(self.market.query, self.image_size), Images(self.market.gallery, self.image_size)

    def features(self, model: ReidModel) -> tuple[Tensor, Tensor]:
        """Of query and gallery, [Q, D] and [G, D], rows of length 1."""
        query, gallery = self.images
        return extract_features(model, query), extract_features(model, gallery)

    def by_cosine(self, query: Tensor, gallery: Tensor, **protocol: Any) -> Scores:
        """Scores of features, by the Market-1501 protocol or the given one."""
        of_query, of_gallery = self._labels()
        return evaluate(query, *of_query, gallery, *of_gallery, **protocol)

    def re_ranked(self, query: Tensor, gallery: Tensor, **protocol: Any) -> Scores:
        """The same with k-reciprocal re-ranking."""
        from reid_aug.reid.rerank import k_reciprocal  # scipy's; the stages of generators do without

        of_query, of_gallery = self._labels()
        return evaluate_distances(k_reciprocal(query, gallery), *of_query, *of_gallery, **protocol)

    def nearest(self, query: Tensor, gallery: Tensor) -> dict[str, list[str]]:
        """Names of the gallery images nearest to ``SHOWN_QUERIES`` queries by their features, nearest first.

        The queries are evenly spread over all; images of theirs in their own camera are left out.
        """
        (pids, camids), of_gallery = self._labels()
        shown = np.linspace(0, len(pids) - 1, min(SHOWN_QUERIES, len(pids))).astype(int)
        lists = ranked_list(query[shown], pids[shown], camids[shown], gallery, *of_gallery, k=SHOWN_RANKS)
        names = [[self.market.gallery[int(k)].name for k in row if k >= 0] for row in lists]
        return {self.market.query[int(at)].name: row for at, row in zip(shown, names)}

    def scores(self, model: ReidModel) -> Scores:
        """By the Market-1501 protocol."""
        return self.by_cosine(*self.features(model))

    def logged(self, model: ReidModel) -> dict[str, float]:
        """Scores by name, for the logs of a training."""
        scores = self.scores(model)
        return {"holdout_rank1": scores.rank1, "holdout_mAP": scores.mAP}

    def _labels(self) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """(pids, camids) of query and of gallery."""
        query, gallery = self.market.query, self.market.gallery
        return (query.pids, query.camids), (gallery.pids, gallery.camids)
