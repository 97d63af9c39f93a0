from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_aug.data.market1501 import load_market1501
from reid_aug.data.pairs import make_pairs, read_pairs, sample_pairs, write_pairs
from reid_aug.errors import DataError, OutputError
from reid_aug.records import Pose, Sample, Samples

TORSO = [2, 5, 8, 11]  # shoulders and hips of OpenPose-18


def pose(hidden=()):
    visible = np.ones(18, bool)
    visible[list(hidden)] = False
    return Pose(np.full((18, 2), 9, np.float32) * visible[:, None], visible, (128, 64))


def data_set(*images):
    """Samples of (pid, pose or None)."""
    samples = [Sample(Path(f"{pid:04d}_c1s1_{n:06d}_01.jpg"), pid, 1) for n, (pid, _) in enumerate(images)]
    return Samples(samples, {s.name: pose for s, (_, pose) in zip(samples, images) if pose is not None})


hidden_joints = st.one_of(st.none(), st.sets(st.integers(0, 17), max_size=3))


@settings(max_examples=50)
@given(images=st.lists(st.tuples(st.integers(-1, 4), hidden_joints), max_size=25))
def test_pairs_are_those_of_a_naive_loop(images):
    samples = data_set(*((pid, None if hidden is None else pose(hidden)) for pid, hidden in images))
    expected = []
    for pid in sorted(set(samples.pids) - {-1, 0}):
        for source in samples:
            for target in samples:
                if source.pid != pid or target.pid != pid or source is target:
                    continue
                poses = [samples.poses.get(image.name) for image in (source, target)]
                if all(p is not None and all(p.visible[joint] for joint in TORSO) for p in poses):
                    expected.append((source.name, target.name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert make_pairs(samples) == expected


def test_a_sample_of_pairs_is_the_start_of_a_larger_one():
    samples = data_set(*((pid, pose()) for pid in (1, 1, 1, 2, 2, 3)))  # pid 3 has no pair, which is no matter here
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        every = sample_pairs(samples, 100, seed=4)
        assert sample_pairs(samples, 3, seed=4) == every[:3]
        assert sample_pairs(samples, 100, seed=5) != every
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert sorted(every) == sorted(make_pairs(samples))
    with pytest.raises(DataError, match=r"none of the 1 images has another .* key points"):
        sample_pairs(samples.at([5]), 3, seed=0)



def test_identities_without_a_pair_are_said_once():
    samples = data_set((1, pose()), (1, pose()), (2, pose()), (3, pose()), (3, pose([8])), (0, pose()))
    with pytest.warns(UserWarning) as said:
        assert len(make_pairs(samples)) == 2
    assert len(said) == 1
    assert str(said[0].message).startswith("2 of 3 identities (pid 2, ...) have fewer than two images")
    assert "used for re-ID alone. Add images or key points" in str(said[0].message)


def test_nothing_is_said_where_every_identity_has_a_pair():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(make_pairs(data_set((1, pose()), (1, pose([0, 4, 10]))))) == 2


def test_a_file_of_pairs_round_trips(tmp_path):
    samples = data_set((1, pose()), (1, pose()), (1, pose()))
    pairs = make_pairs(samples)
    write_pairs(tmp_path / "pairs.csv", pairs)
    assert (tmp_path / "pairs.csv").read_text().splitlines()[:2] == ["from,to", ",".join(pairs[0])]
    assert read_pairs(tmp_path / "pairs.csv") == pairs
    assert read_pairs(tmp_path / "pairs.csv", samples) == pairs


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.jpg", "'a.jpg' is not two names. Write `source.jpg,target.jpg`."),
        ("a.jpg,", "'a.jpg,' is not two names"),
        ("a.jpg,b.jpg,c.jpg", "'a.jpg,b.jpg,c.jpg' is not two names"),
        ("0001_c1s1_000000_01.jpg,b.jpg", "b.jpg is no image with key points of this data set. Remove the row"),
        ("0001_c1s1_000001_01.jpg,0001_c1s1_000000_01.jpg", "0001_c1s1_000001_01.jpg is no image with key points"),
    ],
)
def test_bad_rows_are_named_by_file_and_line_with_the_remedy(tmp_path, line, message):
    csv = tmp_path / "pairs.csv"
    csv.write_text(f"from,to\n\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_pairs(csv, data_set((1, pose()), (1, None)))
    assert str(caught.value).startswith(f"{csv}, line 3: ")
    assert message in str(caught.value)


def test_missing_header_file_and_folder(tmp_path):
    (tmp_path / "pairs.csv").write_text("a.jpg,b.jpg\n")
    with pytest.raises(DataError, match=r"pairs\.csv, line 1: 'a\.jpg,b\.jpg' is not the header\. Put `from,to` there"):
        read_pairs(tmp_path / "pairs.csv")
    with pytest.raises(DataError, match=r"none\.csv: cannot be read.*Name a pair file"):
        read_pairs(tmp_path / "none.csv")
    with pytest.raises(OutputError, match=r"gone/pairs\.csv: cannot be written"):
        write_pairs(tmp_path / "gone" / "pairs.csv", [])


@pytest.mark.skipif("REID_AUG_MARKET1501" not in os.environ, reason="REID_AUG_MARKET1501 names no data set")
@pytest.mark.filterwarnings("ignore:10 of 751 identities")
def test_the_real_training_set_has_the_pairs_of_the_literature():
    assert len(make_pairs(load_market1501(os.environ["REID_AUG_MARKET1501"]).train)) == 263_632
