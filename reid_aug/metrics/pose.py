"""Pose: are the key points of a generated image where they were asked for?"""

from __future__ import annotations

import torch

from reid_aug.errors import DataError

TOLERANCE = 0.1  # of the image height


def correct_key_points(
    predicted_xy: torch.Tensor,
    predicted_visible: torch.Tensor,
    wanted_xy: torch.Tensor,
    wanted_visible: torch.Tensor,
    height: int,
    tolerance: float = TOLERANCE,
) -> float:
    """Share in [0, 1] of the wanted key points that a pose estimator finds near enough (PCK).

    A key point counts over the whole set, not image by image; one that was wanted and is not found is wrong; one that
    was not wanted does not count.

    Args:
        predicted_xy: [B, K, 2] in pixels, what the estimator sees in the generated images.
        predicted_visible: [B, K] bool.
        wanted_xy: [B, K, 2] in pixels, the target poses.
        wanted_visible: [B, K] bool.
        height: of the image, pixels.
        tolerance: largest distance, as a share of ``height``.

    Raises:
        DataError: shapes that differ, or no wanted key point.
    """
    shapes = {
        "predicted_xy": list(predicted_xy.shape),
        "predicted_visible": [*predicted_visible.shape, 2],
        "wanted_xy": list(wanted_xy.shape),
        "wanted_visible": [*wanted_visible.shape, 2],
    }
    if any(shape != shapes["wanted_xy"] for shape in shapes.values()):
        raise DataError(f"pose: shapes {shapes} differ. Give predicted and wanted poses of the same images and joints.")
    wanted = wanted_visible.bool()
    if not wanted.any():
        raise DataError("pose: `wanted_visible` is false everywhere. Leave out images without a target pose.")
    near = torch.linalg.vector_norm(predicted_xy.float() - wanted_xy.float(), dim=-1) <= tolerance * height
    return (near & predicted_visible.bool())[wanted].float().mean().item()
