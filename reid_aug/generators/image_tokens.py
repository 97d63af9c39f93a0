"""Semantic tokens of a source image, from a frozen image encoder."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid_aug.errors import CheckpointError, ConfigError

PATCHES = 16  # of the encoder, that the enlarged image is high


class ImageTokens(nn.Module):
    """Tokens of a frozen timm vision transformer, projected to the context's width.

    Args:
        name: of the timm model, such as ``vit_base_patch14_dinov2``.
        channels: width of the tokens.

    Raises:
        ConfigError: timm has no such model, or it is no vision transformer.
    """

    def __init__(self, name: str, channels: int):
        super().__init__()
        import timm

        self.name = name
        try:
            self.encoder = timm.create_model(name, num_classes=0, dynamic_img_size=True).requires_grad_(False)
        except (RuntimeError, TypeError) as error:
            raise ConfigError(
                f"`model.image_encoder` {name!r}: {error}. Name a vision transformer of timm, such as "
                "vit_base_patch14_dinov2."
            ) from error
        self.patch = self.encoder.patch_embed.patch_size[0]
        self.project = nn.Linear(self.encoder.num_features, channels)
        mean, std = (torch.tensor(self.encoder.default_cfg[key])[:, None, None] for key in ("mean", "std"))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def load(self, weights: str) -> None:
        """Load the encoder's weights: a local file, as its authors or timm publish it, or "timm" for the hub's.

        Raises:
            CheckpointError: no file, the hub is not reachable, or weights of another architecture.
        """
        import timm

        try:
            if weights != "timm" and not Path(weights).is_file():
                raise FileNotFoundError("no such file.")
            overlay = {} if weights == "timm" else {"file": weights}
            trained = timm.create_model(self.name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0)
        except Exception as error:  # timm and hub clients raise many kinds
            reason = str(error).split("\n")[0]
            raise CheckpointError(
                f"`model.image_encoder_weights` {weights!r}: not loaded into {self.name}: {reason} Give the local file "
                f"of its weights, e.g. model.safetensors of https://huggingface.co/timm (look for {self.name}), or "
                "model.image_encoder=null."
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
