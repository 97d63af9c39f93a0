"""The part-wise warp: carry each part of a person from its place in the source to its place in the target pose.

The deformable skips of Def-GAN (Siarohin et al., CVPR 2018) on pixels: for each of the ten parts the similarity that
takes the target's bone to the source's, all parts sampled at once and blended by soft capsules around the target's
bones. It needs no training.
"""

from __future__ import annotations

import torch

from reid_aug.errors import DataError
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.render import capsule_distance, pixel_numbers

SCALE_RANGE = (0.4, 2.5)  # of a part's similarity: a bone seen end-on says nothing about the size of the part
_EDGE = (0.85, 1.15)  # a capsule fades out between these multiples of its radius
_LAYERS = 2  # parts blended in a pixel, the nearest ones
_SHARPNESS = 12.0  # of the choice between overlapping parts: high shows a seam, low a double image


def warp_parts(
    source: torch.Tensor, source_pose: PoseBatch, target_pose: PoseBatch
) -> tuple[torch.Tensor, torch.Tensor]:
    """The person of ``source`` in the target pose, without background.

    A part that is invisible in either pose is left out, and so is what would come from outside the source image. Where
    parts overlap, the two with the (relative to their radius) nearest bones are blended, the nearer one prevailing.

    Args:
        source: [B, 3, H, W] float in [-1, 1].
        source_pose: the B poses seen in ``source``, in any image size; on the source's device.
        target_pose: the B poses asked for, in any image size; on the source's device.

    Returns:
        image: [B, 3, H, W] float32 in [-1, 1], 0 where nothing is covered; blend it over a
            background with ``coverage``.
        coverage: [B, 1, H, W] float32 in [0, 1].

    Raises:
        DataError: not as many images as poses.
    """
    if not len(source) == len(source_pose) == len(target_pose):
        raise DataError(
            f"warp_parts: {len(source)} source images, {len(source_pose)} source poses, {len(target_pose)} target "
            "poses. Give one of each for every image."
        )
    size = tuple(source.shape[-2:])
    transform, possible = _similarities(source_pose.scaled(size), target_pose.scaled(size))
    distance = capsule_distance(target_pose, size).masked_fill_(~possible[..., None, None], torch.inf)
    distance, part = distance.topk(_LAYERS, dim=1, largest=False)  # [B, 2, H, W]: the nearest parts of each pixel
    distance = distance.clamp(max=_EDGE[1])

    # A fourth channel of ones is sampled as zero outside the source and says how much of a pixel came from inside.
    source = torch.cat([source.float(), torch.ones_like(source[:, :1], dtype=torch.float32)], dim=1)
    # The layers are stacked along the height of one grid, so the source is not copied for each of them. Bilinear, zeros
    # outside, align_corners; functional.grid_sample is the same but for CUDA, where it takes cuDNN's, which
    # torch.compile can neither fuse nor trace with sizes that change.
    grid = _sampling_grid(transform, part, size)
    sampled = torch.grid_sampler_2d(source, grid.flatten(1, 2), 0, 0, True).unflatten(2, (_LAYERS, size[0]))

    opacity = ((_EDGE[1] - distance) / (_EDGE[1] - _EDGE[0])).clamp(max=1.0)
    weight = opacity * torch.exp(-_SHARPNESS * distance)
    blended = (sampled * weight[:, None]).sum(2)
    image = blended[:, :3] / blended[:, 3:].clamp(min=1e-30)
    return image, (opacity * sampled[:, 3]).amax(1, keepdim=True)


def _similarities(source: PoseBatch, target: PoseBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """The similarity from target to source pixels of each part, and whether the part is visible in both poses [B, 10].

    A similarity is z -> (a + bi) z + (c + di) on the complex plane z = x + yi: [B, 10, 4] holds a, b, c, d.
    """
    source_start, source_end, in_source = source.bones()
    target_start, target_end, in_target = target.bones()
    from_bone, to_bone = target_end - target_start, source_end - source_start
    length2 = (from_bone**2).sum(-1).clamp(min=1e-6)
    a = (from_bone * to_bone).sum(-1) / length2
    b = (from_bone[..., 0] * to_bone[..., 1] - from_bone[..., 1] * to_bone[..., 0]) / length2
    scale = torch.hypot(a, b)
    clamped = scale.clamp(*SCALE_RANGE) / scale.clamp(min=1e-6)
    a, b = torch.where(scale > 1e-6, a * clamped, SCALE_RANGE[0]), b * clamped  # unturned without a bone in one pose
    # The bones' middles correspond, which splits a clamped scale's error between both ends.
    x, y = ((target_start + target_end) / 2).unbind(-1)
    to_x, to_y = ((source_start + source_end) / 2).unbind(-1)
    return torch.stack([a, b, to_x - a * x + b * y, to_y - b * x - a * y], dim=-1), in_source & in_target


def _sampling_grid(transform: torch.Tensor, part: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Where in the source to look, [B, L, H, W, 2] from -1 to 1, for target pixels that show ``part`` [B, L, H, W]."""
    image = torch.arange(len(part), device=part.device)[:, None, None, None]
    a, b, c, d = transform[image, part].unbind(-1)
    rows, x = pixel_numbers(size, part.device)
    y = rows[:, None]
    # align_corners: the first and the last pixel's centres are at -1 and 1.
    across, down = (2 / (n - 1) for n in (size[1], size[0]))
    return torch.stack([(a * x - b * y + c) * across - 1, (b * x + a * y + d) * down - 1], dim=-1)
