"""Attention between the image being made and its source."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class TextureDiffusionBlock(nn.Module):
    """Texture diffusion block of PIDM (Sec. 3.2): ``F_o = W softmax(Q K^T / sqrt d) V + F_h``.

    ``Q = phi_q(F_h)`` from the noisy features, ``K = phi_k(f_l)`` and ``V = phi_v(f_l)`` from the source's. The
    projections are 1x1 convolutions, which on tokens are linear layers; the source tokens of several images stand
    one after another, so one query may look into all of them.
    """

    def __init__(self, channels: int, source_channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(32 if channels % 32 == 0 else 16, channels)
        self.source_norm = nn.LayerNorm(source_channels)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(source_channels, channels)
        self.value = nn.Linear(source_channels, channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)  # the block starts as the identity
        nn.init.zeros_(self.out.bias)

    def forward(self, hidden: Tensor, texture: Tensor, keep: Tensor) -> Tensor:
        """Add the source's texture to the features.

        Args:
            hidden: [B, C, h, w].
            texture: source tokens [B, N, C_s].
            keep: [B] bool; where False the source is dropped and ``hidden`` comes back unchanged.
        """
        batch, channels, height, width = hidden.shape
        tokens = self.norm(hidden).flatten(2).transpose(1, 2)
        texture = self.source_norm(texture)
        query, key, value = (
            projected.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projected in (self.query(tokens), self.key(texture), self.value(texture))
        )
        found = functional.scaled_dot_product_attention(query, key, value)
        found = self.out(found.transpose(1, 2).flatten(2)) * keep[:, None, None]
        found = found.transpose(1, 2).reshape(batch, channels, height, width)
        return hidden + found.contiguous(memory_format=torch.channels_last)
