"""Small sets of people that the tests of this room, and the processes they kill, build from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from reid_aug.augment.generate import create_store
from reid_aug.augment.plan import PlannedImage
from reid_aug.augment.store import Store
from reid_aug.augment.training_free import CopyAugmenter, WarpAugmenter
from reid_aug.config import AugmentConfig
from reid_aug.records import Pose, Sample, Samples

STANDING = [
    (32, 14), (32, 28), (24, 28), (20, 44), (18, 58), (40, 28), (44, 44), (46, 58), (27, 62),
    (26, 88), (25, 114), (37, 62), (38, 88), (39, 114), (30, 12), (34, 12), (28, 13), (36, 13),
]  # fmt: skip


class MemoryImages:
    """Random pictures, one a sample; an ImageSource."""

    def __init__(self, count: int, size: tuple[int, int] = (32, 16)):
        self.pixels = torch.randint(0, 256, (count, 3, *size), generator=torch.Generator().manual_seed(5)).byte()

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices) -> torch.Tensor:
        return self.pixels[torch.as_tensor(indices)]


def pose(seed: int = 0, shake: float = 3.0) -> Pose:
    """A standing person whose joints all show, each moved by up to ``shake`` pixels."""
    moved = np.array(STANDING) + np.random.default_rng(seed).uniform(-shake, shake, (18, 2))
    return Pose(moved.astype(np.float32), np.ones(18, bool), (128, 64))


def people(pids=(2, 7, 11), each: int = 4) -> Samples:
    """``each`` images of each identity, over three cameras, with poses."""
    samples = [
        Sample(Path(f"{pid:04d}_c{1 + k % 3}s1_{k:06d}_01.jpg"), pid, 1 + k % 3) for pid in pids for k in range(each)
    ]
    return Samples(samples, {sample.name: pose(seed) for seed, sample in enumerate(samples)})


def plan_of(samples: Samples, per_identity: int = 4, suffix: str = "jpg") -> list[PlannedImage]:
    """Every identity's images in turn as sources, the next sample's pose as the target."""
    plan = []
    for pid in sorted(set(samples.pids.tolist())):
        own = [index for index, sample in enumerate(samples) if sample.pid == pid]
        for k in range(per_identity):
            index = own[k % len(own)]
            source, target = samples[index], samples[(index + 1) % len(samples)]
            name = f"{source.path.stem}_g{k:04d}.{suffix}"
            plan.append(PlannedImage(name, source.name, target.name, pid, source.camid, seed=1000 * pid + k))
    return plan


def new_store(folder: Path, samples: Samples, plan: list[PlannedImage], pipe: WarpAugmenter | CopyAugmenter) -> Store:
    return create_store(folder, plan, samples, AugmentConfig(), pipe, {})
