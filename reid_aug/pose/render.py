"""Poses as pictures: heat maps, a limb image and a body-part map. Batched over images, joints and limbs, in float32."""

from __future__ import annotations

import torch
from torch.nn import functional

from reid_aug.errors import DataError
from reid_aug.pose.batch import PoseBatch, table
from reid_aug.pose.skeleton import LIMBS, PART_HEIGHT, PARTS

LIMB_RADIUS = 1.5  # pixels of an image PART_HEIGHT high

# Left limbs are bluish, right ones reddish, the middle has as much of both: the limb image of a mirrored person is the
# flipped one with red and blue exchanged. One row for each of LIMBS.
_LIMB_COLOURS = (
    (1.0, 0.0, 0.3), (0.3, 0.0, 1.0),
    (1.0, 0.35, 0.0), (1.0, 0.7, 0.0), (0.0, 0.35, 1.0), (0.0, 0.7, 1.0),
    (0.6, 0.3, 0.0), (0.8, 0.0, 0.6), (1.0, 0.5, 0.5), (0.0, 0.3, 0.6), (0.6, 0.0, 0.8), (0.5, 0.5, 1.0),
    (0.8, 1.0, 0.8), (0.6, 1.0, 0.2), (0.5, 0.7, 0.1), (0.2, 1.0, 0.6), (0.1, 0.7, 0.5),
)  # fmt: skip


def heatmaps(poses: PoseBatch, size: tuple[int, int], sigma: float) -> torch.Tensor:
    """A Gaussian at every joint, 1 at its centre; all zero for a joint that is not visible.

    Args:
        poses: B poses of K joints.
        size: (height, width) of the maps; the poses are scaled to it.
        sigma: standard deviation, pixels of ``size``.

    Returns:
        [B, K, h, w] float32 in [0, 1].
    """
    xy = poses.scaled(size).xy
    rows, columns = pixel_numbers(size, xy.device)
    horizontal = torch.exp(-((columns - xy[..., 0:1]) ** 2) / (2 * sigma**2))  # [B, K, w]
    vertical = torch.exp(-((rows - xy[..., 1:2]) ** 2) / (2 * sigma**2)) * poses.visible[..., None]  # [B, K, h]
    return vertical[..., :, None] * horizontal[..., None, :]


def limb_picture(poses: PoseBatch, size: tuple[int, int]) -> torch.Tensor:
    """:func:`limb_image` to look at: [B, 3, h, w] uint8."""
    return (limb_image(poses, size) * 127.5 + 127.5).round().to(torch.uint8)


def limb_image(poses: PoseBatch, size: tuple[int, int]) -> torch.Tensor:
    """The skeleton as anti-aliased coloured lines on black; a limb with an invisible end is not drawn.

    Returns:
        [B, 3, h, w] float32 in [-1, 1], RGB; mirroring the pose flips it and exchanges red and blue.
    """
    scaled = poses.scaled(size)
    first, second = (table(ends, scaled.xy.device) for ends in zip(*LIMBS))
    distance = _distance_to_segment(scaled.xy[:, first], scaled.xy[:, second], size)
    drawn = scaled.visible[:, first] & scaled.visible[:, second]
    # A line thinner than a pixel would vanish in small images: half a pixel is the least radius.
    radius = max(LIMB_RADIUS * size[0] / PART_HEIGHT, 0.5)
    opacity = (radius + 0.5 - distance).clamp(0.0, 1.0) * drawn[..., None, None]  # [B, L, h, w]
    colours = table(_LIMB_COLOURS, opacity.device, opacity.dtype)
    # The brightest limb wins in each channel, so that no limb is painted over by the order of drawing.
    channels = [(opacity * colour[:, None, None]).amax(1) for colour in colours.T]
    return torch.stack(channels, dim=1) * 2 - 1


def part_map(poses: PoseBatch, size: tuple[int, int]) -> torch.Tensor:
    """Which of the ten ``PARTS`` each pixel shows; where capsules overlap, the part whose bone is relatively nearer.

    The stand-in for DensePose's index map where only key points exist; :func:`read_part_map` takes that of a file.

    Returns:
        [B, h, w] int64: 0 background, i + 1 for PARTS[i].
    """
    distance, part = capsule_distance(poses, size).min(1)
    return torch.where(distance <= 1.0, part + 1, 0)


def read_part_map(poses: PoseBatch, size: tuple[int, int]) -> torch.Tensor:
    """The part maps that came from files, reduced to ``size`` by the nearest pixel.

    Returns:
        [B, h, w] int64: 0 background, i + 1 for DENSEPOSE_PARTS[i].

    Raises:
        DataError: the poses were put together without their part maps.
    """
    if poses.parts is None:
        raise DataError("poses: no part maps, which model.part_maps=files asks for. Stack them with part_maps=True.")
    return functional.interpolate(poses.parts[:, None].float(), size, mode="nearest-exact")[:, 0].long()


def camera_planes(poses: PoseBatch, size: tuple[int, int], cameras: int) -> torch.Tensor:
    """The camera that saw each person, one-hot in every pixel; all zero for one that is not known.

    Args:
        poses: B poses.
        size: (height, width) of the planes.
        cameras: how many are known, numbered from 1; any other counts as not known.

    Returns:
        [B, cameras, h, w] float32, 0 or 1.
    """
    numbers = torch.arange(1, cameras + 1, device=poses.camids.device)
    return (poses.camids[:, None] == numbers).float()[..., None, None].expand(-1, -1, *size)


def capsule_distance(poses: PoseBatch, size: tuple[int, int]) -> torch.Tensor:
    """Distance of every pixel from the bone of every part, in units of the part's radius.

    Returns:
        [B, 10, h, w] float32: up to 1 inside the part's capsule, infinite for a part that is not visible.
    """
    start, end, visible = poses.scaled(size).bones()
    radius = table([part.radius for part in PARTS], start.device) * (size[0] / PART_HEIGHT)
    distance = _distance_to_segment(start, end, size, unit=radius[:, None])
    return distance.masked_fill_(~visible[..., None, None], torch.inf)


def _distance_to_segment(
    start: torch.Tensor, end: torch.Tensor, size: tuple[int, int], unit: torch.Tensor | float = 1.0
) -> torch.Tensor:
    """How many ``unit`` [P, 1] pixels every pixel is from the segments ``start`` to ``end`` [B, P, 2]; [B, P, h, w]."""
    length = torch.linalg.vector_norm(end - start, dim=-1, keepdim=True)
    # In the segment's own frame, u runs along it and v across. A segment without length takes any direction.
    x_axis = table((1.0, 0.0), start.device)
    direction = torch.where(length > 1e-6, (end - start) / length.clamp(min=1e-6), x_axis)
    (cos, sin), length = (direction / unit).split(1, dim=-1), length / unit
    rows, columns = pixel_numbers(size, start.device)
    x, y = columns - start[..., 0:1], rows - start[..., 1:2]  # [B, P, w], [B, P, h]
    u = (x * cos)[..., None, :] + (y * sin)[..., :, None]
    v = (y * cos)[..., :, None] - (x * sin)[..., None, :]
    length = length[..., None]
    return torch.hypot(u - u.clamp(torch.zeros_like(length), length), v)


def pixel_numbers(size: tuple[int, int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The row numbers [h] and the column numbers [w] of an image, float32."""
    rows, columns = (torch.arange(n, dtype=torch.float32, device=device) for n in size)
    return rows, columns
