"""One model on several data sets: each scored as it is alone, in the asked form."""

from __future__ import annotations

import pytest

from reid_aug.config import ReidModelConfig
from reid_aug.data.toy import make_toy_market
from reid_aug.reid.model import build_model
from reid_aug.study.evaluate_reid import SHOWN_QUERIES, SHOWN_RANKS, Evaluation, evaluate_reid


@pytest.fixture(scope="module")
def model():
    return build_model(ReidModelConfig(backbone="test_resnet", image_size=(32, 16)), num_classes=3).eval()


def test_each_data_set_is_scored_as_it_is_alone(model, toy_market, tmp_path):
    other = make_toy_market(tmp_path / "other", identities=2, seed=5, test_identities=3)
    rows = evaluate_reid(model, {"home": toy_market, "away": other}, rerank=True)
    assert list(rows) == ["home, cosine", "home, re-ranked", "away, cosine", "away, re-ranked"]
    for name, market in (("home", toy_market), ("away", other)):
        assert rows[f"{name}, cosine"] == Evaluation(market, (32, 16)).scores(model)
    assert rows["home, cosine"] != rows["away, cosine"]
    plain, reranked = rows["home, cosine"], rows["home, re-ranked"]
    assert plain.queries == reranked.queries and plain.mAP != reranked.mAP


def test_the_protocols_form_is_asked_for_and_labelled(model, toy_market):
    form = {"average_precision": "trapezoidal", "single_shot_trials": 2}
    (scores,) = evaluate_reid(model, {"home": toy_market}, **form).values()
    assert "(trapezoidal)" in str(scores) and "(2 single gallery shots)" in str(scores)


def test_the_nearest_images_of_a_few_queries_are_named(model, toy_market):
    evaluation = Evaluation(toy_market, (32, 16))
    query, gallery = evaluation.features(model)
    lists = evaluation.nearest(query, gallery)
    assert len(lists) == SHOWN_QUERIES
    position = {sample.name: index for index, sample in enumerate(toy_market.query)}
    for name, nearest in lists.items():
        own = toy_market.query[position[name]]
        similarity = (gallery @ query[position[name]]).tolist()
        ranked = sorted(
            (-value, sample.name)
            for value, sample in zip(similarity, toy_market.gallery)
            if (sample.pid, sample.camid) != (own.pid, own.camid)
        )
        assert nearest == [name for _, name in ranked[:SHOWN_RANKS]]
