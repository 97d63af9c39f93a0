from __future__ import annotations

import numpy as np

from reid_aug.pose.skeleton import JOINTS, LIMBS, MIRROR, PART_MIRROR, PARTS, has_trunk, mirrored
from reid_aug.records import Pose


def other_side(name: str) -> str:
    if name.startswith("left_"):
        return name.replace("left_", "right_")
    return name.replace("right_", "left_")


def test_mirror_tables_follow_the_names():
    assert [JOINTS[k] for k in MIRROR] == [other_side(name) for name in JOINTS]
    assert [PARTS[k].name for k in PART_MIRROR] == [other_side(part.name) for part in PARTS]


def test_parts_and_limbs_mirror_onto_each_other():
    for part, twin in zip(PARTS, PART_MIRROR):
        twin = PARTS[twin]
        assert {MIRROR[k] for k in part.start} == set(twin.start)
        assert {MIRROR[k] for k in part.end} == set(twin.end)
        assert part.radius == twin.radius
    assert {(MIRROR[a], MIRROR[b]) for a, b in LIMBS} == set(LIMBS)


def test_mirrored_pose_swaps_sides_and_reflects():
    xy = np.zeros((18, 2), np.float32)
    visible = np.zeros(18, bool)
    xy[4], visible[4] = (10.0, 60.0), True  # the right wrist
    flipped = mirrored(Pose(xy, visible, (128, 64)))
    assert flipped.visible.tolist() == [k == 7 for k in range(18)]
    assert flipped.xy[7].tolist() == [53.0, 60.0]
    assert np.all(flipped.xy[~flipped.visible] == 0)


def test_mirroring_twice_is_the_same_pose(standing):
    again = mirrored(mirrored(standing))
    np.testing.assert_array_equal(again.xy, standing.xy)
    np.testing.assert_array_equal(again.visible, standing.visible)


def test_has_trunk_needs_both_shoulders_and_both_hips(standing):
    assert has_trunk(standing)
    for joint in (2, 5, 8, 11):
        visible = standing.visible.copy()
        visible[joint] = False
        assert not has_trunk(Pose(standing.xy, visible, standing.image_size))
