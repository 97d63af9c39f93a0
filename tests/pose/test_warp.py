from __future__ import annotations

import numpy as np
import pytest
import torch

from reid_aug.errors import DataError
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.render import capsule_distance, part_map
from reid_aug.pose.skeleton import PARTS
from reid_aug.pose.warp import SCALE_RANGE, _similarities, warp_parts
from reid_aug.records import Pose

SIZE = (128, 64)


def ramps(batch: int) -> torch.Tensor:
    """Images whose red is x and whose green is y, from -1 to 1: a pixel's colour says where it came from."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIZE[0]), torch.linspace(-1, 1, SIZE[1]), indexing="ij")
    return torch.stack([x, y, torch.zeros_like(x)]).expand(batch, -1, -1, -1)


def origin(image: torch.Tensor, x: int, y: int) -> tuple[float, float]:
    red, green = image[0, 0, y, x].item(), image[0, 1, y, x].item()
    return (red + 1) / 2 * (SIZE[1] - 1), (green + 1) / 2 * (SIZE[0] - 1)


def hidden(pose: Pose, *joints: int) -> Pose:
    visible = pose.visible & ~np.isin(np.arange(18), joints)
    return Pose(pose.xy * visible[:, None], visible, pose.image_size)


def arm(shoulder: tuple[float, float], elbow: tuple[float, float]) -> PoseBatch:
    xy, visible = np.zeros((18, 2), np.float32), np.zeros(18, bool)
    xy[2], xy[3] = shoulder, elbow
    visible[[2, 3]] = True
    return PoseBatch.stack([Pose(xy, visible, SIZE)])


def similarity(point, target, source, part: int = 2) -> complex:
    """Where the similarity of a part (the right upper arm) takes a pixel, by complex numbers."""
    (a, b), (c, d) = ([complex(*end[0, part].tolist()) for end in pose.bones()[:2]] for pose in (target, source))
    factor = (d - c) / (b - a)
    factor *= min(max(abs(factor), SCALE_RANGE[0]), SCALE_RANGE[1]) / abs(factor)
    return factor * (complex(*point) - (a + b) / 2) + (c + d) / 2


def test_the_same_pose_gives_the_same_person(make_poses):
    poses = PoseBatch.stack(make_poses(4))
    source = torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    image, coverage = warp_parts(source, poses, poses)
    person = (part_map(poses, SIZE) > 0)[:, None]
    assert (coverage[person] > 0.3).all()
    torch.testing.assert_close(image * person, source * person, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("target", "source"),
    [
        (((20, 40), (20, 60)), ((30, 50), (30, 70))),  # moved
        (((20, 40), (20, 60)), ((20, 50), (40, 50))),  # turned
        (((20, 40), (20, 60)), ((30, 50), (30, 80))),  # 1.5 times as long
        (((20, 40), (20, 50)), ((30, 30), (30, 90))),  # 6 times: clamped
        (((20, 30), (20, 80)), ((30, 55), (35, 55))),  # a tenth: clamped
    ],
)
def test_one_part_follows_its_similarity(target, source):
    target, source = arm(*target), arm(*source)
    image, coverage = warp_parts(ramps(1), source, target)
    inside = (capsule_distance(target, SIZE)[0, 2] < 0.8).nonzero().tolist()
    assert len(inside) > 20
    for y, x in inside:
        assert origin(image, x, y) == pytest.approx(_pair(similarity((x, y), target, source)), abs=0.02)
        assert coverage[0, 0, y, x].item() == pytest.approx(1)


def _pair(z: complex) -> tuple[float, float]:
    return z.real, z.imag


def test_a_part_missing_in_either_pose_is_left_out(standing):
    whole, without = PoseBatch.stack([standing]), PoseBatch.stack([hidden(standing, 10)])
    shin = PARTS.index(next(part for part in PARTS if part.name == "right_lower_leg"))
    only_shin = (capsule_distance(whole, SIZE) < 1.0).sum(1) == 1
    pixels = only_shin & (part_map(whole, SIZE) == shin + 1)
    pixels[:, :102] = False  # further up the thigh's soft edge reaches it
    assert pixels.any()
    assert (warp_parts(ramps(1), whole, whole)[1][:, 0][pixels] > 0.4).all()
    for source, target in ((whole, without), (without, whole)):
        image, coverage = warp_parts(ramps(1), source, target)
        assert not coverage[:, 0][pixels].any()
        assert not image[:, :, pixels[0]].any()


def test_what_comes_from_outside_the_source_is_not_covered():
    target, source = arm((32, 40), (32, 60)), arm((1, 40), (1, 60))
    image, coverage = warp_parts(torch.ones(1, 3, *SIZE), source, target)
    assert coverage[0, 0, 50, 31] == 1 and coverage[0, 0, 50, 29] == 0
    assert set(image.unique().tolist()) <= {0.0, 1.0}, "nothing of the outside is mixed in"


def test_where_parts_overlap_the_nearer_bone_shows(standing):
    xy = standing.xy.copy()
    xy[3], xy[4] = (22, 45), (40, 45)  # the right forearm across the belly
    target = PoseBatch.stack([Pose(xy, standing.visible, SIZE)])
    source = PoseBatch.stack([standing])
    x = part_map(source, SIZE)[:, None].float().expand(-1, 3, -1, -1) / 10  # each part in a colour of its own
    image, _ = warp_parts(x, source, target)
    assert image[0, 0, 45, 26].item() == pytest.approx(0.4, abs=0.02)  # forearm
    assert image[0, 0, 35, 32].item() == pytest.approx(0.1, abs=0.02)  # torso


def test_overlapping_parts_blend_over_the_seam(make_poses):
    source, target = (PoseBatch.stack(make_poses(1, seed=seed, hidden=0.0, jitter=2.0)) for seed in (1, 2))
    image, coverage = warp_parts(ramps(1), source, target)
    distance = capsule_distance(target, SIZE)[0].clamp(max=1.15)
    weight = (1.15 - distance).clamp(max=0.3) * torch.exp(-12 * distance)
    blended = 0
    for y, x in (coverage[0, 0] > 0.99).nonzero().tolist():
        nearest = distance[:, y, x].argsort()[:2].tolist()
        share = (weight[nearest, y, x] / weight[nearest, y, x].sum()).tolist()
        naive = sum(w * similarity((x, y), target, source, part) for w, part in zip(share, nearest))
        assert origin(image, x, y) == pytest.approx(_pair(naive), abs=0.02)
        blended += max(share) < 0.7
    assert blended > 50


def test_each_image_is_warped_alone(make_poses):
    source_pose, target_pose = PoseBatch.stack(make_poses(5, seed=1)), PoseBatch.stack(make_poses(5, seed=2))
    source = torch.rand(5, 3, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    image, coverage = warp_parts(source, source_pose, target_pose)
    assert image.shape == (5, 3, *SIZE) and coverage.shape == (5, 1, *SIZE)
    assert image.abs().max() <= 1 + 1e-5
    assert coverage.min() >= 0 and coverage.max() <= 1
    for k in range(5):
        alone = warp_parts(source[k : k + 1], source_pose.at([k]), target_pose.at([k]))
        torch.testing.assert_close(alone[0][0], image[k])
        torch.testing.assert_close(alone[1][0], coverage[k])


def test_mirrored_inputs_give_the_mirrored_warp(make_poses):
    source_pose, target_pose = PoseBatch.stack(make_poses(6, seed=1)), PoseBatch.stack(make_poses(6, seed=2))
    image, coverage = warp_parts(ramps(6), source_pose, target_pose)
    flipped, flipped_coverage = warp_parts(ramps(6).flip(-1), source_pose.mirrored(), target_pose.mirrored())
    torch.testing.assert_close(flipped_coverage, coverage.flip(-1), atol=1e-3, rtol=0)
    difference = (flipped - image.flip(-1)).abs() * flipped_coverage
    assert difference.mean() < 1e-4
    assert (difference > 0.01).float().mean() < 1e-3  # three parts equally near: which two are blended is arbitrary


def test_poses_of_another_image_size_are_scaled(make_poses):
    source_pose, target_pose = PoseBatch.stack(make_poses(2, seed=1)), PoseBatch.stack(make_poses(2, seed=2))
    larger = target_pose.scaled((256, 128))
    for one, other in zip(warp_parts(ramps(2), source_pose, target_pose), warp_parts(ramps(2), source_pose, larger)):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)


def test_bones_without_length_give_finite_images(standing):
    point = PoseBatch.stack([Pose(np.full((18, 2), 30, np.float32), np.ones(18, bool), SIZE)])
    whole = PoseBatch.stack([standing])
    for source, target in ((point, whole), (whole, point), (point, point)):
        for tensor in warp_parts(ramps(1), source, target):
            assert tensor.isfinite().all()


def test_a_bone_without_length_is_carried_at_the_least_scale_unturned(standing):
    point = PoseBatch.stack([Pose(np.full((18, 2), 30, np.float32), np.ones(18, bool), SIZE)])
    whole = PoseBatch.stack([standing])
    for source, target in ((point, whole), (whole, point), (point, point)):
        transform, possible = _similarities(source, target)
        assert possible.all()
        expected = torch.tensor([SCALE_RANGE[0], 0.0]).expand(1, 10, 2)
        torch.testing.assert_close(transform[..., :2], expected)


def test_half_precision_is_computed_in_float32(make_poses):
    poses = PoseBatch.stack(make_poses(2))
    source = ramps(2).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        inside = warp_parts(source, poses, poses.mirrored())
    for one, other in zip(inside, warp_parts(source.float(), poses, poses.mirrored())):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)


def test_counts_must_agree(standing):
    one, two = PoseBatch.stack([standing]), PoseBatch.stack([standing, standing])
    with pytest.raises(DataError, match=r"2 source images, 1 source poses, 2 target poses.*Give one of each"):
        warp_parts(ramps(2), one, two)
