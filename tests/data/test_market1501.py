from __future__ import annotations

import re
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from market_files import NAMES, row, save_image

from reid_aug.data.keypoints import HEADER
from reid_aug.data.market1501 import load_market1501, load_training_set, parse_name
from reid_aug.errors import DataError


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0002_c1s1_000451_03.jpg", (2, 1)),
        ("-1_c5s3_086412_11.jpg", (-1, 5)),
        ("0000_c6s3_086412_11.jpg", (0, 6)),
        ("1501_c2s1_000451_03.png", (1501, 2)),
        ("0002_c1s1_000451_03_g0007.png", (2, 1)),
        ("1488_c1s6_023021_00.jpg.jpg", (1488, 1)),  # in the published query folder
        ("0002_c1s1_000451_03.JPG", (2, 1)),
        ("0005_c2_f0046985.jpg", (5, 2)),  # DukeMTMC-reID
        ("0005_c2_f0046985_g0000.jpg", (5, 2)),
        ("0767_c1_4.png", (767, 1)),  # CUHK03-NP
        ("0005_c012_frame-12.jpg", (5, 12)),
    ],
)
def test_names_parse(name, expected):
    assert parse_name(name) == expected


@given(pid=st.integers(0, 99999), camid=st.integers(1, 20), rest=st.integers(0, 999999), box=st.integers(0, 99))
def test_any_identity_and_camera_round_trip(pid, camid, rest, box):
    assert parse_name(f"{pid:04d}_c{camid}s1_{rest:06d}_{box:02d}.jpg") == (pid, camid)


@pytest.mark.parametrize(
    "name",
    [
        "person.jpg",
        "0002_c1.jpg",
        "0002_c1_.jpg",
        "0002_c1s_000451_03.jpg",
        "0002_f0046182.jpg",
        "-2_c1s1_000451_03.jpg",
        "0002_c0s1_000451_03.jpg",
        "0002_c1s1_000451_03",
        "0002_c1s1_000451_03.gif",
        "x0002_c1s1_000451_03.jpg",
        "0002_c1s1_000451_03.jpg\n",
        "٠٠٠٢_c1s1_000451_03.jpg",
        "",
    ],
)
def test_other_names_are_rejected_by_name_and_with_an_example(name):
    with pytest.raises(DataError, match=re.escape(name) + r".*Rename it like 0002_c1s1_000451_03\.jpg"):
        parse_name(name)


def test_splits_are_sorted_without_junk_and_with_distractors(market_root):
    (market_root / "bounding_box_train" / "Thumbs.db").write_bytes(b"not an image")
    (market_root / "bounding_box_train" / "._0002_c1s1_000451_03.jpg").write_bytes(b"a Mac's shadow file")
    market = load_market1501(market_root)
    assert [s.name for s in market.train] == sorted(NAMES["bounding_box_train"])
    assert [s.name for s in market.query] == sorted(NAMES["query"])
    assert [(s.pid, s.camid) for s in market.gallery] == [(0, 5), (1, 2), (3, 1)]
    assert market.train[0].path == market_root / "bounding_box_train" / "0002_c1s1_000451_03.jpg"
    assert market.root == market_root


def test_key_point_files_in_the_root_are_taken(market_root):
    gallery = NAMES["bounding_box_test"]
    (market_root / "market-annotation-test.csv").write_text("\n".join([HEADER, *map(row, gallery)]))
    market = load_market1501(market_root)
    assert set(market.train.poses) == set(NAMES["bounding_box_train"])
    assert set(market.gallery.poses) == {name for name in gallery if not name.startswith("-1")}
    assert market.query.poses == {}


def test_a_pose_has_the_camera_of_its_image(market_root):
    train = load_market1501(market_root).train
    assert len({sample.camid for sample in train}) > 1
    for sample in train:
        assert train.poses[sample.name].camid == sample.camid


def test_key_point_files_can_be_named(market_root):
    (market_root / "mine.csv").write_text("\n".join([HEADER, row(NAMES["query"][0])]))
    market = load_market1501(market_root, keypoints="mine.csv")
    assert set(market.query.poses) == {NAMES["query"][0]}
    assert market.train.poses == {}
    both = load_market1501(market_root, keypoints=[market_root / "mine.csv", "market-annotation-train.csv"])
    assert (len(both.query.poses), len(both.train.poses)) == (1, 5)


def test_a_named_key_point_file_must_exist(market_root):
    with pytest.raises(DataError, match=r"none\.csv: cannot be read \(No such file.*Name a key-point file"):
        load_market1501(market_root, keypoints="none.csv")


def test_a_key_point_row_needs_its_image(market_root):
    csv = market_root / "market-annotation-train.csv"
    csv.write_text(csv.read_text() + row("0400_c1s1_000001_01.jpg"))
    with pytest.raises(DataError, match=r"train\.csv, line 7: 0400_c1s1_000001_01\.jpg is not in .*remove the row"):
        load_market1501(market_root)


def test_the_training_set_alone_needs_no_other_folder(market_root):
    whole = load_market1501(market_root).train
    (market_root / "market-annotation-test.csv").write_text("of images that are not here")
    for folder in ("query", "bounding_box_test"):
        shutil.rmtree(market_root / folder)
    train = load_training_set(market_root)
    assert list(train) == list(whole)
    assert set(train.poses) == set(NAMES["bounding_box_train"])
    (market_root / "mine.csv").write_text("\n".join([HEADER, row(NAMES["query"][0]), row(train[0].name)]))
    assert set(load_training_set(market_root, "mine.csv").poses) >= {train[0].name}
    name = NAMES["bounding_box_train"][0]
    (market_root / "bounding_box_train" / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=name):
        assert len(load_training_set(market_root, skip_bad=True)) == 4


def test_missing_root(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such folder\. Name the one that holds bounding_box_train"):
        load_market1501(tmp_path / "nowhere")


@pytest.mark.parametrize("folder", list(NAMES))
def test_missing_and_empty_folders(market_root, folder):
    shutil.rmtree(market_root / folder)
    with pytest.raises(DataError, match=rf"{folder}: no such folder.*unpack it whole"):
        load_market1501(market_root)
    (market_root / folder).mkdir()
    with pytest.raises(DataError, match=rf"{folder}: holds no \.jpg or \.png image\. Unpack"):
        load_market1501(market_root)


def test_a_folder_of_nothing_but_junk(market_root):
    for path in (market_root / "query").iterdir():
        path.unlink()
    save_image(market_root / "query" / "-1_c1s1_000001_01.jpg")
    with pytest.raises(DataError, match=r"query: holds only junk"):
        load_market1501(market_root)


def test_a_bad_name_in_a_folder_is_named_with_its_folder(market_root):
    save_image(market_root / "query" / "holiday.jpg")
    with pytest.raises(DataError, match=r"query/holiday\.jpg: not a Market-1501 file name\. Rename it"):
        load_market1501(market_root)


def test_undecodable_images_are_left_out_on_request(market_root):
    bad = [
        market_root / "bounding_box_train" / "0002_c1s1_000451_03.jpg",
        market_root / "bounding_box_test" / "0000_c5s3_086412_11.jpg",
    ]
    bad[0].write_bytes(b"")
    bad[1].write_bytes(bad[1].read_bytes()[:900])  # truncated
    market = load_market1501(market_root, skip_bad=True)
    assert [s.name for s in market.train] == sorted(set(NAMES["bounding_box_train"]) - {bad[0].name})
    assert bad[0].name not in market.train.poses
    assert [s.pid for s in market.gallery] == [1, 3]
    assert len(load_market1501(market_root).train) == 5
