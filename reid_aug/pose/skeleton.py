"""The OpenPose-18 skeleton: joints, limbs, what mirrors to what, and the ten parts of the body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reid_aug.records import Pose

JOINTS = (
    "nose", "neck",
    "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
"""Joint names in the order of the key-point CSV; left and right are the person's own."""

NOSE, NECK = 0, 1
RIGHT_SHOULDER, RIGHT_ELBOW, RIGHT_WRIST = 2, 3, 4
LEFT_SHOULDER, LEFT_ELBOW, LEFT_WRIST = 5, 6, 7
RIGHT_HIP, RIGHT_KNEE, RIGHT_ANKLE = 8, 9, 10
LEFT_HIP, LEFT_KNEE, LEFT_ANKLE = 11, 12, 13
RIGHT_EYE, LEFT_EYE, RIGHT_EAR, LEFT_EAR = 14, 15, 16, 17

SHOULDERS = (RIGHT_SHOULDER, LEFT_SHOULDER)
HIPS = (RIGHT_HIP, LEFT_HIP)
FACE = (NOSE, RIGHT_EYE, LEFT_EYE, RIGHT_EAR, LEFT_EAR)

MIRROR = (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16)
"""Joint k of a mirrored person is joint MIRROR[k] of the original: left and right change places."""

LIMBS = (
    (NECK, RIGHT_SHOULDER), (NECK, LEFT_SHOULDER),
    (RIGHT_SHOULDER, RIGHT_ELBOW), (RIGHT_ELBOW, RIGHT_WRIST),
    (LEFT_SHOULDER, LEFT_ELBOW), (LEFT_ELBOW, LEFT_WRIST),
    (NECK, RIGHT_HIP), (RIGHT_HIP, RIGHT_KNEE), (RIGHT_KNEE, RIGHT_ANKLE),
    (NECK, LEFT_HIP), (LEFT_HIP, LEFT_KNEE), (LEFT_KNEE, LEFT_ANKLE),
    (NECK, NOSE), (NOSE, RIGHT_EYE), (RIGHT_EYE, RIGHT_EAR), (NOSE, LEFT_EYE), (LEFT_EYE, LEFT_EAR),
)  # fmt: skip
"""The pairs of joints that OpenPose draws, in its order."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the body: a capsule around the bone from ``start`` to ``end``.

    Attributes:
        start, end: groups of joints; a bone's end is the mean of the group's visible joints.
        radius: of the capsule, pixels of an image ``PART_HEIGHT`` pixels high.
    """

    name: str
    start: tuple[int, ...]
    end: tuple[int, ...]
    radius: float


PART_HEIGHT = 128

PARTS = (
    Part("torso", (NECK,), HIPS, 13.0),
    Part("head", (NECK,), FACE, 9.0),
    Part("right_upper_arm", (RIGHT_SHOULDER,), (RIGHT_ELBOW,), 6.0),
    Part("right_lower_arm", (RIGHT_ELBOW,), (RIGHT_WRIST,), 5.0),
    Part("left_upper_arm", (LEFT_SHOULDER,), (LEFT_ELBOW,), 6.0),
    Part("left_lower_arm", (LEFT_ELBOW,), (LEFT_WRIST,), 5.0),
    Part("right_upper_leg", (RIGHT_HIP,), (RIGHT_KNEE,), 7.0),
    Part("right_lower_leg", (RIGHT_KNEE,), (RIGHT_ANKLE,), 6.0),
    Part("left_upper_leg", (LEFT_HIP,), (LEFT_KNEE,), 7.0),
    Part("left_lower_leg", (LEFT_KNEE,), (LEFT_ANKLE,), 6.0),
)
"""The ten parts; PARTS[i] has index i + 1 in a part map, 0 is background."""

PART_MIRROR = (0, 1, 4, 5, 2, 3, 8, 9, 6, 7)
"""Part i of a mirrored person is part PART_MIRROR[i] of the original."""


def has_trunk(pose: Pose) -> bool:
    """Whether both shoulders and both hips are visible: what the literature asks of a pose it transfers to or from."""
    return bool(np.all(pose.visible[list(SHOULDERS + HIPS)]))
