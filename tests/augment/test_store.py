from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from augment_cases import pose
from PIL import Image

from reid_aug.augment.store import Store
from reid_aug.errors import DataError, OutputError
from reid_aug.records import GeneratedImage, Sample, Samples

POSES = {"target_a.jpg": pose(1), "target_b.jpg": pose(2)}
SETTINGS = {"seed": 0, "guidance_scale": {"pose": 2.0}, "size": (128, 64)}


def image(k: int, verdict: str = "unfiltered", suffix: str = "jpg") -> GeneratedImage:
    return GeneratedImage(
        name=f"0002_c3s1_000451_03_g{k:04d}.{suffix}",
        pid=2,
        camid=3,
        source="0002_c3s1_000451_03.jpg",
        source_pose="0002_c3s1_000451_03.jpg",
        target_pose="target_a.jpg" if k % 2 == 0 else "target_b.jpg",
        seed=k,
        generator="abc",
        sampler="DDIMScheduler",
        steps=20,
        guidance="joint",
        guidance_scale={"pose": 2.0},
        verdict=verdict,
    )


def pixels(count: int) -> torch.Tensor:
    """Smooth pictures, which JPEG keeps."""
    coarse = torch.rand(count, 3, 4, 2, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(coarse, size=(32, 16), mode="bilinear") * 255).byte()


def filled(folder, count: int = 4) -> Store:
    store = Store.create(folder, SETTINGS, POSES)
    store.append(pixels(count), [image(k) for k in range(count)])
    return store


def files(folder) -> dict[str, set[str]]:
    return {part: {file.name for file in (folder / part).iterdir()} for part in ("bounding_box_train", "rejected")}


def test_what_is_appended_is_read_back(tmp_path):
    filled(tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert store.images == [image(k) for k in range(4)]
    assert store.settings == {"seed": 0, "guidance_scale": {"pose": 2.0}, "size": [128, 64]}
    assert len(store) == 4
    assert image(1).name in store
    assert "0002_c3s1_000451_03.jpg" not in store


@pytest.mark.parametrize(("suffix", "tolerance"), [("jpg", 8), ("png", 0)])
def test_the_files_show_the_pixels(tmp_path, suffix, tolerance):
    store = Store.create(tmp_path, SETTINGS, POSES)
    store.append(pixels(1), [image(0, suffix=suffix)])
    with Image.open(store.path(image(0, suffix=suffix))) as file:
        assert file.format == {"jpg": "JPEG", "png": "PNG"}[suffix]
        read = np.asarray(file).transpose(2, 0, 1).astype(int)
    assert np.abs(read - pixels(1)[0].numpy()).max() <= tolerance


def test_a_sample_has_its_label_and_the_target_pose(tmp_path):
    samples = filled(tmp_path).samples()
    assert samples.pids.tolist() == [2] * 4
    assert samples.camids.tolist() == [3] * 4
    assert all(sample.path.is_file() for sample in samples)
    np.testing.assert_array_equal(samples.poses[samples[1].name].xy, pose(2).xy)
    assert samples.poses[samples[1].name].image_size == (128, 64)


def test_a_continued_set_keeps_its_images_and_both_runs_poses(tmp_path):
    filled(tmp_path)
    store = Store.create(tmp_path, SETTINGS, {"target_c.jpg": pose(3)})
    assert len(store) == 4
    assert set(store.samples().poses) == {image(k).name for k in range(4)}


def test_a_rejected_image_leaves_the_market_folder_and_returns(tmp_path):
    store = filled(tmp_path)
    first, second = image(0).judged(-0.1, "reject", "too far"), image(1).judged(0.2, "keep", "near")
    store.update([first, second])
    assert files(tmp_path) == {
        "bounding_box_train": {image(k).name for k in (1, 2, 3)},
        "rejected": {image(0).name},
    }
    again = Store.open(tmp_path)
    assert again.images == [first, second, image(2), image(3)]
    assert [sample.name for sample in again.samples()] == [image(k).name for k in (1, 2, 3)]
    assert [sample.path for sample in again.samples(["reject"])] == [tmp_path / "rejected" / image(0).name]
    again.update([first.judged(0.3, "keep", "near")])
    assert files(tmp_path)["rejected"] == set()
    assert len(Store.open(tmp_path).samples(["keep"])) == 2


# --- repair -------------------------------------------------------------------------------------------------------


def test_repair_removes_an_image_without_a_line(tmp_path):
    filled(tmp_path)
    (tmp_path / "bounding_box_train" / image(9).name).write_bytes(b"")
    (tmp_path / "bounding_box_train" / f".{image(8).name}.tmp").write_bytes(b"")
    Store.create(tmp_path, SETTINGS, POSES)
    assert files(tmp_path)["bounding_box_train"] == {image(k).name for k in range(4)}


def test_repair_drops_a_line_without_an_image(tmp_path):
    filled(tmp_path)
    (tmp_path / "bounding_box_train" / image(2).name).unlink()
    assert Store.create(tmp_path, SETTINGS, POSES).images == [image(k) for k in (0, 1, 3)]
    assert Store.open(tmp_path).images == [image(k) for k in (0, 1, 3)]


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_repair_cuts_a_torn_last_line_and_its_image(tmp_path, cut):
    filled(tmp_path)
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-cut])
    store = Store.create(tmp_path, SETTINGS, POSES)
    assert store.images == [image(k) for k in range(3)]
    assert files(tmp_path)["bounding_box_train"] == {image(k).name for k in range(3)}
    store.append(pixels(1), [image(3)])
    assert Store.open(tmp_path).images == [image(k) for k in range(4)]


