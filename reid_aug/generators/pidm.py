"""PIDM: person image synthesis via a denoising diffusion model (Bhunia et al., CVPR 2023).

The denoiser is a UNet that sees the noisy image concatenated with the target pose and looks up the source's texture
through texture diffusion blocks. Choices of this package: a dropped source skips the blocks (the paper feeds
zeros through them, the same up to a learned constant), and with ``warp_prior`` the input also holds the part-wise
warp of the source into the target pose with its coverage, dropped together with the source. With ``cameras``, planes
say which camera is to see the target; they are part of the pose condition. ``latent_std`` turns on preconditioning by
the data's variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffusers import ModelMixin  # noqa: F401 - diffusers loads the denoiser's class by what its module holds
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from reid_aug.generators.attention import TextureDiffusionBlock
from reid_aug.generators.autoencoder import Codec
from reid_aug.generators.condition import Condition, Encoded
from reid_aug.generators.unet import SourceUNet, all_kept
from reid_aug.pose.render import heatmaps
from reid_aug.pose.skeleton import JOINTS


class PidmDenoiser(SourceUNet):
    """The noise prediction module ``H_N`` together with the texture encoder ``H_E``."""

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 3,
        channels: Sequence[int] = (128, 128, 256, 256, 512),
        texture_levels: Sequence[int] = (2, 3, 4),
        layers_per_level: int = 2,
        heads: int = 1,
        dropout: float = 0.1,
        learned_variance: bool = True,
        warp_prior: bool = False,
        cameras: int = 0,
        heatmap_sigma: float = 3.0,
        latent_std: Sequence[float] | None = None,
        noise: dict[str, Any] | None = None,
    ):
        super().__init__()

        def attention(level: int) -> nn.Module:
            return TextureDiffusionBlock(channels[level], channels[level], heads)

        out_channels = latent_channels * (2 if learned_variance else 1)
        self.make_layers(
            latent_channels, len(JOINTS), out_channels, channels, texture_levels, layers_per_level, dropout, warp_prior,
            cameras, latent_std, noise, attention,
        )  # fmt: skip

    def encode(self, condition: Condition, codec: Codec) -> Encoded:
        """Everything that stays the same over the sampling steps: pose maps, source tokens, the warp."""
        latents = condition.encoded_source(codec)
        grid = latents.shape[-2:]
        sigma = self.config.heatmap_sigma * grid[0] / condition.target_pose.image_size[0]  # in cells of the grid
        pose = heatmaps(condition.target_pose, grid, sigma).to(latents.dtype)
        return all_kept({"pose": pose, **self.encode_shared(condition, latents, codec)})

    def forward(self, noisy: Tensor, timestep: Tensor, condition: Encoded) -> Tensor:
        """Predict what the objective asks for (noise or v).

        Args:
            noisy: [B, C, h, w] in the codec's space.
            timestep: [B] integers, 0..T-1.

        Returns:
            [B, C, h, w], or [B, 2C, h, w] with learned variance: prediction, then the interpolation vector ``v``.
        """
        textures = self.textures(condition)

        def attend(level: int, attention: nn.Module, hidden: Tensor) -> Tensor:
            return attention(hidden, textures[level], condition.keep_source)

        return self.run(noisy, timestep, condition, attend)
