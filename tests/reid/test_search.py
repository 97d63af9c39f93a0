"""Ranked lists, against a sorted loop."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_aug.errors import ConfigError, DataError
from reid_aug.reid.search import RECALL_WANTED, inverted_file, ranked_list


def problem(seed, queries=5, gallery=40, identities=3, dim=4):
    rng = np.random.default_rng(seed)
    sets = []
    for length in (queries, gallery):
        sets += [
            rng.standard_normal((length, dim)).astype(np.float32),
            rng.integers(identities, size=length),
            rng.integers(1, 3, size=length),
        ]
    return sets


def sorted_lists(query_features, query_pids, query_camids, gallery_features, gallery_pids, gallery_camids, k):
    lists = []
    for feature, pid, camid in zip(query_features, query_pids, query_camids):
        order = np.argsort(((gallery_features - feature) ** 2).sum(axis=1))
        kept = [image for image in order if (gallery_pids[image], gallery_camids[image]) != (pid, camid)]
        lists.append((kept + [-1] * k)[:k])
    return lists


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 50))
def test_equals_a_sorted_loop(seed, gallery, k):
    sets = problem(seed, gallery=gallery)
    np.testing.assert_array_equal(ranked_list(*sets, k=k), sorted_lists(*sets, k))


def test_only_junk_gives_an_empty_list():
    lists = ranked_list(np.ones((1, 2)), [4], [1], np.zeros((2, 2)), [4, 4], [1, 1], k=2)
    np.testing.assert_array_equal(lists, [[-1, -1]])


def test_a_large_gallery_is_searched_by_cells_and_the_recall_is_logged(caplog):
    sets = problem(0, queries=20, gallery=3000, identities=50)
    with caplog.at_level(logging.WARNING):
        approximate = ranked_list(*sets, k=5, exact_up_to=2000)
    assert "Approximate ranked lists: recall@" in caplog.text
    assert "in a gallery of 3000" in caplog.text
    assert (approximate == sorted_lists(*sets, 5)).mean() > 0.9


def test_the_recall_is_that_of_the_index():
    queries, _, _, gallery, _, _ = problem(1, queries=50, gallery=4000, dim=16)
    index, recall = inverted_file(gallery, queries, k=10)
    found = index.search(queries, 10)[1]
    truth = [np.argsort(((gallery - query) ** 2).sum(axis=1))[:10] for query in queries]
    assert recall == pytest.approx(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, truth)]))
    assert RECALL_WANTED <= recall <= 1
    assert 1 < index.nprobe < index.nlist


def test_bad_input_is_named():
    sets = problem(0)
    with pytest.raises(ConfigError, match="k=0: a ranked list has at least 1 image"):
        ranked_list(*sets, k=0)
    with pytest.raises(DataError, match=r"gallery_camids: .*expected 40 integers"):
        ranked_list(*sets[:5], [1, 2])
    with pytest.raises(DataError, match="NaN or infinity in 1 of 5 rows: 2"):
        sets[0][2, 1] = np.nan
        ranked_list(*sets)
