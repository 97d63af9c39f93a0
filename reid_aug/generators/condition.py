"""What a generator is asked for, and what its denoiser sees of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.warp import warp_parts

if TYPE_CHECKING:
    from reid_aug.generators.autoencoder import Codec


@dataclass(frozen=True)
class Condition:
    """Source images with their poses, and the target poses.

    Attributes:
        source: [B, S, 3, H, W] in [-1, 1]; S images of the same person.
        source_pose: B x S poses, those of one person next to each other.
        target_pose: B poses; B x T for a denoiser that makes T images of a person at once, those of one person next
            to each other.
        latents: [B, S, C, h, w], the source images in the codec's space where they have been encoded already.
    """

    source: torch.Tensor
    source_pose: PoseBatch
    target_pose: PoseBatch
    latents: torch.Tensor | None = None

    def encoded_source(self, codec: Codec) -> torch.Tensor:
        """The source images in the codec's space, [B S, C, h, w]."""
        return codec.encode(self.source.flatten(0, 1)) if self.latents is None else self.latents.flatten(0, 1)

    def warped_source(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The source warped part by part into each target pose: the part-warp prior.

        Of several sources, a later one fills what those before it leave uncovered.

        Returns:
            Images [B T, 3, H, W] in [-1, 1] and their coverage [B T, 1, H, W] in [0, 1], in the source's precision.
        """
        people, sources = self.source.shape[:2]
        pixels = self.source.flatten(0, 1)
        first = torch.arange(people, device=pixels.device).repeat_interleave(len(self.target_pose) // people) * sources
        image, coverage = warp_parts(pixels[first], self.source_pose.at(first), self.target_pose)
        for further in range(1, sources):
            rows = first + further
            filling, covered = warp_parts(pixels[rows], self.source_pose.at(rows), self.target_pose)
            both = torch.maximum(coverage, covered)
            image = torch.lerp(image, filling, (both - coverage) / both.clamp(min=1e-6))  # its share of what is covered
            coverage = both
        return image.to(pixels.dtype), coverage.to(pixels.dtype)


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

    def lerp(self, other: Encoded, amount: torch.Tensor) -> Encoded:
        """Between this condition (``amount`` [B] 0) and another of the same shapes (1)."""

        def mix(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            return torch.lerp(first, second, amount.to(first).reshape(-1, *[1] * (first.ndim - 1)))

        return replace(self, tensors={name: mix(first, other.tensors[name]) for name, first in self.tensors.items()})
