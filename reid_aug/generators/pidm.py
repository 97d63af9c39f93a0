"""PIDM: person image synthesis via a denoising diffusion model (Bhunia et al., CVPR 2023).

The denoiser is a UNet that sees the noisy image concatenated with the target pose and looks up the source's texture
through texture diffusion blocks. Two choices are this package's: a dropped source skips the blocks (the paper feeds
zeros through them, the same up to a learned constant), and with ``warp_prior`` the input also holds the part-wise
warp of the source into the target pose with its coverage, dropped together with the source. ``latent_std`` turns on
preconditioning by the data's variance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional

from reid_aug.config import NoiseConfig, PidmConfig
from reid_aug.generators.attention import TextureDiffusionBlock
from reid_aug.generators.autoencoder import Codec
from reid_aug.generators.condition import Condition, Encoded
from reid_aug.generators.encoders import TextureEncoder, norm_groups, residual_block
from reid_aug.generators.precondition import Precondition
from reid_aug.pose.render import heatmaps
from reid_aug.pose.skeleton import JOINTS
from reid_aug.pose.warp import warp_parts


class TexturedBlock(nn.Module):
    """A residual block, followed by a texture diffusion block on the levels that have one."""

    def __init__(
        self, channels: int, out: int, time_channels: int, dropout: float, source_channels: int | None, heads: int
    ):
        super().__init__()
        self.residual = residual_block(channels, out, time_channels, dropout)
        self.texture = None if source_channels is None else TextureDiffusionBlock(out, source_channels, heads)

    def forward(self, hidden: Tensor, time: Tensor, texture: Tensor | None, keep: Tensor) -> Tensor:
        hidden = self.residual(hidden, time)
        return hidden if self.texture is None else self.texture(hidden, texture, keep)


class PidmDenoiser(ModelMixin, ConfigMixin):
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
        heatmap_sigma: float = 3.0,
        latent_std: Sequence[float] | None = None,
        noise: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.precondition = None if latent_std is None else Precondition(latent_std, NoiseConfig(**noise))
        time_channels = 4 * channels[0]
        self.time_features = Timesteps(channels[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(channels[0], time_channels)
        self.encoder = TextureEncoder(latent_channels, channels, texture_levels, layers_per_level, dropout)
        prior_channels = latent_channels + 1 if warp_prior else 0
        self.conv_in = nn.Conv2d(latent_channels + len(JOINTS) + prior_channels, channels[0], 3, padding=1)

        def block(level: int, width: int) -> TexturedBlock:
            source = channels[level] if level in texture_levels else None
            return TexturedBlock(width, channels[level], time_channels, dropout, source, heads)

        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        width, skips = channels[0], [channels[0]]
        for level, out in enumerate(channels):
            stage = nn.ModuleDict({"resize": Downsample2D(width, use_conv=True, name="op") if level else nn.Identity()})
            if level:
                skips.append(width)
            stage["blocks"] = nn.ModuleList()
            for _ in range(layers_per_level):
                stage["blocks"].append(block(level, width))
                width = out
                skips.append(width)
            self.downs.append(stage)
        last = len(channels) - 1
        self.mid = nn.ModuleList([block(last, width), TexturedBlock(width, width, time_channels, dropout, None, heads)])
        for level in reversed(range(len(channels))):
            stage = nn.ModuleDict({"blocks": nn.ModuleList()})
            for _ in range(layers_per_level + 1):
                stage["blocks"].append(block(level, width + skips.pop()))
                width = channels[level]
            stage["resize"] = Upsample2D(width, use_conv=True) if level else nn.Identity()
            self.ups.append(stage)
        self.norm_out = nn.GroupNorm(norm_groups(width), width)
        self.conv_out = nn.Conv2d(width, latent_channels * (2 if learned_variance else 1), 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    @classmethod
    def build(cls, config: PidmConfig, noise: NoiseConfig, codec: Codec) -> PidmDenoiser:
        """The denoiser of a configuration, for what ``codec`` encodes."""
        shape = config.model_dump(exclude={"system", "image_size", "codec", "codec_components", "precondition"})
        if config.precondition:
            shape |= {"latent_std": codec.std, "noise": noise.model_dump()}
        return cls(latent_channels=codec.channels, **shape)

    def encode(self, condition: Condition, codec: Codec) -> Encoded:
        """Everything that stays the same over the sampling steps: pose maps, source tokens, the warp."""
        batch, sources = condition.source.shape[:2]
        pixels = condition.source.flatten(0, 1)
        latents = codec.encode(pixels)
        grid = latents.shape[-2:]
        tensors = {"pose": heatmaps(condition.target_pose, grid, self._sigma(condition, grid))}
        for level, feature in enumerate(self.encoder(latents.contiguous(memory_format=torch.channels_last))):
            tokens = feature.flatten(2).transpose(1, 2)  # [B S, h w, C]
            tensors[f"texture_{level}"] = tokens.reshape(batch, sources * tokens.shape[1], -1)
        if self.config.warp_prior:
            first = [sources * index for index in range(batch)]  # the prior is drawn from the first source
            image, coverage = warp_parts(pixels[::sources], condition.source_pose.at(first), condition.target_pose)
            tensors["warp"] = torch.cat([codec.encode(image), functional.adaptive_avg_pool2d(coverage, grid)], 1)
        kept = torch.ones(batch, dtype=torch.bool, device=pixels.device)
        return Encoded(tensors, kept, kept)

    def forward(self, noisy: Tensor, timestep: Tensor, condition: Encoded) -> Tensor:
        """Predict what the objective asks for (noise or v).

        Args:
            noisy: [B, C, h, w] in the codec's space.
            timestep: [B] integers, 0..T-1.

        Returns:
            [B, C, h, w], or [B, 2C, h, w] with learned variance: prediction, then the interpolation vector ``v``.
        """
        keep_pose, keep_source = condition.keep_pose[:, None, None, None], condition.keep_source[:, None, None, None]
        seen = noisy if self.precondition is None else self.precondition.inputs(noisy, timestep)
        inputs = [seen, condition.tensors["pose"] * keep_pose]
        if self.config.warp_prior:
            inputs.append(condition.tensors["warp"] * keep_source)
        textures = {
            level: condition.tensors[f"texture_{index}"]
            for index, level in enumerate(sorted(self.config.texture_levels))
        }
        time = self.time_embedding(self.time_features(timestep).to(noisy.dtype))
        hidden = self.conv_in(torch.cat(inputs, 1).contiguous(memory_format=torch.channels_last))
        skips = [hidden]
        for level, stage in enumerate(self.downs):
            hidden = stage["resize"](hidden)
            if level:
                skips.append(hidden)
            for block in stage["blocks"]:
                hidden = block(hidden, time, textures.get(level), condition.keep_source)
                skips.append(hidden)
        for block in self.mid:
            hidden = block(hidden, time, textures.get(len(self.downs) - 1), condition.keep_source)
        for level, stage in zip(reversed(range(len(self.downs))), self.ups):
            for block in stage["blocks"]:
                hidden = block(torch.cat([hidden, skips.pop()], 1), time, textures.get(level), condition.keep_source)
            hidden = stage["resize"](hidden)
        output = self.conv_out(functional.silu(self.norm_out(hidden)))
        return output if self.precondition is None else self.precondition.outputs(noisy, timestep, output)

    def _sigma(self, condition: Condition, grid: Sequence[int]) -> float:
        """The key points' Gaussian in grid cells; it is configured in pixels of the image."""
        return self.config.heatmap_sigma * grid[0] / condition.target_pose.image_size[0]
