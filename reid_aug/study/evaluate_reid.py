"""A re-ID model scored on one or several data sets; on others than it was trained on, that is cross-domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reid_aug.data.market1501 import Market1501
from reid_aug.reid.evaluate import Scores, evaluate, evaluate_distances
from reid_aug.reid.model import ReidModel
from reid_aug.reid.rerank import k_reciprocal
from reid_aug.study.recipe import Evaluation


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
        query, gallery = market.query, market.gallery
        query_features, gallery_features = Evaluation(market, model.config.image_size).features(model)
        of_query, of_gallery = (query.pids, query.camids), (gallery.pids, gallery.camids)
        rows[f"{name}, cosine"] = evaluate(query_features, *of_query, gallery_features, *of_gallery, **protocol)
        if rerank:
            distances = k_reciprocal(query_features, gallery_features)
            rows[f"{name}, re-ranked"] = evaluate_distances(distances, *of_query, *of_gallery, **protocol)
    return rows
