"""Semantic tokens of a source image, from a frozen image encoder."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid_aug.errors import CheckpointError

PATCHES = 16  # of the encoder, that the enlarged image is high


class ImageTokens(nn.Module):
    """Tokens of a frozen timm vision transformer, projected to the context's width.

    Args:
        name: of the timm model, such as ``vit_base_patch14_dinov2``.
        channels: width of the tokens.
    """

    def __init__(self, name: str, channels: int):
        super().__init__()
        import timm

        self.name = name
        self.encoder = timm.create_model(name, num_classes=0, dynamic_img_size=True).requires_grad_(False)
        self.patch = self.encoder.patch_embed.patch_size[0]
        self.project = nn.Linear(self.encoder.num_features, channels)
        mean, std = (torch.tensor(self.encoder.default_cfg[key])[:, None, None] for key in ("mean", "std"))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def load(self, path: str | Path) -> None:
        """Load the encoder's weights, as its authors or timm publish them.

        Raises:
            CheckpointError: no weight file of this model at ``path``.
        """
        import timm

        try:
            if not Path(path).is_file():
                raise FileNotFoundError("no such file")
            overlay = {"file": str(path)}
            trained = timm.create_model(self.name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0)
        except Exception as error:  # timm raises whatever reading or matching the file raises
            raise CheckpointError(
                f"{path}: cannot be read as weights of {self.name}: {error}. Set model.image_encoder_weights to the "
                f"model.safetensors of https://huggingface.co/timm (look for {self.name}), or model.image_encoder=null."
            ) from error
        self.encoder.load_state_dict(trained.state_dict())

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] in [-1, 1], of any size, to tokens [N, n, C]."""
        height, width = images.shape[-2:]
        size = PATCHES * self.patch, max(round(PATCHES * width / height), 1) * self.patch
        enlarged = functional.interpolate(images, size, mode="bicubic", align_corners=False)
        with torch.no_grad():
            tokens = self.encoder.forward_features(((enlarged + 1) / 2 - self.mean) / self.std)
        return self.project(tokens)
