"""PoCoLD: controllable person image synthesis with pose-constrained latent diffusion (Han et al., ICCV 2023).

A UNet on latents that sees the target's body parts and looks into the source through sparse attention; in training,
attention between different body parts is punished. The parts are the paper's, DensePose's 24 from files, or ten drawn
around the key points, left and right distinct. With ``warp_prior``, this package's option, the input also holds the
part-wise warp of the source into the target pose with its coverage, dropped together with the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ModelMixin  # noqa: F401 - diffusers loads the denoiser's class by what its module holds
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional

from reid_aug.generators.attention import PoseConstrainedAttention
from reid_aug.generators.autoencoder import Codec
from reid_aug.generators.condition import Condition, Encoded
from reid_aug.generators.unet import SourceUNet, all_kept
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.parts import DENSEPOSE_PARTS
from reid_aug.pose.render import part_map, read_part_map
from reid_aug.pose.skeleton import PARTS

# By ``part_maps``: what makes the map on a grid, and how many labels it has; the background is one, as in DensePose.
PART_MAPS = {"keypoints": (part_map, len(PARTS) + 1), "files": (read_part_map, len(DENSEPOSE_PARTS) + 1)}


class PocoldDenoiser(SourceUNet):
    """The noise prediction module ``H_N`` together with the source encoder ``H_S``."""

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        channels: Sequence[int] = (128, 256, 512, 512),
        texture_levels: Sequence[int] = (0, 1, 2),
        layers_per_level: int = 2,
        heads: int = 8,
        dropout: float = 0.0,
        part_maps: str = "keypoints",
        attention_rows: int = 64,
        constraint_weight: float = 1.0,
        warp_prior: bool = False,
        cameras: int = 0,
        latent_std: Sequence[float] | None = None,
        noise: dict[str, Any] | None = None,
    ):
        super().__init__()

        def attention(level: int) -> nn.Module:
            return PoseConstrainedAttention(channels[level], channels[level], heads, attention_rows)

        self.make_layers(
            latent_channels, PART_MAPS[part_maps][1], latent_channels, channels, texture_levels, layers_per_level,
            dropout, warp_prior, cameras, latent_std, noise, attention,
        )  # fmt: skip

    @property
    def reads_part_maps(self) -> bool:
        """Whether poses must be stacked with the part maps of their files."""
        return self.config.part_maps == "files"

    def encode(self, condition: Condition, codec: Codec) -> Encoded:
        """Everything that stays the same over the sampling steps: part maps, source tokens, the warp."""
        latents = condition.encoded_source(codec)
        grid = tuple(latents.shape[-2:])
        kind = self.config.part_maps
        source_parts = part_masks(condition.source_pose, grid, kind)  # [B S, L, h, w]
        return all_kept(
            {
                "pose": part_masks(condition.target_pose, grid, kind).to(latents.dtype),
                "source_parts": source_parts.unflatten(0, condition.source.shape[:2]),
                **self.encode_shared(condition, latents, codec),
            }
        )

    def forward(self, noisy: Tensor, timestep: Tensor, condition: Encoded) -> Tensor:
        """Predict what the objective asks for (noise or v).

        Args:
            noisy: [B, C, h, w] in the codec's space.
            timestep: [B] integers, 0..T-1.

        Returns:
            [B, C, h, w].
        """
        textures = self.textures(condition)

        def attend(level: int, attention: nn.Module, hidden: Tensor) -> Tensor:
            return attention(hidden, textures[level], condition.keep_source)

        return self.run(noisy, timestep, condition, attend)

    def penalised(self, noisy: Tensor, timestep: Tensor, condition: Encoded) -> tuple[Tensor, Tensor]:
        """The prediction of :meth:`forward`, and ``lambda sum_l L_p^l`` [B] (Eq. 8).

        A sample that lost its pose or its source has no constraint: it has one of them only to compare.
        """
        textures = self.textures(condition)
        both = (condition.keep_pose & condition.keep_source).float()
        matches: dict[int, Tensor] = {}
        penalties = []

        def attend(level: int, attention: nn.Module, hidden: Tensor) -> Tensor:
            if level not in matches:
                matches[level] = matching_parts(
                    condition.tensors["pose"], condition.tensors["source_parts"], hidden.shape[-2:]
                )
            hidden, penalty = attention.constrained(hidden, textures[level], condition.keep_source, matches[level])
            penalties.append(penalty)
            return hidden

        prediction = self.run(noisy, timestep, condition, attend)
        return prediction, self.config.constraint_weight * both * torch.stack(penalties).sum(0)


def part_masks(poses: PoseBatch, grid: tuple[int, int], kind: str) -> Tensor:
    """The part map one-hot: float [B, L, h, w], the background first.

    Args:
        poses: B poses, with their part maps for ``kind`` "files".
        grid: (height, width).
        kind: one of PART_MAPS.
    """
    make, labels = PART_MAPS[kind]
    return functional.one_hot(make(poses, grid), labels).permute(0, 3, 1, 2).float()


def matching_parts(target: Tensor, source: Tensor, size: Sequence[int]) -> Tensor:
    """The constraint map C (Eq. 7): whether a target and a source position show the same part.

    Args:
        target: one-hot parts [B, L, h, w].
        source: of S images, [B, S, L, h, w].
        size: (height, width) of the level, which both are reduced to by the nearest neighbour.

    Returns:
        [B, N, S N] bool, N positions in rows.
    """
    wanted = functional.interpolate(target, tuple(size), mode="nearest-exact").flatten(2)  # [B, L, N]
    given = functional.interpolate(source.flatten(0, 1), tuple(size), mode="nearest-exact").flatten(2)
    given = given.unflatten(0, source.shape[:2]).transpose(1, 2).flatten(2)  # [B, L, S N]
    return (wanted.transpose(1, 2) @ given) > 0.5