def test_repair_moves_images_to_the_folder_of_their_verdict(tmp_path):
    store = filled(tmp_path)
    store.update([image(0).judged(-0.1, "reject", "too far")])
    path = tmp_path / "rejected" / image(0).name
    path.rename(tmp_path / "bounding_box_train" / path.name)  # as if killed between the manifest and the move
    Store.create(tmp_path, SETTINGS, POSES)
    assert files(tmp_path)["rejected"] == {image(0).name}


def test_repair_leaves_foreign_files_alone(tmp_path):
    filled(tmp_path)
    (tmp_path / "bounding_box_train" / "notes.txt").write_text("mine")
    Store.create(tmp_path, SETTINGS, POSES)
    assert (tmp_path / "bounding_box_train" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["0002_c3s1_000451_03.jpg", "0007_c1s1_000001_00.JPG", "mine.png"])
def test_images_of_another_origin_are_refused_and_stay(tmp_path, name):
    store = filled(tmp_path)
    real = tmp_path / "bounding_box_train" / name
    real.write_bytes(b"real")
    with pytest.raises(OutputError, match=rf"{name}: not an image of this generated set.*data merge"):
        Store.create(tmp_path, SETTINGS, POSES)
    with pytest.raises(OutputError, match=name):
        store.repair()
    assert real.read_bytes() == b"real"
    assert {image(k).name for k in range(4)} < files(tmp_path)["bounding_box_train"]


@pytest.mark.parametrize("missing", ["0002_c3s1_000451_03.jpg", "target_b.jpg"])
def test_a_set_made_from_other_real_images_is_refused(tmp_path, missing):
    store = Store.create(tmp_path / "out", SETTINGS, POSES)
    store.append(pixels(3), [image(0), image(1, "keep"), image(2, "reject")])
    names = ["0002_c3s1_000451_03.jpg", "target_a.jpg", "target_b.jpg"]
    real = Samples(Sample(Path(name), 2, 3) for name in names)
    store.check_origin(real)
    others = real.where(lambda sample: sample.name != missing)
    with pytest.raises(DataError, match=r"out/manifest\.jsonl: [12] of 2 images .*Give the data, fraction and seed"):
        store.check_origin(others)
    with pytest.raises(DataError, match="identity"):
        store.check_origin(Samples(Sample(sample.path, 7, 3) for sample in real))
    if missing == "target_b.jpg":
        store.check_origin(others, verdicts=("reject",))  # image 2 is in target_a


