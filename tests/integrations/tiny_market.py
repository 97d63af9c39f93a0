"""A tiny data set in Market-1501's folders and a generated set of it, both of random colours."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from reid_aug.augment.store import Store
from reid_aug.records import GeneratedImage, Pose

CAMERAS = (1, 2, 3)
TRAIN_PIDS, TEST_PIDS = (2, 7, 11, 23, 30), (1, 3, 4, 5, 6, 8)


def write_images(folder: Path, pids: tuple[int, ...], per_camera: int, cameras: tuple[int, ...] = CAMERAS) -> None:
    """``per_camera`` images of 32x16 pixels for each identity and camera, an identity's of about one colour."""
    folder.mkdir(parents=True, exist_ok=True)
    for pid, camid, frame in itertools.product(pids, cameras, range(per_camera)):
        rng = np.random.default_rng([pid, camid, frame])
        colour = np.random.default_rng(pid).integers(40, 216, 3)
        pixels = np.clip(colour + rng.integers(-40, 40, (32, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{pid:04d}_c{camid}s1_{frame:06d}_01.jpg", quality=95)


def write_market(root: Path) -> Path:
    """30 training images of 5 identities, 6 queries, 54 gallery images of 6 identities and 3 distractors."""
    write_images(root / "bounding_box_train", TRAIN_PIDS, per_camera=2)
    write_images(root / "query", TEST_PIDS, per_camera=1, cameras=(1,))
    write_images(root / "bounding_box_test", TEST_PIDS, per_camera=3)
    write_images(root / "bounding_box_test", (0,), per_camera=1)
    return root


def write_store(folder: Path, sources: list[str], verdicts: tuple[str, ...] = ("keep",), suffix: str = "jpg") -> Store:
    """A generated image of each of ``sources`` (file names), with the verdicts in turn."""
    pose = Pose(np.full((18, 2), 5, np.float32), np.ones(18, bool), (128, 64))
    store = Store.create(folder, {"seed": 0}, dict.fromkeys(sources, pose))
    images = []
    for number, (source, verdict) in enumerate(zip(sources, itertools.cycle(verdicts))):
        stem = source.partition(".")[0]
        images.append(
            GeneratedImage(
                name=f"{stem}_g{number:04d}.{suffix}",
                pid=int(source[:4]),
                camid=int(source[6]),
                source=source,
                source_pose=source,
                target_pose=source,
                seed=number,
                generator="none",
                sampler="copy",
                steps=0,
                guidance="none",
                verdict=verdict,
            )
        )
    pixels = torch.randint(0, 256, (len(images), 3, 32, 16), generator=torch.Generator().manual_seed(0))
    store.append(pixels.to(torch.uint8), images)
    return store
