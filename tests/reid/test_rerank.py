"""Sparse re-ranking, against the dense loops of the published code."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from reid_aug.errors import ConfigError, DataError
from reid_aug.reid.evaluate import evaluate, evaluate_distances
from reid_aug.reid.rerank import k_reciprocal

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Cython evaluation")
    import torchreid


def dense_k_reciprocal(query_features, gallery_features, k1, k2, lambda_value):
    """re_ranking() of the authors' code, on squared Euclidean distances, with a stable sort."""
    features = np.concatenate([query_features, gallery_features]).astype(np.float64)
    total, queries = len(features), len(query_features)
    distances = ((features[:, None] - features) ** 2).sum(axis=2)
    distances = (distances / distances.max(axis=0)).T
    ranking = np.argsort(distances, axis=1, kind="stable")

    def reciprocal(image, k):
        forward = ranking[image, : k + 1]
        return [other for other in forward if image in ranking[other, : k + 1]]

    encoding = np.zeros((total, total))
    for image in range(total):
        members = reciprocal(image, k1)
        expanded = set(members)
        for candidate in members:
            others = reciprocal(candidate, int(np.around(k1 / 2)))
            if len(set(others) & set(members)) > 2 / 3 * len(others):
                expanded |= set(others)
        expanded = sorted(expanded)
        weights = np.exp(-distances[image, expanded])
        encoding[image, expanded] = weights / weights.sum()
    if k2 != 1:
        encoding = np.stack([encoding[ranking[image, :k2]].mean(axis=0) for image in range(total)])
    overlap = np.minimum(encoding[:queries, None], encoding[None, queries:]).sum(axis=2)
    jaccard = 1 - overlap / (2 - overlap)
    return (1 - lambda_value) * jaccard + lambda_value * distances[:queries, queries:]


@st.composite
def feature_sets(draw):
    """Whole numbers, so that float32 distances are exact: with ties when few values occur, with few otherwise."""
    dim, limit = draw(st.integers(1, 4)), draw(st.sampled_from([1, 5, 500]))

    def features(most):
        shape = (draw(st.integers(1, most)), dim)
        return draw(arrays.arrays(np.int64, shape, elements=st.integers(-limit, limit))).astype(np.float32)

    queries, gallery = features(6), features(30)
    gallery[0, 0] = queries[0, 0] + limit  # not all the same image: the published code would divide by zero
    return queries, gallery


def distinct(rng, queries, gallery, dim=8, identities=6):
    centres = rng.standard_normal((identities, dim))
    sets = []
    for length in (queries, gallery):
        pids = rng.integers(identities, size=length)
        sets.append((pids, (centres[pids] + 0.8 * rng.standard_normal((length, dim))).astype(np.float32)))
    return sets


@settings(max_examples=100, deadline=None)
@given(feature_sets(), st.integers(1, 25), st.integers(1, 8), st.sampled_from([0.0, 0.3, 1.0]), st.integers(1, 5000))
def test_equals_the_published_loops(sets, k1, k2, lambda_value, block_bytes):
    expected = dense_k_reciprocal(*sets, k1, k2, lambda_value)
    np.testing.assert_allclose(k_reciprocal(*sets, k1, k2, lambda_value, block_bytes), expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_published_loops_on_clusters_with_the_published_settings(seed):
    (_, queries), (_, gallery) = distinct(np.random.default_rng(seed), queries=20, gallery=150)
    reranked = k_reciprocal(torch.from_numpy(queries), torch.from_numpy(gallery))
    assert reranked.shape == (20, 150) and reranked.dtype == np.float32
    np.testing.assert_allclose(reranked, dense_k_reciprocal(queries, gallery, 20, 6, 0.3), atol=1e-5)


def test_equals_torchreid():
    (_, queries), (_, gallery) = distinct(np.random.default_rng(5), queries=20, gallery=150)
    pairs = (queries, gallery), (queries, queries), (gallery, gallery)
    distances = (np.linalg.norm(a[:, None] - b, axis=2) for a, b in pairs)
    theirs = torchreid.utils.re_ranking(*distances, k1=10, k2=3, lambda_value=0.2)
    np.testing.assert_allclose(k_reciprocal(queries, gallery, k1=10, k2=3, lambda_value=0.2), theirs, atol=1e-5)


def test_re_ranking_clusters_raises_map():
    (query_pids, queries), (gallery_pids, gallery) = distinct(np.random.default_rng(0), queries=60, gallery=300)
    query_camids, gallery_camids = np.zeros(60, int), np.ones(300, int)
    before = evaluate(queries, query_pids, query_camids, gallery, gallery_pids, gallery_camids)
    after = evaluate_distances(k_reciprocal(queries, gallery), query_pids, query_camids, gallery_pids, gallery_camids)
    assert after.mAP > before.mAP + 5


def test_identical_images_are_at_no_distance():
    same = np.ones((4, 3), np.float32)
    np.testing.assert_allclose(k_reciprocal(same[:1], same[1:]), np.zeros((1, 3)), atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k1": 0}, "k1=0, k2=6: both count neighbours"),
        ({"k2": 0}, "k1=20, k2=0"),
        ({"lambda_value": 1.5}, r"lambda_value=1.5: a weight, must lie in \[0, 1\]"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        k_reciprocal(np.ones((1, 2)), np.ones((3, 2)), **settings)


def test_bad_features_are_named():
    with pytest.raises(DataError, match=r"gallery_features: NaN or infinity in 1 of 3 rows: 2"):
        k_reciprocal(np.ones((1, 2)), np.array([[1.0, 2], [2, 3], [4, np.nan]]))
