"""Encoders of the source image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional

from reid_aug.errors import ConfigError
from reid_aug.generators.timm_encoder import TimmEncoder


def norm_groups(channels: int) -> int:
    """Groups of a group norm: the customary 32, or 16 where the width is a multiple of that only."""
    return 32 if channels % 32 == 0 else 16


def residual_block(channels: int, out_channels: int, time_channels: int | None, dropout: float) -> ResnetBlock2D:
    """The residual block of DDPM's UNet; ``time_channels`` None for a network that knows no timestep."""
    return ResnetBlock2D(
        in_channels=channels,
        out_channels=out_channels,
        temb_channels=time_channels,
        groups=norm_groups(channels),
        groups_out=norm_groups(out_channels),
        dropout=dropout,
    )


class TextureEncoder(nn.Module):
    """PIDM's ``H_E``: the UNet's own down path without attention, on the source image (Sec. 3.1).

    The stacked features ``F_s = [f_1 .. f_m]`` are the outputs of the levels that have a texture diffusion block.
    """

    def __init__(
        self, in_channels: int, channels: Sequence[int], levels: Sequence[int], layers_per_level: int, dropout: float
    ):
        super().__init__()
        self.levels = tuple(levels)
        self.conv_in = nn.Conv2d(in_channels, channels[0], 3, padding=1)
        self.blocks, self.downs = nn.ModuleList(), nn.ModuleList()
        width = channels[0]
        for level, out in enumerate(channels[: max(self.levels) + 1]):
            self.downs.append(Downsample2D(width, use_conv=True, name="op") if level else nn.Identity())
            blocks = [
                residual_block(width if layer == 0 else out, out, None, dropout) for layer in range(layers_per_level)
            ]
            self.blocks.append(nn.ModuleList(blocks))
            width = out

    def forward(self, source: Tensor) -> list[Tensor]:
        """[B, C, h, w] to one feature map [B, C_l, h_l, w_l] a texture level, fine to coarse."""
        features, hidden = [], self.conv_in(source)
        for level, (down, blocks) in enumerate(zip(self.downs, self.blocks)):
            hidden = down(hidden)
            for block in blocks:
                hidden = block(hidden, None)
            if level in self.levels:
                features.append(hidden)
        return features


class PyramidEncoder(TimmEncoder):
    """CFLD's ``H_S``: a timm backbone of four scales, Swin-B in the paper (Sec. 3.2).

    Args:
        name: of the timm model.
        image_size: (height, width) that images are resized to.
        arguments: further ones of the timm model, such as ``embed_dim``.

    Raises:
        ConfigError: timm has no such model, it does not take the arguments or the size, or it has not four scales.

    Attributes:
        channels: of each scale.
        places: positions of the last scale.
    """

    field = "model.encoder"
    remedy = "Name a timm model that has features_only, such as swin_base_patch4_window7_224."

    def __init__(self, name: str, image_size: tuple[int, int], arguments: Mapping[str, Any]):
        sized = {"img_size": tuple(image_size)} if "swin" in name else {}
        super().__init__(name, features_only=True, **sized, **arguments)
        self.image_size = tuple(image_size)
        self.channels = self.network.feature_info.channels()
        if len(self.channels) != 4:
            raise ConfigError(f"`model.encoder`: {name} has {len(self.channels)} scales, CFLD takes four. Use a Swin.")
        last = self.network.feature_info.reduction()[-1]
        if "swin" not in name and any(side % last for side in self.image_size):
            raise ConfigError(f"`model.encoder_size` {list(self.image_size)}: {name} takes multiples of {last}.")
        self.places = math.prod(-(-side // last) for side in self.image_size)  # Swin pads what is no multiple

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] in [-1, 1] to four feature maps [B, C_l, h_l, w_l], fine to coarse."""
        resized = functional.interpolate(  # a CPU knows it in float32 alone
            images.float(), self.image_size, mode="bilinear", antialias=True, align_corners=False
        )
        features = self.network(self.normalised(resized.to(images.dtype)))
        if self.network.output_fmt == "NHWC":  # Swin's order
            return [feature.permute(0, 3, 1, 2) for feature in features]
        return features
