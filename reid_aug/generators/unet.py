"""The UNet of PIDM and PoCoLD: residual blocks, each followed on some levels by a look into the source's features."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.downsampling import Downsample2D
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn import functional

from reid_aug.config import GeneratorModelConfig, NoiseConfig
from reid_aug.errors import ConfigError
from reid_aug.generators.autoencoder import Codec
from reid_aug.generators.condition import Condition, Encoded
from reid_aug.generators.encoders import TextureEncoder, norm_groups, residual_block
from reid_aug.generators.precondition import Precondition
from reid_aug.pose.render import camera_planes

System = TypeVar("System", bound="SourceUNet")
Attend = Callable[[int, nn.Module, Tensor], Tensor]
"""How a block looks into the source: (level, its attention, features [B, C, h, w]) to features of the same shape."""


class TexturedBlock(nn.Module):
    """A residual block, followed by an attention to the source on the levels that have one."""

    def __init__(self, residual: nn.Module, texture: nn.Module | None):
        super().__init__()
        self.residual = residual
        self.texture = texture

    def forward(self, hidden: Tensor, time: Tensor, level: int, attend: Attend) -> Tensor:
        hidden = self.residual(hidden, time)
        return hidden if self.texture is None else attend(level, self.texture, hidden)


class SourceUNet(ModelMixin, ConfigMixin):
    """A UNet with an encoder of the source image; a system adds its pose condition and its attention.

    A subclass registers its arguments as the configuration, calls :meth:`make_layers`, and puts :meth:`encode_shared`
    and :meth:`run` together to ``encode`` and ``forward``.
    """

    @classmethod
    def build(cls: type[System], config: GeneratorModelConfig, noise: NoiseConfig, codec: Codec) -> System:
        """The untrained denoiser of a configuration, for what ``codec`` encodes."""
        arguments = inspect.signature(cls.__init__).parameters
        shape = {name: value for name, value in config.model_dump().items() if name in arguments}
        if config.precondition:
            shape |= {"latent_std": codec.std, "noise": noise.model_dump()}
        return cls(latent_channels=codec.channels, **shape)

    def make_layers(
        self,
        latent_channels: int,
        pose_channels: int,
        out_channels: int,
        channels: Sequence[int],
        texture_levels: Sequence[int],
        layers_per_level: int,
        dropout: float,
        warp_prior: bool,
        cameras: int,
        latent_std: Sequence[float] | None,
        noise: Mapping[str, Any] | None,
        attention: Callable[[int], nn.Module],
    ) -> None:
        """Make encoder and UNet.

        Args:
            latent_channels: of the noisy image and of the source.
            pose_channels: of the pose map that is concatenated to the noisy image.
            out_channels: of the prediction.
            channels: width of each level, each of half the height and width of the one before.
            texture_levels: the levels whose blocks look into the source.
            layers_per_level: residual blocks a level on the way down; one more on the way up.
            dropout: in the residual blocks.
            warp_prior: whether the part-wise warp of the source with its coverage is concatenated, too.
            cameras: how many the denoiser tells apart; the target's is concatenated as planes.
            latent_std: standard deviation of each latent channel, to precondition by; None: no preconditioning.
            noise: the forward process to precondition for, as in :class:`~reid_aug.config.NoiseConfig`.
            attention: makes the attention to the source of a level.
        """
        self.precondition = None if latent_std is None else Precondition(latent_std, NoiseConfig(**noise))
        time_channels = 4 * channels[0]
        self.time_features = Timesteps(channels[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(channels[0], time_channels)
        self.encoder = TextureEncoder(latent_channels, channels, texture_levels, layers_per_level, dropout)
        prior_channels = latent_channels + 1 if warp_prior else 0
        self.conv_in = nn.Conv2d(latent_channels + pose_channels + cameras + prior_channels, channels[0], 3, padding=1)

        def block(level: int, width: int) -> TexturedBlock:
            residual = residual_block(width, channels[level], time_channels, dropout)
            return TexturedBlock(residual, attention(level) if level in texture_levels else None)

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
        self.mid = nn.ModuleList([block(len(channels) - 1, width)])
        self.mid.append(TexturedBlock(residual_block(width, width, time_channels, dropout), None))
        for level in reversed(range(len(channels))):
            stage = nn.ModuleDict({"blocks": nn.ModuleList()})
            for _ in range(layers_per_level + 1):
                stage["blocks"].append(block(level, width + skips.pop()))
                width = channels[level]
            stage["resize"] = Upsample2D(width, use_conv=True) if level else nn.Identity()
            self.ups.append(stage)
        self.norm_out = nn.GroupNorm(norm_groups(width), width)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def encode_shared(self, condition: Condition, latents: Tensor, codec: Codec) -> dict[str, Tensor]:
        """The source as tokens ``texture_0..`` [B, S h w, C_l], fine to coarse; ``warp`` and ``camera`` where used.

        Args:
            condition: B samples of S sources.
            latents: the sources in the codec's space, [B S, C, h, w].
            codec: that made them.
        """
        batch, sources = condition.source.shape[:2]
        tensors = {}
        for index, feature in enumerate(self.encoder(latents.contiguous(memory_format=torch.channels_last))):
            tokens = feature.flatten(2).transpose(1, 2)  # [B S, h w, C]
            tensors[f"texture_{index}"] = tokens.reshape(batch, sources * tokens.shape[1], -1)
        if self.config.warp_prior:
            image, coverage = condition.warped_source()
            coverage = functional.adaptive_avg_pool2d(coverage, latents.shape[-2:])
            tensors["warp"] = torch.cat([codec.encode(image), coverage], 1)
        if self.config.cameras:
            planes = camera_planes(condition.target_pose, tuple(latents.shape[-2:]), self.config.cameras)
            tensors["camera"] = planes.to(latents.dtype)
        return tensors

    def run(self, noisy: Tensor, timestep: Tensor, condition: Encoded, attend: Attend) -> Tensor:
        """The prediction [B, out_channels, h, w] for noisy latents; ``condition`` holds the pose map as ``pose``."""
        seen = noisy if self.precondition is None else self.precondition.inputs(noisy, timestep)
        inputs = [seen, condition.tensors["pose"] * condition.keep_pose[:, None, None, None]]
        if self.config.cameras:
            inputs.append(condition.tensors["camera"] * condition.keep_pose[:, None, None, None])
        if self.config.warp_prior:
            inputs.append(condition.tensors["warp"] * condition.keep_source[:, None, None, None])
        time = self.time_embedding(self.time_features(timestep).to(noisy.dtype))
        hidden = self.conv_in(torch.cat(inputs, 1).contiguous(memory_format=torch.channels_last))
        skips = [hidden]
        for level, stage in enumerate(self.downs):
            hidden = stage["resize"](hidden)
            if level:
                skips.append(hidden)
            for block in stage["blocks"]:
                hidden = block(hidden, time, level, attend)
                skips.append(hidden)
        for block in self.mid:
            hidden = block(hidden, time, len(self.downs) - 1, attend)
        for level, stage in zip(reversed(range(len(self.downs))), self.ups):
            for block in stage["blocks"]:
                hidden = block(torch.cat([hidden, skips.pop()], 1), time, level, attend)
            hidden = stage["resize"](hidden)
        output = self.conv_out(functional.silu(self.norm_out(hidden)))
        return output if self.precondition is None else self.precondition.outputs(noisy, timestep, output)

    def textures(self, condition: Encoded) -> dict[int, Tensor]:
        """The source's tokens by level."""
        levels = sorted(self.config.texture_levels)
        return {level: condition.tensors[f"texture_{index}"] for index, level in enumerate(levels)}


def check_grid(config: GeneratorModelConfig, codec: Codec) -> None:
    """Check a configuration against the grid that ``codec`` makes.

    Raises:
        ConfigError: the size of the images, or the network's shape, does not go with that grid.
    """
    try:
        config.check_codec(codec.factor)
    except ValueError as error:
        raise ConfigError(f"`model`: {error}.") from None


def all_kept(tensors: dict[str, Tensor]) -> Encoded:
    """An encoded condition that nothing is dropped from."""
    some = next(iter(tensors.values()))
    kept = torch.ones(len(some), dtype=torch.bool, device=some.device)
    return Encoded(tensors, kept, kept)
