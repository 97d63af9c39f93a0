"""Training batches from decoded images: every augmentation as one tensor operation over the batch, on its device.

The random part is drawn first, on the CPU, from (seed, batch number): :class:`Draws` is the same whatever the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import functional as vision

from reid_aug.config import ReidAugmentationConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB, of values in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)

_STREAM = 2  # beside the sampler's streams under the same seed
_ERASING_ATTEMPTS = 100  # the reference's: draws until a rectangle fits


@dataclass(frozen=True, eq=False)
class Draws:
    """The random choices of a batch of B images.

    Attributes:
        flip: [B] bool.
        shift: [B, 2] int64, top and left of the crop in the padded image, 0..2*pad.
        colour: [B, 3] float32, factors of brightness, contrast and saturation; 1 changes nothing.
        erase: [B, 4] int64, top, left, height, width in pixels; an image that keeps everything has zeros.
    """

    flip: np.ndarray
    shift: np.ndarray
    colour: np.ndarray
    erase: np.ndarray


def draw(count: int, size: tuple[int, int], config: ReidAugmentationConfig, seed: int, batch: int) -> Draws:
    """Choices for batch number ``batch`` of ``count`` images of ``size`` (height, width)."""
    rng = np.random.default_rng([seed, _STREAM, batch])
    return Draws(
        flip=rng.random(count) < config.flip,
        shift=rng.integers(0, 2 * config.pad + 1, (count, 2)),
        colour=rng.uniform(1 - config.colour_jitter, 1 + config.colour_jitter, (count, 3)).astype(np.float32),
        erase=_rectangles(count, size, config, rng),
    )


def _rectangles(count: int, size: tuple[int, int], config: ReidAugmentationConfig, rng: np.random.Generator):
    """Random erasing's rectangles (Zhong et al. 2017, Algorithm 1); all attempts of all images at once."""
    height, width = size
    area = height * width * rng.uniform(*config.erasing_area, (count, _ERASING_ATTEMPTS))
    aspect = rng.uniform(config.erasing_aspect, 1 / config.erasing_aspect, (count, _ERASING_ATTEMPTS))
    heights, widths = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (heights < height) & (widths < width)
    first = (np.arange(count), fits.argmax(axis=1))
    tall, wide = heights[first], widths[first]
    top, left = (rng.random((2, count)) * [height - tall + 1, width - wide + 1]).astype(np.int64)
    erased = (rng.random(count) < config.erasing) & fits[first]
    return np.where(erased[:, None], np.stack([top, left, tall, wide], axis=1).astype(np.int64), 0)


def augment(images: Tensor, draws: Draws, pad: int) -> Tensor:
    """Flip, pad and crop, change colours, normalise, erase.

    Args:
        images: uint8 [B, 3, H, W] RGB on any device.
        draws: for these images.
        pad: black pixels on each side before the crop, the ``pad`` that ``draws`` was made with.

    Returns:
        float32 [B, 3, H, W] in channels_last, ImageNet-normalised; erased pixels are the mean, that is 0.
    """
    device = images.device
    images = _flip_and_crop(
        images, torch.from_numpy(draws.flip).to(device), torch.from_numpy(draws.shift).to(device), pad
    )
    images = images.float()
    if (draws.colour != 1).any():
        images = _change_colours(images, torch.from_numpy(draws.colour).to(device))
    return _erase(normalise(images), torch.from_numpy(draws.erase).to(device))


def normalise(images: Tensor) -> Tensor:
    """[B, 3, H, W] RGB of 0..255 -> float32 in channels_last, less the ImageNet mean, over its deviation."""
    images = images.float().contiguous(memory_format=torch.channels_last)
    mean = images.new_tensor(IMAGENET_MEAN)[:, None, None] * 255
    std = images.new_tensor(IMAGENET_STD)[:, None, None] * 255
    return (images - mean) / std


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 [B, 3, h, w] -> uint8 [B, 3, H, W], bilinear with antialiasing; the same tensor where it has the size."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return vision.resize(images, list(size), antialias=True)


def _flip_and_crop(images: Tensor, flip: Tensor, shift: Tensor, pad: int) -> Tensor:
    count, _, height, width = images.shape
    padded = F.pad(images, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
    rows = shift[:, :1] + torch.arange(height, device=images.device)
    columns = shift[:, 1:] + torch.arange(width, device=images.device)
    # The padding is symmetric, so a mirrored image is cropped by counting columns from the other side.
    columns = torch.where(flip[:, None], width + 2 * pad - 1 - columns, columns)
    image = torch.arange(count, device=images.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _change_colours(images: Tensor, factors: Tensor) -> Tensor:
    """Brightness, contrast, then saturation, as torchvision's ``adjust_*`` define them; values stay in 0..255."""
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(dim=1)
    images = (images * brightness).clamp(0, 255)
    mean = vision.rgb_to_grayscale(images).mean(dim=(1, 2, 3), keepdim=True)
    images = (mean + (images - mean) * contrast).clamp(0, 255)
    grey = vision.rgb_to_grayscale(images)
    return (grey + (images - grey) * saturation).clamp(0, 255)


def _erase(images: Tensor, rectangles: Tensor) -> Tensor:
    """In place, which also keeps the memory format."""
    height, width = images.shape[-2:]
    top, left, tall, wide = rectangles[:, :, None].unbind(dim=1)
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    inside_rows = (rows >= top) & (rows < top + tall)
    inside_columns = (columns >= left) & (columns < left + wide)
    return images.masked_fill_((inside_rows[:, :, None] & inside_columns[:, None, :])[:, None], 0.0)
