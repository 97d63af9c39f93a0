"""Encoders of the source image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from reid_aug.errors import CheckpointError, ConfigError


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


CLASSIFIERS = ("head.", "fc.", "classifier.")  # timm's names of what a feature extractor lacks


class PyramidEncoder(nn.Module):
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

    def __init__(self, name: str, image_size: tuple[int, int], arguments: Mapping[str, Any]):
        super().__init__()
        self.name, self.image_size, self.arguments = name, tuple(image_size), dict(arguments)
        self.network = self._create()
        self.channels = self.network.feature_info.channels()
        if len(self.channels) != 4:
            raise ConfigError(f"`model.encoder`: {name} has {len(self.channels)} scales, CFLD takes four. Use a Swin.")
        last = self.network.feature_info.reduction()[-1]
        if "swin" not in name and any(side % last for side in self.image_size):
            raise ConfigError(f"`model.encoder_size` {list(self.image_size)}: {name} takes multiples of {last}.")
        self.places = math.prod(-(-side // last) for side in self.image_size)  # Swin pads what is no multiple
        mean, std = (torch.tensor(self.network.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def load(self, weights: str) -> None:
        """Load trained weights: a local file, or "timm" for timm's own from the hub.

        Raises:
            CheckpointError: no file, the hub is not reachable, or weights of another architecture.
        """
        try:
            source = {} if weights == "timm" else self._file(Path(weights))
            trained = self._create(pretrained=True, **source)
        except Exception as error:  # timm and hub clients raise many kinds
            reason = str(error).split("\n")[0]
            raise CheckpointError(
                f"`model.encoder_weights` {weights!r}: not loaded into {self.name}: {reason} Give the local file of "
                f"its weights, e.g. model.safetensors of https://huggingface.co/timm (look for {self.name})."
            ) from error
        self.network.load_state_dict(trained.state_dict())

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] in [-1, 1] to four feature maps [B, C_l, h_l, w_l], fine to coarse."""
        resized = functional.interpolate(images, self.image_size, mode="bilinear", antialias=True, align_corners=False)
        features = self.network(((resized + 1) / 2 - self.mean) / self.std)
        if self.network.output_fmt == "NHWC":  # Swin's order
            return [feature.permute(0, 3, 1, 2) for feature in features]
        return features

    def _file(self, path: Path) -> dict[str, Any]:
        """timm's arguments that load a file without its classifier, and fail where anything else does not fit."""
        if path.suffix == ".safetensors":
            read = load_file(path)
        else:
            read = torch.load(path, map_location="cpu", weights_only=True)
            read = read.get("model", read.get("state_dict", read))  # where their authors' files have them
        weights = {name: value for name, value in read.items() if not name.startswith(CLASSIFIERS)}
        return {"num_classes": 0, "pretrained_cfg_overlay": {"state_dict": weights, "num_classes": 0}}

    def _create(self, **arguments: Any) -> nn.Module:
        import timm

        sized = {"img_size": self.image_size} if "swin" in self.name else {}
        try:
            return timm.create_model(self.name, features_only=True, **sized, **self.arguments, **arguments)
        except (RuntimeError, TypeError, AssertionError) as error:
            if arguments:
                raise
            raise ConfigError(
                f"`model.encoder` {self.name!r} with `encoder_arguments` {self.arguments}: {error}. "
                "Name a timm model that has features_only, such as swin_base_patch4_window7_224."
            ) from error
