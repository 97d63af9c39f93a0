"""Attention between the image being made and its source."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional

from reid_aug.generators.encoders import norm_groups
from reid_aug.generators.objective import pose_constraint


class SourceAttention(nn.Module):
    """What the looks of a UNet into its source share: norms and the projections ``phi_q``, ``phi_k``, ``phi_v``, ``W``.

    The projections are 1x1 convolutions, which on tokens are linear layers; the source tokens of several images stand
    one after another, so one query may look into all of them. The block starts as the identity.
    """

    def __init__(self, channels: int, source_channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(norm_groups(channels), channels)
        self.source_norm = nn.LayerNorm(source_channels)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(source_channels, channels)
        self.value = nn.Linear(source_channels, channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def project(self, hidden: Tensor, texture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query [B, heads, h w, d], key and value [B, heads, N, d] of features [B, C, h, w] and tokens [B, N, C_s]."""
        tokens = self.norm(hidden).flatten(2).transpose(1, 2)
        texture = self.source_norm(texture)
        return by_head(self.heads, self.query(tokens), self.key(texture), self.value(texture))

    def add(self, hidden: Tensor, found: Tensor, keep: Tensor) -> Tensor:
        """``W`` of what was found [B, heads, h w, d], added to ``hidden`` [B, C, h, w] where ``keep`` [B] is true."""
        found = self.out(found.transpose(1, 2).flatten(2)) * keep[:, None, None]
        found = found.transpose(1, 2).reshape(hidden.shape)
        return hidden + found.contiguous(memory_format=torch.channels_last)


class TextureDiffusionBlock(SourceAttention):
    """Texture diffusion block of PIDM (Sec. 3.2): ``F_o = W softmax(Q K^T / sqrt d) V + F_h``.

    ``Q = phi_q(F_h)`` from the noisy features, ``K = phi_k(f_l)`` and ``V = phi_v(f_l)`` from the source's.
    """

    def forward(self, hidden: Tensor, texture: Tensor, keep: Tensor) -> Tensor:
        """Add the source's texture to the features.

        Args:
            hidden: [B, C, h, w].
            texture: source tokens [B, N, C_s].
            keep: [B] bool; where False the source is dropped and ``hidden`` comes back unchanged.
        """
        return self.add(hidden, functional.scaled_dot_product_attention(*self.project(hidden, texture)), keep)


class PoseConstrainedAttention(SourceAttention):
    """Sparse attention of PoCoLD (Sec. 3.2): queries and keys meet in n learnable rows instead of pair by pair.

    Eq. 6: ``A_q = softmax_i(W_q Q^T / sqrt d)`` over the n rows for each query, ``A_k = softmax_j(W_k K^T / sqrt d)``
    over the keys for each row, and ``F_o = W_o A V + F_h`` with ``A = A_q^T A_k``. Computed as ``A_q^T (A_k V)``, the
    cost grows with the number of positions, not with its square; A itself is only made for the training constraint.
    """

    def __init__(self, channels: int, source_channels: int, heads: int, rows: int):
        super().__init__(channels, source_channels, heads)
        self.query_rows = nn.Parameter(torch.randn(heads, rows, channels // heads))  # W_q
        self.key_rows = nn.Parameter(torch.randn(heads, rows, channels // heads))  # W_k

    def forward(self, hidden: Tensor, texture: Tensor, keep: Tensor) -> Tensor:
        """Add the source's texture to the features.

        Args:
            hidden: [B, C, h, w].
            texture: source tokens [B, N, C_s].
            keep: [B] bool; where False the source is dropped, which skips the attention.
        """
        to_queries, to_keys, value = self._factors(hidden, texture)
        return self.add(hidden, to_queries.transpose(2, 3) @ (to_keys @ value), keep)

    def constrained(self, hidden: Tensor, texture: Tensor, keep: Tensor, match: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`forward`, and the pose constraint of its attention for ``match`` [B, h w, N]; [B] (Eq. 8)."""
        to_queries, to_keys, value = self._factors(hidden, texture)
        penalty = pose_constraint(to_queries.transpose(2, 3) @ to_keys, match)
        return self.add(hidden, to_queries.transpose(2, 3) @ (to_keys @ value), keep), penalty

    def _factors(self, hidden: Tensor, texture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``A_q`` [B, heads, n, h w], ``A_k`` [B, heads, n, N] (Eq. 6) and V; the attention is ``A_q^T A_k``."""
        query, key, value = self.project(hidden, texture)
        scale = query.shape[-1] ** -0.5
        to_queries = (self.query_rows @ query.transpose(2, 3) * scale).softmax(2)
        to_keys = (self.key_rows @ key.transpose(2, 3) * scale).softmax(3)
        return to_queries, to_keys, value


class HybridGranularityProcessor:
    """Attention of a diffusers UNet whose queries a fine-grained bias is added to: Eq. 4 of CFLD,
    ``softmax((Q + B) K^T / sqrt d) V``.

    Every attention of the UNet gets one, since diffusers hands ``cross_attention_kwargs`` to all of them; one with
    ``scale`` None has no bias.
    """

    def __init__(self, scale: int | None = None):
        self.scale = scale

    def __call__(
        self,
        attention: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        biases: Sequence[Tensor] = (),
    ) -> Tensor:
        """Tokens [B, N, C] to [B, N, C]; ``biases`` has [B, N, d] for each scale."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attention.to_q(hidden_states)
        if self.scale is not None:
            query = query + biases[self.scale]
        query, key, value = by_head(attention.heads, query, attention.to_k(context), attention.to_v(context))
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        project, dropout = attention.to_out
        return dropout(project(found.transpose(1, 2).flatten(2)))


def by_head(heads: int, *tokens: Tensor) -> tuple[Tensor, ...]:
    """Each of ``tokens`` [B, N, C] as [B, heads, N, C / heads]."""
    return tuple(one.unflatten(2, (heads, -1)).transpose(1, 2) for one in tokens)
