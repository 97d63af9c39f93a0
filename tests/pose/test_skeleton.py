from __future__ import annotations

from reid_aug.pose.skeleton import JOINTS, LIMBS, MIRROR, PART_MIRROR, PARTS, has_trunk
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


def test_has_trunk_needs_both_shoulders_and_both_hips(standing):
    assert has_trunk(standing)
    for joint in (2, 5, 8, 11):
        visible = standing.visible.copy()
        visible[joint] = False
        assert not has_trunk(Pose(standing.xy, visible, standing.image_size))
