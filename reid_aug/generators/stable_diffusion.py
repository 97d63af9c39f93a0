"""Stable Diffusion's UNet: its shape at any size, and a trained one from a folder or the hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel

from reid_aug.errors import CheckpointError, ConfigError
from reid_aug.generators.autoencoder import Codec, model_folder, why_not_loaded
from reid_aug.generators.encoders import norm_groups


def unet_shape(
    in_channels: int, out_channels: int, channels: Sequence[int], layers: int, heads: int, context: int
) -> dict[str, Any]:
    """Configuration of a diffusers UNet in Stable Diffusion's shape: cross-attention on all levels but the last.

    Args:
        in_channels, out_channels: of what is denoised and of the prediction.
        channels: width of each level, each of half the height and width of the one before.
        layers: residual blocks a level on the way down.
        heads: of every attention.
        context: width of the tokens that cross-attention looks at.
    """
    attended = len(channels) - 1
    return {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "block_out_channels": list(channels),
        "down_block_types": ["CrossAttnDownBlock2D"] * attended + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * attended,
        "layers_per_block": layers,
        "attention_head_dim": heads,  # diffusers' name for the number of heads
        "cross_attention_dim": context,
        "norm_num_groups": min(norm_groups(width) for width in channels),
    }


def open_unet(weights: str, codec: Codec) -> UNet2DConditionModel:
    """A trained UNet: a diffusers folder, that of a whole pipeline with one in ``unet/``, or a name on the hub.

    Raises:
        CheckpointError: not there, not reachable, or damaged.
        ConfigError: it is for other latents than those of ``codec``.
    """
    try:
        place = model_folder(weights, "unet")
        inside = None if Path(place).is_dir() else "unet"  # on the hub it is a part of the pipeline
        unet = UNet2DConditionModel.from_pretrained(place, subfolder=inside, low_cpu_mem_usage=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"`model.unet` {weights!r}: not loaded: {why_not_loaded(error)} Give a local folder of Stable "
            "Diffusion 1.5 in diffusers' format, with unet/config.json and unet/diffusion_pytorch_model.safetensors."
        ) from error
    if unet.config.in_channels != codec.channels:
        raise ConfigError(
            f"`model.unet` {weights!r} takes {unet.config.in_channels} channels, the codec makes {codec.channels}. "
            "Set model.codec=vae and model.codec_weights to the VAE it was trained with."
        )
    return unet
