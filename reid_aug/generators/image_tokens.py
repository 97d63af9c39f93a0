"""Semantic tokens of a source image, from a frozen image encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid_aug.errors import ConfigError
from reid_aug.generators.timm_encoder import TimmEncoder

PATCHES = 16  # of the encoder, that the enlarged image is high


class ImageTokens(TimmEncoder):
    """Tokens of a frozen timm vision transformer, projected to the context's width.

    Args:
        name: of the timm model, such as ``vit_base_patch14_dinov2``.
        channels: width of the tokens.

    Raises:
        ConfigError: timm has no such model, or it is no vision transformer.
    """

    field = "model.image_encoder"
    remedy = "Name a vision transformer of timm, such as vit_base_patch14_dinov2."

    def __init__(self, name: str, channels: int):
        super().__init__(name, dynamic_img_size=True)
        if not hasattr(self.network, "num_prefix_tokens"):  # a Swin takes the argument, but makes a map, not tokens
            raise ConfigError(f"`{self.field}` {name!r}: no vision transformer. {self.remedy}")
        self.network.requires_grad_(False)
        self.patch = self.network.patch_embed.patch_size[0]
        self.project = nn.Linear(self.network.num_features, channels)

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1], of any size, to tokens [N, n, C]."""
        height, width = images.shape[-2:]
        size = PATCHES * self.patch, max(round(PATCHES * width / height), 1) * self.patch
        enlarged = functional.interpolate(images, size, mode="bicubic", align_corners=False)
        with torch.no_grad():
            tokens = self.network.forward_features(self.normalised(enlarged))
        return self.project(tokens)
