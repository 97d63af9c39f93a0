"""CFLD: coarse-to-fine latent diffusion for pose-guided person image synthesis (Lu et al., CVPR 2024).

A Stable Diffusion UNet whose prompt is read off the source image by a perception-refined decoder (coarse), whose
cross-attention queries on the way up are biased by the source's features (fine), and whose way down takes the residuals
of a pose adapter. With ``warp_prior``, this package's option, a second adapter adds the part-wise warp of the source,
dropped together with the source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ModelMixin, T2IAdapter, UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn
from torch.nn import functional

from reid_aug.config import CfldConfig, NoiseConfig
from reid_aug.generators.attention import HybridGranularityProcessor
from reid_aug.generators.autoencoder import Codec, plain_settings
from reid_aug.generators.condition import Condition, Encoded
from reid_aug.generators.encoders import PyramidEncoder
from reid_aug.generators.precondition import Precondition
from reid_aug.generators.stable_diffusion import open_unet, unet_shape
from reid_aug.generators.unet import all_kept
from reid_aug.pose.render import camera_planes, heatmaps, limb_image
from reid_aug.pose.skeleton import JOINTS

SCALES = 3  # f_1 to f_3 bias the queries of the three finest up-sampling blocks with cross-attention


class PerceptionRefinedDecoder(nn.Module):
    """``H_D``: learnable queries refined by R transformer decoder blocks that look at the source's last scale.

    As in the authors' code, the queries start small, the source's tokens know their places, and no norm comes last.
    Each block adds what it found to the queries: beside queries of unit size, the features of an untrained encoder
    would be a few per cent of the prompt, and a UNet trained from scratch would learn one prompt for all sources.
    Likewise a last norm would leave of the prompt only the direction that grows fastest, in which two people may be
    alike. The tokens are normalised, which the paper does not mention, so that an untrained encoder is heard.
    """

    def __init__(self, source_channels: int, width: int, queries: int, blocks: int, heads: int, places: int):
        super().__init__()
        self.queries = nn.Parameter(0.02 * torch.randn(queries, width))
        self.norm = nn.LayerNorm(source_channels)
        self.places = nn.Parameter(0.02 * torch.randn(places, source_channels))
        self.project = nn.Linear(source_channels, width)
        block = nn.TransformerDecoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerDecoder(block, blocks)

    def forward(self, source: Tensor) -> Tensor:
        """Tokens of S sources [B, S, N, C] to the coarse-grained prompt [B, queries, width]; in any order."""
        tokens = self.project(self.norm(source) + self.places).flatten(1, 2)
        return self.blocks(self.queries.expand(len(source), -1, -1), tokens)


class AppearanceEncoder(nn.Module):
    """``phi_A`` of one scale: K transformer layers between two zero convolutions (Sec. 3.2).

    Both convolutions start as zero, so training first settles on the coarse prompt and fills in detail later.
    """

    def __init__(self, source_channels: int, width: int, layers: int):
        super().__init__()
        heads = math.gcd(source_channels, max(1, source_channels // 32))  # of width 32 if that goes, as Swin's
        layer = nn.TransformerEncoderLayer(
            source_channels, heads, 4 * source_channels, dropout=0.0, batch_first=True, norm_first=True
        )
        self.zero_in = nn.Conv2d(source_channels, source_channels, 1)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.zero_out = nn.Conv2d(source_channels, width, 1)
        for zero in (self.zero_in, self.zero_out):
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(zero.bias)

    def forward(self, feature: Tensor, grid: tuple[int, int]) -> Tensor:
        """Features [B, C, h, w] to the bias [B, N, width] of queries on a ``grid`` of N positions."""
        hidden = self.zero_in(functional.adaptive_avg_pool2d(feature, grid))
        hidden = self.layers(hidden.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, grid)
        return self.zero_out(hidden).flatten(2).transpose(1, 2)


class CfldDenoiser(ModelMixin, ConfigMixin):
    """UNet ``H_N``, source encoder ``H_S``, prompt decoder ``H_D``, appearance encoders ``H_A``, pose adapter ``H_P``.

    Args:
        unet_shape: configuration of the diffusers ``UNet2DConditionModel``.
        latent_channels, factor: of what the codec encodes.
        encoder_name, encoder_size, encoder_arguments: of the source encoder, see :class:`PyramidEncoder`.
        queries, decoder_blocks, decoder_heads: Q, R and the heads of the prompt decoder.
        appearance_layers: K.
        heatmap_sigma: of a key point's Gaussian, pixels of the image.
        warp_prior: whether the part-wise warp of the source is given.
        cameras: how many are told apart; the target's is given to the pose adapter.
        latent_std, noise: to precondition by, as in the other systems.
    """

    @register_to_config
    def __init__(
        self,
        unet_shape: dict[str, Any],
        latent_channels: int = 4,
        factor: int = 8,
        encoder_name: str = "swin_base_patch4_window7_224",
        encoder_size: Sequence[int] = (256, 256),
        encoder_arguments: dict[str, Any] | None = None,
        queries: int = 16,
        decoder_blocks: int = 8,
        decoder_heads: int = 8,
        appearance_layers: int = 4,
        heatmap_sigma: float = 3.0,
        warp_prior: bool = False,
        cameras: int = 0,
        latent_std: Sequence[float] | None = None,
        noise: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.precondition = None if latent_std is None else Precondition(latent_std, NoiseConfig(**noise))
        self.unet = UNet2DConditionModel.from_config(unet_shape)
        widths, prompt_width = self.unet.config.block_out_channels, self.unet.config.cross_attention_dim
        self.encoder = PyramidEncoder(encoder_name, tuple(encoder_size), encoder_arguments or {})
        self.decoder = PerceptionRefinedDecoder(
            self.encoder.channels[-1], prompt_width, queries, decoder_blocks, decoder_heads, self.encoder.places
        )
        self.null_prompt = nn.Parameter(torch.randn(queries, prompt_width))  # stands for a dropped source
        self.levels = bias_up_blocks(self.unet)
        self.appearance = nn.ModuleList(
            AppearanceEncoder(source, widths[level], appearance_layers)
            for source, level in zip(self.encoder.channels, self.levels)
        )
        shape = {"channels": list(widths), "downscale_factor": factor}
        self.pose_adapter = T2IAdapter(in_channels=3 + len(JOINTS) + cameras, **shape)
        self.warp_adapter = T2IAdapter(in_channels=3 + 1, **shape) if warp_prior else None

    @classmethod
    def build(cls, config: CfldConfig, noise: NoiseConfig, codec: Codec) -> CfldDenoiser:
        """The denoiser of a configuration, for what ``codec`` encodes; pretrained parts are loaded.

        Raises:
            CheckpointError: weights that are named cannot be loaded.
            ConfigError: a pretrained UNet for other latents than the codec's.
        """
        trained = None if config.unet is None else open_unet(config.unet, codec)
        if trained is not None:
            shape = plain_settings(trained.config)
        else:
            shape = unet_shape(
                codec.channels, codec.channels, config.channels, config.layers_per_level, config.heads,
                config.prompt_channels,
            )  # fmt: skip
        own = config.model_dump(
            include={
                "encoder_size", "encoder_arguments", "queries", "decoder_blocks", "decoder_heads", "appearance_layers",
                "heatmap_sigma", "warp_prior", "cameras",
            }
        )  # fmt: skip
        if config.precondition:
            own |= {"latent_std": codec.std, "noise": noise.model_dump()}
        denoiser = cls(shape, codec.channels, codec.factor, config.encoder, **own)
        if trained is None:
            nn.init.zeros_(denoiser.unet.conv_out.weight)
            nn.init.zeros_(denoiser.unet.conv_out.bias)
        else:
            denoiser.unet.load_state_dict(trained.state_dict())
            freeze_all_but_up_prompts(denoiser.unet)
        if config.encoder_weights is not None:
            denoiser.encoder.load(config.encoder_weights)
        return denoiser

    def encode(self, condition: Condition, codec: Codec) -> Encoded:
        """Everything that stays the same over the sampling steps: prompt, query biases, adapter residuals.

        Several sources of a person are more tokens for the prompt; their query biases are averaged.
        """
        sources, size = condition.source.shape[:2], tuple(condition.source.shape[-2:])
        features = self.encoder(condition.source.flatten(0, 1))
        tokens = features[-1].flatten(2).transpose(1, 2).unflatten(0, sources)  # [B, S, N, C]
        tensors = {"prompt": self.decoder(tokens)}
        grid = [side // codec.factor for side in size]
        for scale, (level, encoder) in enumerate(zip(self.levels, self.appearance)):
            cells = tuple(-(-side // 2**level) for side in grid)  # down-sampling rounds up
            tensors[f"bias_{scale}"] = encoder(features[scale], cells).unflatten(0, sources).mean(1)
        poses = condition.target_pose
        maps = limb_image(poses, size), heatmaps(poses, size, self.config.heatmap_sigma)
        pose = torch.cat([*maps, camera_planes(poses, size, self.config.cameras)], 1)
        residuals = self.pose_adapter(pose.to(condition.source.dtype))
        tensors |= {f"pose_{level}": residual for level, residual in enumerate(residuals)}
        if self.warp_adapter is not None:
            warp = torch.cat(condition.warped_source(), 1)
            tensors |= {f"warp_{level}": residual for level, residual in enumerate(self.warp_adapter(warp))}
        return all_kept(tensors)

    def forward(self, noisy: Tensor, timestep: Tensor, condition: Encoded) -> Tensor:
        """Predict what the objective asks for (noise or v).

        Without its source a sample has learnable vectors as the prompt and no query bias; without its pose, no
        residuals.

        Args:
            noisy: [B, C, h, w] in the codec's space.
            timestep: [B] integers, 0..T-1.

        Returns:
            [B, C, h, w].
        """
        tensors, pose, source = condition.tensors, condition.keep_pose, condition.keep_source
        prompt = torch.where(source[:, None, None], tensors["prompt"], self.null_prompt)
        biases = [tensors[f"bias_{scale}"] * source[:, None, None] for scale in range(len(self.levels))]
        residuals = []
        for level in range(len(self.unet.down_blocks)):
            residual = tensors[f"pose_{level}"] * pose[:, None, None, None]
            if self.warp_adapter is not None:
                residual = residual + tensors[f"warp_{level}"] * source[:, None, None, None]
            residuals.append(residual)
        seen = noisy if self.precondition is None else self.precondition.inputs(noisy, timestep)
        output = self.unet(
            seen.contiguous(memory_format=torch.channels_last),
            timestep,
            prompt,
            cross_attention_kwargs={"biases": biases},
            down_intrablock_additional_residuals=residuals,
        ).sample
        return output if self.precondition is None else self.precondition.outputs(noisy, timestep, output)


def bias_up_blocks(unet: UNet2DConditionModel) -> list[int]:
    """Let the finest up-sampling blocks with cross-attention take biased queries.

    Returns:
        The level of each scale, fine to coarse: how often its grid was halved.
    """
    last = len(unet.up_blocks) - 1
    attends = [getattr(block, "has_cross_attention", False) for block in unet.up_blocks]
    levels = [level for level in range(last + 1) if attends[last - level]][:SCALES]
    places = {f"up_blocks.{last - level}.": scale for scale, level in enumerate(levels)}
    processors = {}
    for name in unet.attn_processors:
        scale = next((scale for place, scale in places.items() if name.startswith(place)), None)
        processors[name] = HybridGranularityProcessor(scale if ".attn2." in name else None)
    unet.set_attn_processor(processors)
    return levels


def freeze_all_but_up_prompts(unet: UNet2DConditionModel) -> None:
    """Leave ``W_k`` and ``W_v`` of the up-sampling blocks' cross-attention alone trainable (Sec. 3.2)."""
    for name, parameter in unet.named_parameters():
        trained = name.startswith("up_blocks.") and (".attn2.to_k." in name or ".attn2.to_v." in name)
        parameter.requires_grad_(trained)
