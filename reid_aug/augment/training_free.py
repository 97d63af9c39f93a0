"""Augmenters that need no training, behind the interface of a generator: the part-wise warp, and plain copies.

They are what a user can try on day one, and the controls that a trained generator has to beat.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from reid_aug.errors import ConfigError
from reid_aug.pose import skeleton
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.render import capsule_distance
from reid_aug.pose.warp import warp_parts
from reid_aug.records import Pose

_LIMBS = (
    (skeleton.RIGHT_SHOULDER, skeleton.RIGHT_ELBOW, skeleton.RIGHT_WRIST),
    (skeleton.LEFT_SHOULDER, skeleton.LEFT_ELBOW, skeleton.LEFT_WRIST),
    (skeleton.RIGHT_HIP, skeleton.RIGHT_KNEE, skeleton.RIGHT_ANKLE),
    (skeleton.LEFT_HIP, skeleton.LEFT_KNEE, skeleton.LEFT_ANKLE),
)
_PERSON_EDGE = (2.0, 2.3)  # in radii of a part: up to the first a pixel may show the person, past the second not


@dataclass(frozen=True)
class Augmented:
    """The images of a call: uint8 [B, 3, H, W] or PIL images."""

    images: Tensor | list[Image.Image]


class TrainingFree(ABC):
    """What the augmenters share: the interface of :class:`reid_aug.augment.generate.PoseTransfer`.

    Nothing is random and nothing can be set: seeds are accepted and unused, a sampling setting is an error.
    """

    digest: str  # to be changed with every change of the images

    def describe(self, **sampling: Any) -> dict[str, Any]:
        """What the manifest records.

        Raises:
            ConfigError: a sampling setting is given.
        """
        if sampling:
            given = ", ".join(f"`{name}`" for name in sampling)
            raise ConfigError(f"sampling settings: {type(self).__name__} has none, but {given} is given. Leave it out.")
        return {"sampler": type(self).__name__, "steps": 0, "guidance": "none", "guidance_scale": {}}

    @torch.inference_mode()
    def __call__(
        self,
        source: Tensor | Sequence[Image.Image],
        source_pose: Sequence[Pose],
        target_pose: Sequence[Pose],
        seeds: Sequence[int],
        output_type: str = "pil",
        **sampling: Any,
    ) -> Augmented:
        """See :class:`reid_aug.augment.generate.PoseTransfer`."""
        self.describe(**sampling)
        return _as_output(self._draw(_as_tensor(source), source_pose, target_pose), output_type)

    @abstractmethod
    def _draw(self, source: Tensor, source_pose: Sequence[Pose], target_pose: Sequence[Pose]) -> Tensor:
        """uint8 [B, 3, H, W] from such a source."""


class WarpAugmenter(TrainingFree):
    """The source's person, warped part by part into the target pose, over the source's own background.

    The person is taken out of the source and the hole filled from around it, then the warped person is laid over.
    An arm or leg hidden in the source is taken from the other side.
    """

    digest = "warp-1"

    def _draw(self, source: Tensor, source_pose: Sequence[Pose], target_pose: Sequence[Pose]) -> Tensor:
        pixels = source.float() / 127.5 - 1
        source_poses = PoseBatch.stack(source_pose).to(source.device)
        target_poses = PoseBatch.stack(target_pose).to(source.device)
        person, coverage = warp_parts(pixels, borrow_hidden_limbs(source_poses), target_poses)
        background = fill_hole(pixels, _background_mask(source_poses, tuple(source.shape[-2:])))
        blended = coverage * person + (1 - coverage) * background
        return (blended * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)


class CopyAugmenter(TrainingFree):
    """The sources as they are: the control that separates new poses from merely more images."""

    digest = "copy-1"

    def _draw(self, source: Tensor, source_pose: Sequence[Pose], target_pose: Sequence[Pose]) -> Tensor:
        return source


def fill_hole(image: Tensor, known: Tensor) -> Tensor:
    """Fill what is not known from what is, smoothly: the push-pull pyramid of Gortler et al. 1996, Section 3.4.

    Args:
        image: [B, C, H, W] float.
        known: [B, 1, H, W] in [0, 1].

    Returns:
        [B, C, H, W]: ``image`` where ``known`` is 1; all zero where an image knows nothing at all.
    """
    height, width = image.shape[-2:]
    if height == width == 1:
        return image * (known > 0)
    window = (min(2, height), min(2, width))
    weight = F.avg_pool2d(known, window, ceil_mode=True)
    coarse = F.avg_pool2d(image * known, window, ceil_mode=True) / weight.clamp(min=1e-6)
    filled = fill_hole(coarse, (weight * 2).clamp(max=1.0))
    smooth = F.interpolate(filled, size=(height, width), mode="bilinear", align_corners=False)
    return image * known + smooth * (1 - known)


def _background_mask(poses: PoseBatch, size: tuple[int, int]) -> Tensor:
    """[B, 1, h, w]: 1 where the image surely does not show the person, 0 where it may."""
    distance = capsule_distance(poses, (-(-size[0] // 2), -(-size[1] // 2)))  # a soft mask needs half the pixels
    first, second = _PERSON_EDGE
    mask = ((distance.amin(1, keepdim=True) - first) / (second - first)).clamp(0.0, 1.0)
    return F.interpolate(mask, size=size, mode="bilinear", align_corners=False)


def borrow_hidden_limbs(poses: PoseBatch) -> PoseBatch:
    """Where an arm or leg is not wholly visible but the other one is, look for it there."""
    xy, visible = poses.xy.clone(), poses.visible.clone()
    for limb in _LIMBS:
        other = [skeleton.MIRROR[joint] for joint in limb]
        borrow = ~poses.visible[:, limb].all(1) & poses.visible[:, other].all(1)
        xy[:, limb] = torch.where(borrow[:, None, None], poses.xy[:, other], poses.xy[:, limb])
        visible[:, limb] |= borrow[:, None]
    return replace(poses, xy=xy, visible=visible)


def _as_tensor(source: Tensor | Sequence[Image.Image]) -> Tensor:
    if torch.is_tensor(source):
        return source
    return torch.stack([torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) for image in source])


def _as_output(images: Tensor, output_type: str) -> Augmented:
    if output_type == "uint8":
        return Augmented(images.cpu())
    if output_type == "pil":
        return Augmented([Image.fromarray(image) for image in images.permute(0, 2, 3, 1).cpu().numpy()])
    raise ConfigError(f"`output_type`: {output_type!r} is unknown. Use pil or uint8.")
