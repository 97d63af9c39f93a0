"""A merged data set has the subset, what was generated from it and the test images, and torchreid reads it."""

from __future__ import annotations

import pytest

from reid_aug.augment.merge import write_merged
from reid_aug.data.subsets import take_fraction
from reid_aug.errors import DataError
from reid_aug.study.recipe import augment
from reid_aug.torchreid_library import import_torchreid


@pytest.fixture
def subset(toy_market):
    return take_fraction(toy_market.train, 0.5, seed=0)


@pytest.fixture
def store(subset, tmp_path):
    """A set of which one image is refused."""
    made = augment(subset, "copies", tmp_path / "store", per_identity=2)
    made.update([made.images[0].judged(-0.1, "reject", "too far")])
    return made


def names(samples) -> list[str]:
    return sorted(sample.name for sample in samples)


def test_the_parts_are_there_and_what_was_refused_is_not(toy_market, subset, store, tmp_path):
    merged = write_merged(tmp_path / "merged", toy_market, subset, store)
    assert names(merged.train) == sorted(names(subset) + names(store.samples()))
    assert store.images[0].name not in names(merged.train)
    assert (names(merged.query), names(merged.gallery)) == (names(toy_market.query), names(toy_market.gallery))
    for sample in store.samples():
        assert (merged.train.poses[sample.name].xy == store.samples().poses[sample.name].xy).all()


def test_without_a_store_it_is_the_baselines(toy_market, subset, tmp_path):
    assert names(write_merged(tmp_path / "baseline", toy_market, subset).train) == names(subset)


def test_a_set_of_another_subset_is_refused(toy_market, store, tmp_path):
    other = take_fraction(toy_market.train, 0.5, seed=3)
    with pytest.raises(DataError, match="Give the data, fraction and seed that the set was generated with"):
        write_merged(tmp_path / "merged", toy_market, other, store)
    assert not (tmp_path / "merged").exists()


def test_torchreids_own_data_set_reads_it(toy_market, subset, store, tmp_path):
    torchreid = import_torchreid()
    merged = write_merged(tmp_path / "market1501", toy_market, subset, store)
    read = torchreid.data.datasets.image.market1501.Market1501(root=str(tmp_path), verbose=False)
    for part, expected in ((read.train, merged.train), (read.query, merged.query), (read.gallery, merged.gallery)):
        assert sorted(path for path, *_ in part) == sorted(str(sample.path) for sample in expected)
