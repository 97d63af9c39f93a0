"""Part maps from files: PNG index maps in DensePose's numbering, one for each image."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from reid_aug.errors import DataError
from reid_aug.records import Pose

DENSEPOSE_PARTS = (
    "torso_back", "torso_front", "right_hand", "left_hand", "left_foot", "right_foot",
    "right_upper_leg_back", "left_upper_leg_back", "right_upper_leg_front", "left_upper_leg_front",
    "right_lower_leg_back", "left_lower_leg_back", "right_lower_leg_front", "left_lower_leg_front",
    "left_upper_arm_back", "right_upper_arm_back", "left_upper_arm_front", "right_upper_arm_front",
    "left_lower_arm_back", "right_lower_arm_back", "left_lower_arm_front", "right_lower_arm_front",
    "right_head", "left_head",
)  # fmt: skip
"""DENSEPOSE_PARTS[i] has index i + 1 in a file, 0 is background (Gueler et al., CVPR 2018)."""

DENSEPOSE_MIRROR = (
    0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 24, 23,
)  # fmt: skip
"""Index k of a mirrored person is index DENSEPOSE_MIRROR[k] of the original, background included."""


def read_part_maps(poses: Sequence[Pose]) -> torch.Tensor:
    """The part maps of ``poses``, uint8 [B, h, w] of the poses' image size (by the nearest pixel where a file differs).

    Raises:
        DataError: a pose names no file; a file is missing, no index map, or has an index above 24.
    """
    with ThreadPoolExecutor() as pool:
        maps = list(pool.map(_read, range(len(poses)), poses))
    return torch.from_numpy(np.stack(maps))


def _read(index: int, pose: Pose) -> np.ndarray:
    asked = "which a generator with model.part_maps=files asks for"
    remedy = "Or train one with model.part_maps=keypoints, which draws them."
    path = pose.part_file
    if path is None:
        raise DataError(
            f"poses[{index}]: part_file is not set, {asked}. Use poses of load_market1501, or name the file. {remedy}"
        )
    height, width = pose.image_size
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P"):
                raise DataError(
                    f"{path}: a picture of mode {image.mode}, not an index map, {asked}. Write 8-bit PNG: 0 for the "
                    f"background, 1 to 24 for DensePose's parts. {remedy}"
                )
            parts = np.array(image.resize((width, height), Image.Resampling.NEAREST))
    except FileNotFoundError:
        raise DataError(f"{path}: no such part map, {asked}. Write DensePose's index map there. {remedy}") from None
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever a damaged file leads them to
        raise DataError(f"{path}: cannot be read as a part map ({error}), {asked}. Write it again. {remedy}") from None
    if parts.max() > len(DENSEPOSE_PARTS):
        raise DataError(
            f"{path}: has index {parts.max()}; DensePose's are 0 (background) to 24. Write them, not colours. {remedy}"
        )
    return parts
