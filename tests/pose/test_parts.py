from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from reid_aug.errors import DataError
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.parts import DENSEPOSE_MIRROR, DENSEPOSE_PARTS
from reid_aug.pose.render import read_part_map


@pytest.fixture
def with_map(make_poses, tmp_path):
    """A pose and its part map [128, 64] from an array that is written as PNG."""

    def make(parts: np.ndarray, name: str = "map.png", mode: str | None = None):
        image = Image.fromarray(parts)
        (image if mode is None else image.convert(mode)).save(tmp_path / name)
        return replace(make_poses(1)[0], part_file=tmp_path / name)

    return make


def indices(size: tuple[int, int] = (128, 64), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 25, size, np.uint8)


def test_mirrored_names_are_the_other_sides():
    for index, name in enumerate(DENSEPOSE_PARTS, start=1):
        other = DENSEPOSE_PARTS[DENSEPOSE_MIRROR[index] - 1]
        assert other == name.replace("left_", "?").replace("right_", "left_").replace("?", "right_")
    assert DENSEPOSE_MIRROR[0] == 0


def test_maps_travel_with_their_poses(with_map):
    maps = [indices(seed=seed) for seed in range(3)]
    batch = PoseBatch.stack([with_map(parts, f"{k}.png") for k, parts in enumerate(maps)], part_maps=True)
    assert batch.parts.dtype == torch.uint8
    assert (batch.parts.numpy() == np.stack(maps)).all()
    assert (batch.at([2, 0]).to("cpu").parts.numpy() == np.stack([maps[2], maps[0]])).all()
    assert PoseBatch.stack([with_map(maps[0])]).parts is None


def test_flipped_where_asked_with_left_and_right_exchanged(with_map):
    maps = [indices(seed=seed) for seed in range(2)]
    batch = PoseBatch.stack([with_map(parts, f"{k}.png") for k, parts in enumerate(maps)], part_maps=True)
    some = batch.mirrored_where(torch.tensor([True, False]))
    for y, x in np.ndindex(128, 64):
        assert some.parts[0, y, x] == DENSEPOSE_MIRROR[maps[0][y, 63 - x]]
    assert (some.parts[1].numpy() == maps[1]).all()
    torch.testing.assert_close(some.xy, torch.stack([batch.mirrored().xy[0], batch.xy[1]]))
    torch.testing.assert_close(batch.mirrored().mirrored().parts, batch.parts)


def test_sizes(with_map):
    """A file of another size is brought to the image's; a grid takes the nearest pixel to each cell's centre."""
    large = indices((256, 128))
    batch = PoseBatch.stack([with_map(large)], part_maps=True)
    assert (batch.parts[0].numpy() == large[1::2, 1::2]).all()
    grid = read_part_map(batch.scaled((32, 16)), (32, 16))
    assert grid.dtype == torch.int64
    assert (grid[0].numpy() == batch.parts[0, 2::4, 2::4].numpy()).all()


def test_palette_pictures_are_read_by_index(with_map):
    image = Image.fromarray(indices(), "P")
    image.putpalette(list(range(75)))
    pose = with_map(indices())
    image.save(pose.part_file)
    assert (PoseBatch.stack([pose], part_maps=True).parts[0].numpy() == indices()).all()


def test_bad_maps(with_map, tmp_path):
    good = with_map(indices())
    remedy = r"model\.part_maps=keypoints"

    def fails(pose, message: str) -> None:
        with pytest.raises(DataError, match=message + ".*" + remedy):
            PoseBatch.stack([good, pose], part_maps=True)

    fails(replace(good, part_file=None), r"poses\[1\]: part_file is not set, which .*model\.part_maps=files.*")
    fails(
        replace(good, part_file=tmp_path / "no.png"), r"no\.png: no such part map, .*Write DensePose's index map there"
    )
    fails(with_map(indices(), "rgb.png", "RGB"), r"rgb\.png: a picture of mode RGB, not an index map")
    fails(with_map(np.full((128, 64), 25, np.uint8), "high.png"), r"high\.png: has index 25; DensePose's are 0")
    whole = good.part_file.read_bytes()
    header_without_sum = whole[:29] + bytes(4) + whole[33:]  # Pillow raises a SyntaxError
    for broken in (b"no picture", whole[:60], header_without_sum):
        (tmp_path / "broken.png").write_bytes(broken)
        fails(replace(good, part_file=tmp_path / "broken.png"), r"broken\.png: cannot be read as a part map")
    with pytest.raises(DataError, match=r"no part maps, which model\.part_maps=files asks for\. Stack them with"):
        read_part_map(PoseBatch.stack([good]), (32, 16))