def test_opening_changes_nothing(tmp_path):
    filled(tmp_path)
    in_flight = tmp_path / "bounding_box_train" / image(9).name
    in_flight.write_bytes(b"")
    Store.open(tmp_path)
    assert in_flight.exists()


def test_a_set_killed_while_it_was_created_can_be_created(tmp_path):
    (tmp_path / ".store.json.1.tmp").write_text("{")
    filled(tmp_path)
    assert not (tmp_path / ".store.json.1.tmp").exists()
    (tmp_path / "target_poses.csv").unlink()
    assert len(Store.create(tmp_path, SETTINGS, POSES).samples()) == 4


# --- bad input ----------------------------------------------------------------------------------------------------


def test_another_run_is_refused_and_named(tmp_path):
    filled(tmp_path)
    with pytest.raises(OutputError, match=r"store\.json: the folder holds another run: `seed` is 0 there, 1 now.*Name"):
        Store.create(tmp_path, {**SETTINGS, "seed": 1}, POSES)
    assert Store.open(tmp_path).images == [image(k) for k in range(4)]


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match=r"is not empty and not a generated set.*Name another folder"):
        Store.create(tmp_path, SETTINGS, POSES)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "store").write_text("mine")
    with pytest.raises(OutputError, match=r"store: cannot be made.*Name another folder"):
        Store.create(tmp_path / "store", SETTINGS, POSES)


@pytest.mark.parametrize("text", [None, "[]", "{", '{"format": 99}', '{"format": 1}'])
def test_what_is_no_store_is_not_opened(tmp_path, text):
    if text is not None:
        (tmp_path / "store.json").write_text(text)
    with pytest.raises(OutputError, match=r"store\.json.*(generate|Generate)"):
        Store.open(tmp_path)


def test_poses_of_several_sizes_are_refused(tmp_path):
    small = type(pose())(pose().xy / 2, pose().visible, (64, 32))
    with pytest.raises(OutputError, match=r"image sizes \[\(64, 32\), \(128, 64\)\]\. Scale them to one"):
        Store.create(tmp_path / "store", SETTINGS, {**POSES, "small.jpg": small})
    with pytest.raises(OutputError, match="no target poses to start a set with"):
        Store.create(tmp_path / "store", SETTINGS, {})
    assert not (tmp_path / "store").exists()


def test_a_missing_pose_is_named(tmp_path):
    filled(tmp_path)
    csv = tmp_path / "target_poses.csv"
    csv.write_text("".join(line for line in csv.open() if not line.startswith("target_b")))
    with pytest.raises(OutputError, match=r"target_poses\.csv: has no row for target_b\.jpg.*again"):
        Store.open(tmp_path).samples()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    store = filled(tmp_path)
    (tmp_path / "bounding_box_train" / image(8).name).mkdir()  # a file cannot take its place
    with pytest.raises(OutputError, match=r"cannot be written \(Is a directory\).*folder that has room"):
        store.append(pixels(1), [image(8)])
    assert len(store) == 4


@pytest.mark.parametrize(
    ("break_line", "field"),
    [
        (lambda line: line[:30], "the line"),
        (lambda line: "", "the line"),
        (lambda line: json.dumps({**json.loads(line), "pid": "two"}), "pid"),
        (lambda line: json.dumps({k: v for k, v in json.loads(line).items() if k != "camid"}), "camid"),
    ],
)
def test_a_broken_line_in_the_middle_is_named(tmp_path, break_line, field):
    filled(tmp_path)
    manifest = tmp_path / "manifest.jsonl"
    lines = manifest.read_text().split("\n")
    lines[1] = break_line(lines[1])
    manifest.write_text("\n".join(lines))
    with pytest.raises(OutputError, match=rf"manifest\.jsonl, line 2: {field}: .*Restore the line, or delete it"):
        Store.open(tmp_path)


def test_the_folder_reads_as_market1501_without_this_package(tmp_path):
    filled(tmp_path)
    names = sorted(file.name for file in (tmp_path / "bounding_box_train").glob("*.jpg"))
    assert [(int(name.split("_")[0]), int(name.split("_c")[1][0])) for name in names] == [(2, 3)] * 4
