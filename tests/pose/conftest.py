from __future__ import annotations

import numpy as np
import pytest

from reid_aug.records import Pose

# A person of 128x64 seen from the front, by joint number.
STANDING = [
    (32, 14), (32, 26), (22, 27), (18, 45), (16, 60), (42, 27), (46, 45), (48, 60), (26, 64), (25, 90), (24, 116),
    (38, 64), (39, 90), (40, 116), (30, 12), (34, 12), (27, 13), (37, 13),
]  # fmt: skip


@pytest.fixture
def standing() -> Pose:
    return Pose(np.array(STANDING, np.float32), np.ones(18, bool), (128, 64))


@pytest.fixture
def make_poses():
    """n standing people with every joint moved by up to ``jitter`` pixels; a share of the joints hidden."""

    def make(n: int, seed: int = 0, hidden: float = 0.2, jitter: float = 8.0) -> list[Pose]:
        rng = np.random.default_rng(seed)
        poses = []
        for _ in range(n):
            xy = np.array(STANDING) + rng.uniform(-jitter, jitter, (18, 2))
            visible = rng.random(18) >= hidden
            visible[rng.integers(18)] = True
            poses.append(Pose((xy * visible[:, None]).astype(np.float32), visible, (128, 64)))
        return poses

    return make
