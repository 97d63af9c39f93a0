"""The measurement is of equal results, on drawn features and on a model's."""

from __future__ import annotations

import math

import pytest

from reid_aug.config import ReidModelConfig
from reid_aug.reid.model import build_model
from reid_aug.study import bench_evaluation as bench
from reid_aug.study.evaluate_reid import Evaluation


def test_evaluation_is_measured_against_equal_numbers():
    result = bench.bench_evaluation(*bench.clustered(queries=40, gallery=500, dim=64, seed=1))
    assert result["max_difference"] < 1e-6
    assert result["ratio"] == pytest.approx(result["torchreid_rank_seconds"] / result["seconds"])
    assert 0 < result["torchreid_rank_seconds"] < result["torchreid_seconds"]
    assert result["scores"].startswith("Rank-1 ")


def test_both_memories_are_those_of_their_own_call():
    query, gallery = bench.clustered(queries=1000, gallery=8000, dim=16)
    result = bench.bench_evaluation(query, gallery)
    if math.isnan(result["torchreid_peak_memory_mb"]):
        pytest.skip("the system keeps no resettable peak")
    assert result["torchreid_peak_memory_mb"] > 60  # two matrices [1000, 8000], distances and their order
    assert not result["peak_memory_mb"] > result["torchreid_peak_memory_mb"] + 30


def test_a_models_features_are_those_of_its_evaluation(toy_market):
    model = build_model(ReidModelConfig(backbone="test_resnet", image_size=(32, 16)), num_classes=3).eval()
    query, gallery = bench.extracted(model, toy_market)
    expected = Evaluation(toy_market, (32, 16)).scores(model)
    assert bench.evaluate(*query.parts, *gallery.parts) == expected
    assert bench.bench_reranking(query, gallery)["scores"].startswith("Rank-1 ")
