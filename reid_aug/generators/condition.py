"""What a generator is asked for, and what its denoiser sees of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from reid_aug.pose.batch import PoseBatch


@dataclass(frozen=True)
class Condition:
    """Source images with their poses, and the target poses.

    Attributes:
        source: [B, S, 3, H, W] in [-1, 1]; S images of the same person.
        source_pose: B x S poses, those of one person next to each other.
        target_pose: B poses.
    """

    source: torch.Tensor
    source_pose: PoseBatch
    target_pose: PoseBatch


@dataclass(frozen=True)
class Encoded:
    """A condition as tensors computed once and used at every sampling step.

    Whether a sample's pose or source is used travels as a flag, not as altered tensors, so that training and every
    guidance branch drop a condition in the same way: the denoiser's.

    Attributes:
        tensors: by name, each with the batch first.
        keep_pose, keep_source: [B] bool.
    """

    tensors: dict[str, torch.Tensor]
    keep_pose: torch.Tensor
    keep_source: torch.Tensor

    def kept(self, pose: bool | torch.Tensor, source: bool | torch.Tensor) -> Encoded:
        """The same condition with the given flags (one bool for all, or [B])."""
        like = self.keep_pose
        return replace(
            self,
            keep_pose=torch.as_tensor(pose, device=like.device).expand_as(like),
            keep_source=torch.as_tensor(source, device=like.device).expand_as(like),
        )

    @staticmethod
    def cat(parts: Sequence[Encoded]) -> Encoded:
        """Several conditions as one batch, in order."""
        return Encoded(
            {name: torch.cat([part.tensors[name] for part in parts]) for name in parts[0].tensors},
            torch.cat([part.keep_pose for part in parts]),
            torch.cat([part.keep_source for part in parts]),
        )
