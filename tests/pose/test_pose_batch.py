from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from reid_aug.errors import DataError
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.skeleton import MIRROR, PARTS
from reid_aug.records import Pose


def test_stack_keeps_every_pose_in_order(make_poses):
    poses = make_poses(5)
    batch = PoseBatch.stack(poses)
    assert len(batch) == 5 and batch.image_size == (128, 64)
    assert batch.xy.dtype == torch.float32 and batch.visible.dtype == torch.bool
    for index, pose in enumerate(poses):
        np.testing.assert_array_equal(batch.xy[index].numpy(), pose.xy)
        np.testing.assert_array_equal(batch.visible[index].numpy(), pose.visible)


def test_stack_blanks_whatever_an_invisible_joint_holds(standing):
    xy, visible = standing.xy.copy(), standing.visible.copy()
    xy[4], visible[4] = np.nan, False
    assert PoseBatch.stack([Pose(xy, visible, (128, 64))]).xy[0, 4].tolist() == [0.0, 0.0]


def test_at_takes_poses_in_the_order_asked_for(make_poses):
    batch = PoseBatch.stack(make_poses(5))
    for indices in ([3, 1, 3], np.array([3, 1, 3]), torch.tensor([3, 1, 3])):
        assert torch.equal(batch.at(indices).xy, batch.xy[[3, 1, 3]])


def test_mirrored_swaps_sides_and_reflects_joint_by_joint(make_poses):
    poses = make_poses(20, hidden=0.3)
    batch = PoseBatch.stack(poses).mirrored()
    for index, pose in enumerate(poses):
        for joint, twin in enumerate(MIRROR):
            assert batch.visible[index, joint] == pose.visible[twin]
            x, y = pose.xy[twin]
            assert batch.xy[index, joint].tolist() == ([63 - x, y] if pose.visible[twin] else [0, 0])


def test_mirroring_twice_is_the_same_batch(make_poses):
    batch = PoseBatch.stack(make_poses(5, hidden=0.3))
    again = batch.mirrored().mirrored()
    torch.testing.assert_close(again.xy, batch.xy, atol=1e-5, rtol=0)
    assert torch.equal(again.visible, batch.visible)


def test_scaled_moves_pixel_centres(standing):
    scaled = PoseBatch.stack([standing]).scaled((64, 128))
    assert scaled.image_size == (64, 128)
    np.testing.assert_allclose(scaled.xy[0].numpy(), (standing.xy + 0.5) * [2.0, 0.5] - 0.5)


def test_scaling_and_mirroring_commute(make_poses):
    batch = PoseBatch.stack(make_poses(20))
    one, other = batch.scaled((32, 48)).mirrored(), batch.mirrored().scaled((32, 48))
    torch.testing.assert_close(one.xy, other.xy, atol=1e-4, rtol=0)


def test_bones_against_a_loop(make_poses):
    poses = make_poses(30, hidden=0.4)
    start, end, visible = PoseBatch.stack(poses).bones()
    for b, pose in enumerate(poses):
        for p, part in enumerate(PARTS):
            groups = [[k for k in group if pose.visible[k]] for group in (part.start, part.end)]
            assert visible[b, p] == (len(groups[0]) > 0 and len(groups[1]) > 0)
            for bone_end, group in zip((start, end), groups):
                if group:
                    np.testing.assert_allclose(bone_end[b, p].numpy(), pose.xy[group].mean(0), rtol=1e-5)


def broken(pose: Pose, **changes) -> Pose:
    return Pose(**{"xy": pose.xy, "visible": pose.visible, "image_size": pose.image_size, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": (256, 128)}, r"poses\[1\]: image_size is \(256, 128\).*\(128, 64\).*Read all"),
        ({"xy": np.zeros((17, 2)), "visible": np.ones(17, bool)}, r"poses\[1\]: xy has shape \(17, 2\).*18 OpenPose"),
        ({"visible": np.zeros(18, bool)}, r"poses\[1\]: visible has no joint.*Leave out"),
        ({"xy": np.full((18, 2), np.nan)}, r"poses\[1\]: xy of a visible joint is not a number.*Correct"),
    ],
)
def test_a_bad_pose_is_named(standing, changes, message):
    with pytest.raises(DataError, match=message):
        PoseBatch.stack([standing, broken(standing, **changes)])


def test_no_poses_at_all():
    with pytest.raises(DataError, match="poses: the list is empty"):
        PoseBatch.stack([])


def test_cameras_go_with_their_poses(make_poses):
    batch = PoseBatch.stack([replace(pose, camid=camid) for pose, camid in zip(make_poses(4), (3, None, 1, 6))])
    assert batch.camids.tolist() == [3, 0, 1, 6]
    assert batch.at([3, 0]).camids.tolist() == [6, 3]
    for same in (batch.scaled((64, 32)), batch.mirrored(), batch.mirrored_where(torch.tensor([True, False] * 2))):
        assert same.camids.tolist() == [3, 0, 1, 6]
    assert batch.unseen_where(torch.tensor([True, False, False, True])).camids.tolist() == [0, 0, 1, 0]
    assert batch.camids.tolist() == [3, 0, 1, 6]
