"""The Market-1501 protocol, against torchreid's own Python code and against loops that follow its definition."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from reid_aug.errors import ConfigError, DataError
from reid_aug.reid import evaluate as module
from reid_aug.reid.distance import distance_blocks
from reid_aug.reid.evaluate import CMC_RANKS, evaluate, evaluate_distances

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Cython evaluation")
    import torchreid

few_examples = settings(max_examples=60, deadline=None)


@st.composite
def problems(draw):
    """(distances, query_pids, query_camids, gallery_pids, gallery_camids), some of it degenerate."""
    num_queries, num_gallery = draw(st.integers(1, 6)), draw(st.integers(1, 40))
    distance = draw(
        st.sampled_from(
            [
                st.floats(-4, 4, width=32),
                st.integers(0, 2).map(float),  # mostly ties
                st.just(1.0),  # nothing but ties
                st.sampled_from([0.0, -0.0, 1e-45, 3e38, float("inf")]),
            ]
        )
    )
    distances = draw(arrays.arrays(np.float32, (num_queries, num_gallery), elements=distance))
    identities, cameras = draw(st.integers(1, 4)), draw(st.integers(1, 3))

    def labels(length, most):
        return draw(arrays.arrays(np.int64, length, elements=st.integers(0, most - 1)))

    query_pids = labels(num_queries, identities + 1)  # an identity the gallery lacks
    return (
        distances,
        query_pids,
        labels(num_queries, cameras),
        labels(num_gallery, identities),
        labels(num_gallery, cameras),
    )


def match_lists(distances, query_pids, query_camids, gallery_pids, gallery_camids):
    """For each query with a match: is each place of its list, junk left out and ties in gallery order, a match?"""
    lists = []
    for row, pid, camid in zip(distances, query_pids, query_camids):
        order = sorted(range(len(row)), key=lambda image: (row[image], image))
        kept = [image for image in order if not (gallery_pids[image] == pid and gallery_camids[image] == camid)]
        matches = [bool(gallery_pids[image] == pid) for image in kept]
        if any(matches):
            lists.append(matches)
    return lists


def mean_ap(matches):
    precisions = [sum(matches[: place + 1]) / (place + 1) for place in range(len(matches)) if matches[place]]
    return sum(precisions) / len(precisions)


def matlab_ap(matches):
    """compute_AP.m of the official Market-1501 evaluation code, junk already left out."""
    old_recall, old_precision, average, found = 0.0, 1.0, 0.0, 0
    for place, match in enumerate(matches):
        found += match
        recall, precision = found / sum(matches), found / (place + 1)
        average += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision = recall, precision
    return average


def inverse_penalty(matches):
    last = max(place for place, match in enumerate(matches) if match)
    return sum(matches) / (last + 1)


def values(scores):
    return [scores.rank1, scores.rank5, scores.rank10, scores.mAP, scores.mINP]


def clustered(rng, queries=20, gallery=200, identities=15, dim=16, spread=1.0):
    """Features around one centre an identity: (query features, pids, camids, gallery features, pids, camids)."""
    centres = rng.standard_normal((identities, dim))
    sets = []
    for length in (queries, gallery):
        pids, camids = rng.integers(identities, size=length), rng.integers(1, 7, size=length)
        features = centres[pids] + spread * rng.standard_normal((length, dim))
        sets += [features.astype(np.float32), pids, camids]
    return sets


@few_examples
@given(problems(), st.sampled_from([0, 2, 64]))
def test_equals_a_loop_over_sorted_lists(problem, counted):
    lists = match_lists(*problem)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "COUNTED_RANKS", counted)  # both ways to a rank
        if not lists:
            with pytest.raises(DataError, match="none of the"):
                evaluate_distances(*problem)
            return
        scores = evaluate_distances(*problem)
        trapezoidal = evaluate_distances(*problem, average_precision="trapezoidal")
    cmc = [100 * np.mean([any(matches[:k]) for matches in lists]) for k in CMC_RANKS]
    means = [100 * np.mean([measure(matches) for matches in lists]) for measure in (mean_ap, inverse_penalty)]
    assert values(scores) == pytest.approx(cmc + means, abs=1e-9)
    assert trapezoidal.mAP == pytest.approx(100 * np.mean([matlab_ap(matches) for matches in lists]), abs=1e-9)
    assert (scores.queries, scores.skipped) == (len(lists), len(problem[0]) - len(lists))


def assert_equal_to_torchreid(distances, query_pids, query_camids, gallery_pids, gallery_camids):
    """torchreid's sort is not stable, so it is given each row's places in stable order: the same list, no ties."""
    places = np.argsort(np.argsort(distances, axis=1, kind="stable"), axis=1)
    same_pid, same_camid = query_pids[:, None] == gallery_pids, query_camids[:, None] == gallery_camids
    matched = (same_pid & ~same_camid).any(axis=1)
    if not matched.any():
        return  # torchreid stops on an assertion
    longest = min(10, (~(same_pid & same_camid)).sum(axis=1)[matched].min())  # it cannot stack shorter lists
    labels = (query_pids, gallery_pids, query_camids, gallery_camids)
    cmc, mean_average_precision = torchreid.metrics.evaluate_rank(places, *labels, max_rank=longest, use_cython=False)
    ours = evaluate_distances(distances, query_pids, query_camids, gallery_pids, gallery_camids)
    assert ours.mAP / 100 == pytest.approx(mean_average_precision, abs=1e-6)
    for k, score in zip(CMC_RANKS, values(ours)):
        if k <= longest:
            assert score / 100 == pytest.approx(cmc[k - 1], abs=1e-6)


@few_examples
@given(problems())
def test_equals_torchreid_on_hostile_input(problem):
    assert_equal_to_torchreid(*problem)


@few_examples
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 5))
def test_equals_torchreid_on_clusters(seed, spread):
    query_features, *query_labels, gallery_features, gallery_pids, gallery_camids = clustered(
        np.random.default_rng(seed), spread=spread
    )
    distances = torchreid.metrics.compute_distance_matrix(*map(torch.from_numpy, (query_features, gallery_features)))
    assert_equal_to_torchreid(distances.numpy(), *query_labels, gallery_pids, gallery_camids)


@few_examples
@given(st.integers(0, 2**32 - 1), st.integers(1, 2000))
def test_features_give_the_scores_of_their_distances_whatever_the_block(seed, block_bytes):
    rng = np.random.default_rng(seed)
    # Small whole numbers: float32 distances are exact, and many are equal.
    problem = [np.round(part).astype(part.dtype) for part in clustered(rng, queries=7, gallery=30, identities=4, dim=3)]
    query_features, *query_labels, gallery_features, gallery_pids, gallery_camids = problem
    distances = ((query_features[:, None] - gallery_features) ** 2).sum(axis=2)
    expected = evaluate_distances(distances, *query_labels, gallery_pids, gallery_camids)
    assert evaluate(*problem, block_bytes=block_bytes) == expected
    assert evaluate(*(torch.from_numpy(part) for part in problem)) == expected


def test_blocks_stay_within_their_size():
    queries, gallery = torch.rand(50, 8), torch.rand(100, 8)
    blocks = list(distance_blocks(queries, gallery, block_bytes=4000))
    assert max(block.numel() * 4 for _, block in blocks) == 4000
    torch.testing.assert_close(torch.cat([block for _, block in blocks]), torch.cdist(queries, gallery) ** 2)


def test_distractors_rank_and_junk_does_not():
    # By distance: junk (same camera), distractor, match, other identity, match.
    scores = evaluate_distances(
        np.array([[0.1, 0.2, 0.3, 0.4, 0.5]]), [7], [1], gallery_pids=[7, 0, 7, 8, 7], gallery_camids=[1, 1, 2, 1, 3]
    )
    assert values(scores) == pytest.approx([0, 100, 100, 100 * (1 / 2 + 2 / 4) / 2, 100 * 2 / 4])
    assert str(scores) == "Rank-1 0.00  Rank-5 100.00  Rank-10 100.00  mAP 50.00  mINP 50.00  over 1 queries"


def test_what_was_measured_is_labelled():
    problem = clustered(np.random.default_rng(0))
    problem[1][0] = 99
    scores = evaluate(*problem, average_precision="trapezoidal", single_shot_trials=3)
    assert "(3 single gallery shots)" in str(scores)
    assert "(trapezoidal)" in str(scores)
    assert "over 19 queries, 1 without a match skipped" in str(scores)
    assert scores.mAP < evaluate(*problem).mAP


def test_single_shot_of_one_image_an_identity_is_the_plain_protocol():
    rng = np.random.default_rng(0)
    distances, gallery_pids = rng.random((30, 20)), rng.permutation(20)
    problem = (distances, rng.integers(20, size=30), np.zeros(30, int), gallery_pids, np.ones(20, int))
    assert values(evaluate_distances(*problem, single_shot_trials=4)) == values(evaluate_distances(*problem))


def test_single_shot_converges_to_the_mean_over_all_galleries():
    rng = np.random.default_rng(1)
    gallery_pids = np.repeat(np.arange(6), 3)
    gallery_camids = np.tile([1, 2, 3], 6)
    distances = rng.integers(5, size=(1, 18)).astype(np.float32)  # with ties
    choices = [[image for image in range(18) if gallery_pids[image] == pid] for pid in range(6)]
    choices[2].remove(6)  # the query's identity, in its camera
    firsts = []
    for gallery in itertools.product(*choices):
        order = sorted(gallery, key=lambda image: (distances[0, image], image))
        firsts.append(1 + [gallery_pids[image] for image in order].index(2))
    expected = [100 * np.mean(np.array(firsts) <= k) for k in CMC_RANKS]
    problem = (distances, [2], [1], gallery_pids, gallery_camids)
    scores = evaluate_distances(*problem, single_shot_trials=20_000, seed=3)
    assert values(scores)[:3] == pytest.approx(expected, abs=1.5)
    assert 0 < expected[0] < 100
    assert scores == evaluate_distances(*problem, single_shot_trials=20_000, seed=3)
    assert scores != evaluate_distances(*problem, single_shot_trials=20_000, seed=4)


def test_single_shots_do_not_depend_on_the_blocks():
    problem = clustered(np.random.default_rng(2))
    assert evaluate(*problem, single_shot_trials=2, block_bytes=1) == evaluate(*problem, single_shot_trials=2)


def broken(**changes):
    names = ["query_features", "query_pids", "query_camids", "gallery_features", "gallery_pids", "gallery_camids"]
    return {**dict(zip(names, clustered(np.random.default_rng(0)))), **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_features": np.empty((0, 16))}, r"query_features: shape \[0, 16\].*folder.*is not empty"),
        ({"gallery_features": np.zeros(200)}, r"gallery_features: shape \[200\], expected \[images, dimensions\]"),
        ({"gallery_features": np.zeros((200, 5))}, "16 dimensions and gallery_features 5.*same model"),
        ({"query_pids": [1, 2]}, r"query_pids: .*shape \[2\], expected 20 integers"),
        ({"gallery_camids": np.zeros(200)}, "gallery_camids: float64.*expected 200 integers"),
        ({"gallery_pids": np.full(200, 999)}, "query_pids: none of the 20 queries.*number identities alike"),
    ],
)
def test_bad_input_is_named(changes, message):
    with pytest.raises(DataError, match=message):
        evaluate(**broken(**changes))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_named(value):
    features = np.ones((200, 16), np.float32)
    features[[3, 70], [0, 15]] = value
    with pytest.raises(DataError, match=r"gallery_features: NaN or infinity in 2 of 200 rows: 3, 70\. Leave these"):
        evaluate(**broken(gallery_features=features))


def test_distances_are_checked():
    labels = ([1], [1], [1, 1], [2, 2])
    with pytest.raises(DataError, match="NaN in 1 rows, the first is 0"):
        evaluate_distances(np.array([[0.5, np.nan]]), *labels)
    with pytest.raises(DataError, match=r"distances: shape \[2\]"):
        evaluate_distances(np.zeros(2), *labels)


def test_unknown_forms_are_refused():
    with pytest.raises(ConfigError, match="average_precision: 'median', expected 'mean' or 'trapezoidal'"):
        evaluate(**broken(average_precision="median"))
    with pytest.raises(ConfigError, match="single_shot_trials: -1"):
        evaluate(**broken(single_shot_trials=-1))
