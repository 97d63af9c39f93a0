from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.render import LIMB_RADIUS, capsule_distance, heatmaps, limb_image, part_map
from reid_aug.pose.skeleton import LIMBS, MIRROR, PART_MIRROR, PARTS
from reid_aug.records import Pose

SIZE = (32, 16)


@pytest.fixture
def batch(make_poses) -> PoseBatch:
    return PoseBatch.stack(make_poses(6, seed=1))


def to_segment(point: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """Distance by a fine walk along the segment."""
    steps = np.linspace(0, 1, 400)[:, None]
    return float(np.linalg.norm(start + steps * (end - start) - point, axis=1).min())


def only(standing: Pose, *joints: int) -> PoseBatch:
    visible = np.isin(np.arange(18), joints)
    return PoseBatch.stack([Pose(standing.xy * visible[:, None], visible, standing.image_size)])


def test_heatmaps_against_a_loop(batch):
    maps, scaled = heatmaps(batch, SIZE, sigma=1.5), batch.scaled(SIZE)
    assert maps.shape == (6, 18, *SIZE) and maps.dtype == torch.float32
    for b, k in np.ndindex(6, 18):
        if not batch.visible[b, k]:
            assert not maps[b, k].any()
            continue
        x, y = scaled.xy[b, k].tolist()
        naive = [[np.exp(-((j - x) ** 2 + (i - y) ** 2) / (2 * 1.5**2)) for j in range(16)] for i in range(32)]
        np.testing.assert_allclose(maps[b, k].numpy(), naive, atol=1e-5)


def test_a_heat_map_is_one_at_its_joint(standing):
    maps = heatmaps(PoseBatch.stack([standing]), (128, 64), sigma=3.0)
    for k, (x, y) in enumerate(standing.xy.astype(int)):
        assert maps[0, k, y, x] == 1.0


def test_capsule_distance_against_a_loop(make_poses):
    batch = PoseBatch.stack(make_poses(2, seed=3))
    distance = capsule_distance(batch, SIZE)
    start, end, visible = (t.numpy() for t in batch.scaled(SIZE).bones())
    for b, p in np.ndindex(2, 10):
        if not visible[b, p]:
            assert torch.isinf(distance[b, p]).all()
            continue
        radius = PARTS[p].radius * SIZE[0] / 128
        for y, x in [(0, 0), (8, 8), (15, 3), (31, 15)]:
            naive = to_segment(np.array([x, y]), start[b, p], end[b, p]) / radius
            assert distance[b, p, y, x].item() == pytest.approx(naive, abs=0.02)


def test_a_bone_without_length_is_a_disc(standing):
    xy = standing.xy.copy()
    xy[3] = xy[2]  # the elbow on the shoulder
    distance = capsule_distance(PoseBatch.stack([Pose(xy, standing.visible, (128, 64))]), (128, 64))
    x, y = xy[2]
    assert distance[0, 2, int(y), int(x) + 3].item() == pytest.approx(3 / PARTS[2].radius)
    assert distance[0, 2, int(y) + 4, int(x)].item() == pytest.approx(4 / PARTS[2].radius)


def test_part_map_is_the_relatively_nearest_capsule(batch):
    parts, distance = part_map(batch, (64, 32)), capsule_distance(batch, (64, 32))
    assert parts.dtype == torch.int64 and parts.shape == (6, 64, 32)
    for b, y, x in np.ndindex(6, 64, 32):
        pixel = distance[b, :, y, x]
        assert parts[b, y, x] == (int(pixel.argmin()) + 1 if pixel.min() <= 1 else 0)


def test_part_map_gives_every_part_its_own_index(standing):
    parts = part_map(PoseBatch.stack([standing]), (128, 64))[0]
    start, end, _ = PoseBatch.stack([standing]).bones()
    for index in range(10):
        x, y = ((start[0, index] + end[0, index]) / 2).round().int().tolist()
        assert parts[y, x] == index + 1, PARTS[index].name
    assert parts[0, 0] == 0


def test_limb_image_draws_lines_of_the_stated_width(standing):
    image = limb_image(only(standing, 2, 3), (128, 64))
    a, b = standing.xy[2], standing.xy[3]
    background = (image[0] == -1).all(0).numpy()
    for y, x in np.ndindex(128, 64):
        distance = to_segment(np.array([x, y]), a, b)
        if distance < LIMB_RADIUS + 0.4:
            assert not background[y, x]
        elif distance > LIMB_RADIUS + 0.6:
            assert background[y, x]
    assert image.max() <= 1 and image.max() > 0.9
    levels = image[0, 0].unique()
    assert len(levels) > 5, "the edge is anti-aliased"


def test_limb_without_both_ends_is_not_drawn(standing):
    assert (limb_image(only(standing, 2), (128, 64)) == -1).all()
    assert (limb_image(only(standing, 2, 4), (128, 64)) == -1).all()
    both = limb_image(only(standing, 2, 3, 4), (128, 64))
    assert (both > -1).any()


def test_every_limb_has_a_colour_of_its_own(standing):
    colours = {tuple(limb_image(only(standing, a, b), (128, 64))[0].amax((1, 2)).tolist()) for a, b in LIMBS}
    assert len(colours) == len(LIMBS)


def test_mirroring_flips_every_rendering(batch):
    flipped = batch.mirrored()
    torch.testing.assert_close(heatmaps(flipped, SIZE, 1.5), heatmaps(batch, SIZE, 1.5).flip(-1)[:, list(MIRROR)])
    torch.testing.assert_close(
        limb_image(flipped, (64, 32)), limb_image(batch, (64, 32)).flip(-1).flip(1), atol=1e-4, rtol=0
    )
    distance = capsule_distance(batch, (64, 32)).flip(-1)
    torch.testing.assert_close(capsule_distance(flipped, (64, 32)), distance[:, list(PART_MIRROR)], atol=1e-4, rtol=0)
    index = torch.tensor([0, *(k + 1 for k in PART_MIRROR)])
    same = part_map(flipped, (64, 32)) == index[part_map(batch, (64, 32)).flip(-1)]
    assert same.float().mean() > 0.999  # a pixel as near to one part as to another may go either way


def test_autocast_changes_nothing(batch):
    with torch.autocast("cpu", torch.bfloat16):
        inside = heatmaps(batch, SIZE, 1.5), limb_image(batch, SIZE), part_map(batch, SIZE)
    for one, other in zip(inside, (heatmaps(batch, SIZE, 1.5), limb_image(batch, SIZE), part_map(batch, SIZE))):
        assert torch.equal(one, other)
