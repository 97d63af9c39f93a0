"""A written data set is the one that was given: images, poses and part maps."""

from __future__ import annotations

import numpy as np
import pytest

from reid_aug.data.subsets import take_fraction
from reid_aug.data.write import write_market1501
from reid_aug.errors import OutputError
from reid_aug.records import Samples


def test_what_is_written_is_what_was_given(toy_market, tmp_path):
    subset = take_fraction(toy_market.train, 0.5, seed=0)
    made = write_market1501(tmp_path / "half", subset, toy_market.query, toy_market.gallery)
    for part, given in ((made.train, subset), (made.query, toy_market.query), (made.gallery, toy_market.gallery)):
        assert list(part.pids) == list(given.pids) and len(part)
        for sample, original in zip(part, given, strict=True):
            assert sample.path.read_bytes() == original.path.read_bytes() and sample.path != original.path
            pose, expected = part.poses[sample.name], given.poses[sample.name]
            assert np.array_equal(pose.xy, expected.xy) and np.array_equal(pose.visible, expected.visible)
            assert pose.part_file.read_bytes() == expected.part_file.read_bytes()


def test_without_poses_there_are_no_key_point_files(toy_market, tmp_path):
    bare = [Samples(part) for part in (toy_market.train, toy_market.query, toy_market.gallery)]
    made = write_market1501(tmp_path / "bare", *bare)
    assert not made.train.poses
    assert sorted(path.name for path in (tmp_path / "bare").iterdir()) == [
        "bounding_box_test", "bounding_box_train", "query"
    ]  # fmt: skip


def test_nothing_is_written_over(toy_market, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("kept")
    with pytest.raises(OutputError, match=r"mine: cannot be written .* Name another folder"):
        write_market1501(tmp_path / "mine", toy_market.train, toy_market.query, toy_market.gallery)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "notes").read_text() == "kept"
