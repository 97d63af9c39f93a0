"""A training set as the network takes it: pixels, and latents that are encoded once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from reid_aug.errors import CheckpointError
from reid_aug.generators.autoencoder import Codec, PixelCodec
from reid_aug.records import ImageSource

KEPT_BYTES = 8 * 2**30  # what is kept of a training set: its pixels on an accelerator, its latents anywhere
ENCODED_AT_ONCE = 64


class TrainingImages:
    """Pixels and latents of images by row, mirrored where asked.

    A row's latents come from memory once :meth:`encode_all` has run and are encoded when asked for before that. They
    are kept in float16, whose error of 1 in 2000 is below a grey level's. Market-1501's 12,936 training images as
    16x32x16 take 212 MB, and as much again for the mirrored ones: a mirrored image's latents are not its latents
    mirrored. Pixels are their own latents and are not kept twice.

    Args:
        images: the data set's pixels.
        positions: of the rows in it, [N].
        names: of the rows' files, for errors.
        codec: that encodes, on the device that everything is wanted on.
    """

    def __init__(self, images: ImageSource, positions: np.ndarray, names: Sequence[str], codec: Codec):
        self.images, self.positions, self.names, self.codec = images, positions, names, codec
        self.device = codec.device
        self.resident = self._resident()
        self.kept: Tensor | None = None  # [1 or 2, N, C, h, w]; the second are the mirrored images'

    def pixels(self, rows: np.ndarray, flip: np.ndarray) -> Tensor:
        """Images [B, 3, H, W] in [-1, 1] of rows [B], mirrored where ``flip`` [B] is true."""
        if self.resident is None:
            pixels = self.images.batch(self.positions[rows]).to(self.device, non_blocking=True)
        else:
            pixels = self.resident[send(rows, self.device).long()]
        pixels = pixels.float() / 127.5 - 1
        return torch.where(send(flip, self.device)[:, None, None, None], pixels.flip(-1), pixels)

    def latents(self, rows: np.ndarray, flip: np.ndarray) -> Tensor:
        """Latents [B, C, h, w], float32, of the same."""
        if self.kept is None:
            return self._encode(rows, flip)
        return self.kept[send(flip, self.device).long(), send(rows, self.device).long()].float()

    def encode_all(self, mirrored: bool, progress: Callable[[int, int], None] | None = None) -> None:
        """Encode all rows, and with ``mirrored`` their mirror images; a set that is too large is left as it is.

        Args:
            progress: called with (images encoded, of how many).

        Raises:
            CheckpointError: latents that are no numbers.
        """
        if isinstance(self.codec, PixelCodec):
            return
        count, variants = len(self.positions), 2 if mirrored else 1
        one = self._encode(np.zeros(1, np.int64), np.zeros(1, bool))
        kept = torch.empty((variants, count, *one.shape[1:]), dtype=torch.float16, device="meta")
        if kept.nbytes > KEPT_BYTES:
            return
        kept = torch.empty_like(kept, device=self.device)
        for start in range(0, count, ENCODED_AT_ONCE):
            rows = np.arange(start, min(start + ENCODED_AT_ONCE, count))
            for variant in range(variants):
                kept[variant, rows[0] : rows[-1] + 1] = self._encode(rows, np.full(len(rows), bool(variant)))
            broken = (~kept[:, rows[0] : rows[-1] + 1].isfinite()).flatten(2).any(2).any(0).nonzero()
            if len(broken):
                raise CheckpointError(
                    f"{self.names[start + int(broken[0])]}: its latents are NaN, infinite or beyond float16. The VAE "
                    "of model.codec_weights is damaged or has another scaling_factor: give another, or train one "
                    "with `reid-aug train-autoencoder`."
                )
            if progress is not None:
                progress(variants * int(rows[-1] + 1), variants * count)
        self.kept = kept

    @torch.no_grad()
    def _encode(self, rows: np.ndarray, flip: np.ndarray) -> Tensor:
        return self.codec.encode(self.pixels(rows, flip))

    def _resident(self) -> Tensor | None:
        """All images on the accelerator; None on the CPU, where ``images`` already holds them."""
        if self.device.type == "cpu":
            return None
        one = self.images.batch(self.positions[:1])
        if one.numel() * len(self.positions) > KEPT_BYTES:
            return None
        return self.images.batch(self.positions).to(self.device)


def send(array: np.ndarray, device: torch.device) -> Tensor:
    """``array`` on ``device``, queued behind the work that an accelerator still has; the host does not wait for it."""
    return torch.from_numpy(array).to(device, non_blocking=True)  # CUDA has its own copy of it when this returns
