from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import tiny_configs

from reid_aug.augment.store import Store
from reid_aug.config import GeneratorSource
from reid_aug.data.images import decode
from reid_aug.errors import DataError
from reid_aug.records import Samples
from reid_aug.study.cell import Study
from reid_aug.study.evaluate_reid import SHOWN_QUERIES
from reid_aug.study.pages import (
    generated_sets,
    generated_sheets,
    ranked_lists,
    report_study,
    seen_by,
    store_sheet,
)
from reid_aug.study.sheets import GAP, SCALE
from reid_aug.study.sweep import run_sweep


@pytest.fixture(scope="module")
def page(finished, toy_market, tmp_path_factory) -> str:
    folder = shutil.copytree(finished.folder, tmp_path_factory.mktemp("pages") / "study")
    path = report_study(folder, toy_market, caveats=("A caveat.",))
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


def test_the_page_says_what_came_out(page, finished):
    assert "Rank-1 against standard: warp has too few seeds to tell (" in page  # the headline
    assert "Against warp" in page and "Against copies" in page  # tables against the controls
    for result in finished.results:
        assert f"<td>{result.rank1:.1f}</td>" in page
    assert "A caveat." in page


def test_the_page_shows_images_and_ranked_lists(page):
    assert page.count("data:image/jpeg") == 5 + 6 * SHOWN_QUERIES
    for arm in ("warp", "copies", "own", "whole", "inpaint-whole"):
        assert f"{arm}: 50 % of the training images, seed 0" in page
    assert "standard: query 00" in page


def test_the_page_says_what_generators_saw_and_how_long_stages_took(page):
    assert seen_by(GeneratorSource(sees="subset", folder="x")) in page
    assert seen_by(GeneratorSource(sees="train", folder="x")) in page
    assert seen_by(GeneratorSource(sees="other", folder="x")) not in page
    assert "train generator" in page
    assert "backbone: osnet_x0_25" in page  # the resolved settings


def test_the_sets_are_counted(finished, toy_market):
    study = Study(finished.config, toy_market, finished.folder)
    sets = {arm: one for one in generated_sets(study) for arm in one.arms}
    assert set(sets) == {"warp", "copies", "own", "whole", "inpaint-whole"}
    for result in finished.results:
        if result.arm != "standard":
            assert (sets[result.arm].fraction, sets[result.arm].seed) == (0.5, 0)
            assert sets[result.arm].kept == result.synthetic_images <= sets[result.arm].drawn


def test_a_sheet_puts_images_beside_what_they_were_made_from(finished, toy_market):
    study = Study(finished.config, toy_market, finished.folder)
    store = Store.open(study.generated_folder("copies", 0.5, 0))
    without_poses = Samples(toy_market.train)  # as when a report is asked for without the sweep's key-point file
    sheet = np.asarray(store_sheet(store, without_poses), float)
    height, width = 128 * SCALE, 64 * SCALE
    top = sheet.shape[0] - (height + GAP)  # the last line is the last image

    def tile(column: int) -> np.ndarray:
        left = (sheet.shape[1] - GAP) // 4 * column + GAP
        return sheet[top : top + height, left : left + width]

    # A copy is its source, but for being written as JPEG again; the real image is another one of the person.
    assert np.abs(tile(0) - tile(2)).mean() < 4
    assert np.abs(tile(0) - tile(3)).mean() > 8
    source = decode(toy_market.root / "bounding_box_train" / store.images[-1].source).permute(1, 2, 0).numpy()
    assert np.abs(tile(0)[::SCALE, ::SCALE] - source).mean() < 12


def test_a_set_without_an_image_yet_has_no_sheet(finished, toy_market, tmp_path):
    there = Store.open(Study(finished.config, toy_market, finished.folder).generated_folder("warp", 0.5, 0))
    poses = {image.target_pose: toy_market.train.poses[image.target_pose] for image in there.images}
    study = Study(finished.config, toy_market, tmp_path)
    Store.create(study.generated_folder("warp", 0.5, 0), {}, poses)
    assert generated_sheets(study) == []
    assert ranked_lists(study) == []


def test_what_cannot_be_reported(finished, toy_market, tmp_path):
    with pytest.raises(DataError, match=r"no study\.yaml in it\. Name a folder that `reid-aug sweep` wrote"):
        report_study(tmp_path, toy_market)
    run_sweep(tiny_configs.study(), toy_market, tmp_path / "empty", minutes=0)
    with pytest.raises(DataError, match="no results to report"):
        report_study(tmp_path / "empty", toy_market)
    other = dataclasses.replace(toy_market, gallery=toy_market.gallery[1:])
    with pytest.raises(DataError, match="not the images that the study"):
        report_study(finished.folder, other)
