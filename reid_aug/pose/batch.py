"""Poses as tensors: many poses of one image size on one device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from reid_aug.errors import DataError
from reid_aug.pose.parts import DENSEPOSE_MIRROR, read_part_maps
from reid_aug.pose.skeleton import JOINTS, MIRROR, PARTS
from reid_aug.records import Pose


@dataclass(frozen=True, eq=False)
class PoseBatch:
    """B poses of people in images of one size. A pixel's centre has whole coordinates, the top left one's (0, 0).

    Attributes:
        xy: [B, K, 2] float32, x then y, pixels of ``image_size``; (0, 0) where not visible.
        visible: [B, K] bool.
        image_size: (height, width).
        camids: [B] int64, the camera that saw each person, from 1; 0 where it is not known.
        parts: [B, h, w] uint8, part maps from files in DensePose's numbering, in pixels of the images they were read
            for whatever ``image_size`` is now; None where they were not asked for.
    """

    xy: torch.Tensor
    visible: torch.Tensor
    image_size: tuple[int, int]
    camids: torch.Tensor
    parts: torch.Tensor | None = None

    @classmethod
    def stack(cls, poses: Sequence[Pose], part_maps: bool = False) -> PoseBatch:
        """Put ``poses`` into one batch, on the CPU; with ``part_maps``, read their part maps from their files.

        Raises:
            DataError: no poses; a pose without the 18 joints, without any visible joint, with a coordinate that is
                not a number, or of another image size than the first; no part map where it is asked for.
        """
        if not poses:
            raise DataError("poses: the list is empty. Pass at least one pose.")
        size = tuple(poses[0].image_size)
        for index, pose in enumerate(poses):
            _check(pose, index, size)
        visible = torch.from_numpy(np.stack([pose.visible for pose in poses]).astype(bool))
        xy = torch.from_numpy(np.stack([pose.xy for pose in poses]).astype(np.float32))
        camids = torch.tensor([pose.camid or 0 for pose in poses])
        parts = read_part_maps(poses) if part_maps else None
        return cls(torch.where(visible[..., None], xy, 0.0), visible, size, camids, parts)

    def __len__(self) -> int:
        return len(self.xy)

    def to(self, device: torch.device | str) -> PoseBatch:
        """The same poses on ``device``; an accelerator that still has work is not waited for."""
        from_cpu = self.xy.device.type == "cpu"  # CUDA has its own copy of such memory when the call returns

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.to(device, non_blocking=from_cpu)

        return self._with_parts(moved, xy=moved(self.xy), visible=moved(self.visible), camids=moved(self.camids))

    def at(self, indices: Sequence[int] | np.ndarray | torch.Tensor) -> PoseBatch:
        """The poses at ``indices``, in that order."""
        indices = torch.as_tensor(indices).to(self.xy.device, non_blocking=True)
        return self._with_parts(
            lambda parts: parts[indices],
            xy=self.xy[indices],
            visible=self.visible[indices],
            camids=self.camids[indices],
        )

    def scaled(self, size: tuple[int, int]) -> PoseBatch:
        """The poses in the same images resized to ``size`` (height, width)."""
        height, width = self.image_size
        x, y = (self.xy + 0.5).unbind(-1)
        xy = torch.stack([x * (size[1] / width), y * (size[0] / height)], dim=-1) - 0.5
        return replace(self, xy=self._masked(xy), image_size=tuple(size))

    def mirrored(self) -> PoseBatch:
        """The poses in the horizontally flipped images; left and right joints and parts change places."""
        order = table(MIRROR, self.xy.device)
        x, y = self.xy[:, order].unbind(-1)
        index = table(DENSEPOSE_MIRROR, self.xy.device, torch.uint8)
        swapped = self._with_parts(lambda parts: index[parts.flip(-1).long()], visible=self.visible[:, order])
        return replace(swapped, xy=swapped._masked(torch.stack([self.image_size[1] - 1 - x, y], dim=-1)))

    def mirrored_where(self, flip: torch.Tensor) -> PoseBatch:
        """The poses, mirrored where ``flip`` [B] bool is true."""
        other, each = self.mirrored(), flip[:, None, None]
        return self._with_parts(
            lambda parts: torch.where(each, other.parts, parts),
            xy=torch.where(each, other.xy, self.xy),
            visible=torch.where(flip[:, None], other.visible, self.visible),
        )

    def unseen_where(self, forget: torch.Tensor) -> PoseBatch:
        """The poses, their camera not known where ``forget`` [B] bool is true."""
        return replace(self, camids=self.camids.masked_fill(forget, 0))

    def bones(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The bone of each of the ten ``PARTS``: start [B, 10, 2], end [B, 10, 2], and whether it is visible [B, 10].

        A bone's end is the mean of the visible joints of its group; the bone is visible if both ends are.
        """
        start, has_start = self._means([part.start for part in PARTS])
        end, has_end = self._means([part.end for part in PARTS])
        return start, end, has_start & has_end

    def _means(self, groups: Sequence[tuple[int, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean [B, G, 2] of the visible joints of each group, and whether there is one [B, G]."""
        members = [[joint in group for joint in range(len(JOINTS))] for group in groups]
        member = table(members, self.xy.device, torch.float32)
        weight = self.visible[:, None, :] * member  # [B, G, K]
        count = weight.sum(-1)
        # A sum of products, not a matmul: autocast would compute that in bfloat16, which has no half pixels past 128.
        total = (weight[..., None] * self.xy[:, None]).sum(-2)
        return total / count.clamp(min=1.0)[..., None], count > 0

    def _with_parts(self, change: Callable[[torch.Tensor], torch.Tensor], **changes: torch.Tensor) -> PoseBatch:
        """A copy with ``changes``, and with the part maps changed by ``change`` where there are any."""
        return replace(self, parts=None if self.parts is None else change(self.parts), **changes)

    def _masked(self, xy: torch.Tensor) -> torch.Tensor:
        return torch.where(self.visible[..., None], xy, 0.0)


def table(values: Sequence, device: torch.device, dtype: torch.dtype | None = None) -> torch.Tensor:
    """A few numbers as a tensor on ``device``; an accelerator that still has work is not waited for."""
    return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)


def _check(pose: Pose, index: int, size: tuple[int, int]) -> None:
    if np.shape(pose.xy) != (len(JOINTS), 2) or np.shape(pose.visible) != (len(JOINTS),):
        raise DataError(
            f"poses[{index}]: xy has shape {np.shape(pose.xy)} and visible {np.shape(pose.visible)}, expected "
            f"({len(JOINTS)}, 2) and ({len(JOINTS)},). Convert the pose to the {len(JOINTS)} OpenPose joints."
        )
    if tuple(pose.image_size) != size:
        raise DataError(
            f"poses[{index}]: image_size is {tuple(pose.image_size)}, that of poses[0] is {size}. "
            "Read all key points with one image size, or batch them by size."
        )
    if not pose.visible.any():
        raise DataError(f"poses[{index}]: visible has no joint. Leave out images without key points.")
    if not np.isfinite(pose.xy[pose.visible]).all():
        raise DataError(f"poses[{index}]: xy of a visible joint is not a number. Correct its key points.")
