"""Held-out identities: apart from those trained on, and every query of them answerable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reid_aug.data.holdout import make_holdout_market, split_holdout
from reid_aug.errors import ConfigError, DataError
from reid_aug.records import Sample, Samples


def _set(views: dict[int, list[int]]) -> Samples:
    """``views``: pid -> camera of each image."""
    return Samples(
        Sample(Path(f"{pid:04d}_c{camid}s1_{number:06d}_00.jpg"), pid, camid)
        for pid, cameras in views.items()
        for number, camid in enumerate(cameras)
    )


TRAIN = _set({pid: [1, 1, 2, 2, 3] for pid in range(1, 9)} | {20: [1, 1, 1], 21: [1, 2], 22: [4]})


@pytest.mark.parametrize("seed", range(4))
def test_the_parts_are_the_whole_and_share_no_identity(seed):
    split = split_holdout(TRAIN, 0.3, seed)
    names = [sample.name for part in (split.fit, split.query, split.gallery) for sample in part]
    assert sorted(names) == sorted(sample.name for sample in TRAIN)
    held_out = set(split.query.pids)
    assert len(held_out) == 3 and not held_out & set(split.fit.pids)
    assert held_out == set(split.gallery.pids) and held_out <= set(range(1, 9))


def test_the_query_is_one_image_of_each_camera_and_one_of_them_has_a_match():
    split = split_holdout(TRAIN, 0.3, 0)
    views = list(zip(split.query.pids, split.query.camids))
    assert len(set(views)) == len(views) == 3 * 3
    for pid, camid in views:
        others = (split.gallery.pids == pid) & (split.gallery.camids != camid)
        assert others.any()


def test_the_split_is_the_seeds():
    first, again, other = (split_holdout(TRAIN, 0.3, seed) for seed in (0, 0, 1))
    assert list(first.query) == list(again.query)
    assert list(first.query) != list(other.query)
    assert np.array_equal(first.fit.pids, np.sort(first.fit.pids))  # in the order of the training set


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_a_share_outside_zero_to_one_is_refused(share):
    with pytest.raises(ConfigError, match=r"share: .* is outside \(0, 1\)"):
        split_holdout(TRAIN, share, 0)


@pytest.mark.parametrize(
    "train, share",
    [(_set({1: [1, 2], 2: [1, 2], 3: [1, 1]}), 0.3), (_set({1: [1, 1, 2, 2], 2: [1, 1, 2, 2]}), 0.5), (TRAIN, 0.9)],
)
def test_too_few_identities_are_refused(train, share):
    with pytest.raises(DataError, match=r"cannot be held out.*Lower the share"):
        split_holdout(train, share, 0)


def test_the_data_set_of_the_training_identities(toy_market, tmp_path):
    split = split_holdout(toy_market.train, 0.4, seed=3)
    made = make_holdout_market(toy_market.train, tmp_path / "tune", 0.4, seed=3)
    for part, expected in ((made.train, split.fit), (made.query, split.query), (made.gallery, split.gallery)):
        assert [sample.name for sample in part] == sorted(sample.name for sample in expected)
        assert set(part.poses) == {sample.name for sample in part if sample.name in toy_market.train.poses}
    assert not set(made.train.pids) & set(made.query.pids)
