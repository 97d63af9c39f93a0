from __future__ import annotations

import os
import shutil

import pytest
from market_files import NAMES, STANDING, row, save_image
from rich.console import Console

from reid_aug.data.check import MarketReport, SplitReport, check_market1501
from reid_aug.data.keypoints import HEADER
from reid_aug.data.market1501 import load_market1501
from reid_aug.data.pairs import make_pairs
from reid_aug.errors import DataError


def printed(report: MarketReport) -> str:
    console = Console(width=60)  # narrower than a path, of which nothing may be lost
    with console.capture() as capture:
        console.print(report.table())
    return capture.get()


def test_a_sound_data_set(market_root):
    report = check_market1501(market_root)
    assert report == MarketReport(
        root=market_root,
        train=SplitReport(5, 3, (1, 2, 3, 6), (1, 2.0, 2), posed=5, distractors=0, junk=0),
        query=SplitReport(2, 2, (1, 4), (1, 1.0, 1), posed=0, distractors=0, junk=0),
        gallery=SplitReport(3, 2, (1, 2, 5), (1, 1.0, 1), posed=0, distractors=1, junk=1),
        pairs=4,
        identities_without_pair=(9,),
        identities_in_train_and_test=(),
        queries_without_match=0,
        undecodable=(),
    )
    text = printed(report)
    assert "training pairs: 4\n" in text
    assert "training identities without a pair: 1 (pid 9)\n" in text
    assert "undecodable images: 0\n" in text


def test_poses_count_where_a_joint_is_visible_and_pairs_where_the_torso_is(market_root):
    nothing = [-1] * 18
    no_hip = [[*values[:8], -1, *values[9:]] for values in STANDING]
    seven = [name for name in NAMES["bounding_box_train"] if name.startswith("0007")]
    two = [name for name in NAMES["bounding_box_train"] if name.startswith("0002")]
    rows = [row(seven[0]), row(seven[1], *no_hip), row(two[0]), row(two[1], nothing, nothing)]
    (market_root / "market-annotation-train.csv").write_text("\n".join([HEADER, *rows]))
    report = check_market1501(market_root)
    assert (report.train.posed, report.train.without_pose) == (3, 2)
    assert (report.pairs, report.identities_without_pair) == (0, (2, 7, 9))


@pytest.mark.filterwarnings("ignore:1 of 3 identities")
def test_the_counts_are_those_of_the_loaded_data_set(market_root):
    report, market = check_market1501(market_root), load_market1501(market_root)
    assert report.pairs == len(make_pairs(market.train))
    assert report.gallery.images == len(market.gallery)


def test_undecodable_images_are_listed_and_do_not_stop_the_check(market_root):
    bad = [path for folder in NAMES for path in sorted((market_root / folder).iterdir())]
    for path in bad:
        path.write_bytes(b"not an image")
    report = check_market1501(market_root)
    assert report.undecodable == tuple(bad)
    assert report.gallery.images == 3
    listed = "".join(["undecodable images: 11", *map(str, bad[:5]), "and 6 more", "Replace them, or leave them out"])
    assert listed.replace(" ", "") in "".join(printed(report).split())


def test_a_data_set_without_key_points_says_what_to_do(market_root):
    assert "no training image has key points" not in printed(check_market1501(market_root))
    for file in market_root.glob("*.csv"):
        file.unlink()
    said = " ".join(printed(check_market1501(market_root)).split())
    assert "no training image has key points" in said and "reid-aug pose extract" in said


def test_leaks_and_queries_without_a_match(market_root):
    save_image(market_root / "query" / "0002_c1s1_000451_00.jpg")  # trained on, and in no gallery
    save_image(market_root / "query" / "0001_c2s1_000451_00.jpg")  # in the gallery from the same camera only
    report = check_market1501(market_root)
    assert report.identities_in_train_and_test == (2,)
    assert report.queries_without_match == 2


def test_a_gallery_of_distractors(market_root):
    for path in (market_root / "bounding_box_test").iterdir():
        if not path.name.startswith("0000"):
            path.unlink()
    report = check_market1501(market_root)
    assert report.gallery == SplitReport(1, 0, (5,), (0, 0.0, 0), posed=0, distractors=1, junk=0)
    assert report.queries_without_match == 2


def test_what_cannot_be_loaded_is_an_error(market_root):
    with pytest.raises(DataError, match=r"none\.csv: cannot be read"):
        check_market1501(market_root, keypoints="none.csv")
    shutil.rmtree(market_root / "query")
    with pytest.raises(DataError, match=r"query: no such folder"):
        check_market1501(market_root)


@pytest.mark.slow
@pytest.mark.skipif("REID_AUG_MARKET1501" not in os.environ, reason="REID_AUG_MARKET1501 names no data set")
def test_the_real_data_set():
    report = check_market1501(os.environ["REID_AUG_MARKET1501"])
    assert (report.train.images, report.train.identities, report.train.without_pose) == (12_936, 751, 419)
    assert (report.query.images, report.query.identities) == (3_368, 750)
    assert (report.gallery.images, report.gallery.distractors, report.gallery.junk) == (15_913, 2_798, 3_819)
    assert (report.pairs, len(report.identities_without_pair)) == (263_632, 10)
    assert (report.identities_in_train_and_test, report.queries_without_match, report.undecodable) == ((), 0, ())
