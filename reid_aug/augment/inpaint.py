"""A generator around the warp: the person is the source's own, what the warp cannot know is drawn.

The part-wise warp carries faces, prints and bags into the target pose, which a diffusion model has to learn; it knows
neither the background of another place nor what the source hides, which a diffusion model draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from reid_aug.augment.training_free import borrow_hidden_limbs
from reid_aug.generators.pipeline import PosePipeline, PoseTransferOutput
from reid_aug.generators.tasks import read_images
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.warp import warp_parts
from reid_aug.records import Pose


class WarpInpainter:
    """Draws what the source's person, warped into the target pose, leaves open; any trained generator can.

    At every sampling step the region that the warp covers is the warp at that step's noise (RePaint, Lugmayr et al.
    2022, Eq. 8, without its resampling), so that the rest is drawn to go with it; in the end it is the warp's own
    pixels. A :class:`~reid_aug.augment.generate.PoseTransfer`, with the settings of its generator.

    Args:
        generator: what draws.
    """

    def __init__(self, generator: PosePipeline):
        self.generator = generator

    @property
    def digest(self) -> str:
        """The generator's, with the version of what is done with it, to be changed with every change of the images."""
        return f"inpaint-1-{self.generator.digest}"

    @property
    def device(self) -> torch.device:
        """The generator's."""
        return self.generator.device

    def describe(self, **sampling: Any) -> dict[str, Any]:
        """The generator's sampling settings in force."""
        return self.generator.describe(**sampling)

    @torch.inference_mode()
    def __call__(
        self,
        source: Tensor | Sequence[Image.Image],
        source_pose: Sequence[Pose],
        target_pose: Sequence[Pose],
        seeds: Sequence[int],
        output_type: str = "pil",
        **sampling: Any,
    ) -> PoseTransferOutput:
        """See :class:`~reid_aug.augment.generate.PoseTransfer`; PIL images are resized to the generator's size.

        Raises:
            DataError, ConfigError, CheckpointError: as the generator does.
        """
        pixels, _ = read_images(source, tuple(self.generator.config.image_size), "source")
        source_poses, target_poses = (PoseBatch.stack(poses).to(self.device) for poses in (source_pose, target_pose))
        person, coverage = warp_parts(
            pixels.to(self.device).float() / 127.5 - 1, borrow_hidden_limbs(source_poses), target_poses
        )
        return self.generator(
            pixels,
            source_pose,
            target_pose,
            seeds,
            output_type,
            reference=(person * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8),
            mask=(1 - coverage).clamp_min(0),  # bilinear weights may add up to a hair more than 1
            **sampling,
        )
