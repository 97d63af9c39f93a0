"""Small Market-1501 files for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

NAMES = {
    "bounding_box_train": [
        "0007_c3s1_000200_01.jpg",
        "0002_c1s1_000451_03.jpg",
        "0002_c2s1_000500_01.jpg",
        "0007_c1s1_000100_02.jpg",
        "0009_c6s2_000001_01.png",
    ],
    "query": ["0001_c1s1_001051_00.jpg", "0003_c4s6_023021_00.jpg.jpg"],
    "bounding_box_test": [
        "0001_c2s1_000301_01.jpg",
        "0000_c5s3_086412_11.jpg",
        "-1_c5s3_086412_12.jpg",
        "0003_c1s6_000001_01.jpg",
    ],
}
STANDING = (  # y, x of the 18 joints
    [10, 25, 25, 43, 60, 25, 43, 60, 64, 92, 118, 64, 92, 118, 6, 6, 8, 8],
    [32, 32, 20, 12, 10, 44, 52, 54, 24, 24, 24, 42, 42, 42, 29, 35, 26, 38],
)


def save_image(path: Path, height: int = 128, width: int = 64, seed: int = 0) -> np.ndarray:
    """Write a random image; returns its pixels [H, W, 3] (as written, for a .png)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def row(name: str, y: list = STANDING[0], x: list = STANDING[1]) -> str:
    """A line of a key-point file."""
    return f"{name}: {y}: {x}"
