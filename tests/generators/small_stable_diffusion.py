"""A folder like Stable Diffusion's, small."""

from pathlib import Path

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel

from reid_aug.generators.stable_diffusion import unet_shape


def write_stable_diffusion(folder: Path, channels: tuple[int, ...] = (16, 32, 32), **changes) -> str:
    """A UNet for four channels in ``unet/`` and a VAE of factor 2 in ``vae/``; returns the folder."""
    torch.manual_seed(3)
    shape = unet_shape(4, 4, channels, layers=1, heads=2, context=16)
    UNet2DConditionModel.from_config({**shape, **changes}).save_pretrained(folder / "unet")
    AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).save_pretrained(folder / "vae")  # fmt: skip
    return str(folder)
