"""Image quality against the real target: SSIM, PSNR, their masked forms, and LPIPS.

Images are [B, 3, H, W], either uint8 in 0..255 or float in [-1, 1]; scores are one a pair, [B]. Masks are
[B, 1, H, W], 1 on the person (drawn from the target pose by the caller) and 0 elsewhere.

The SSIM of a published Market-1501 row depends on its window. The evaluation code released with CFLD computes two,
both with scikit-image, pair by pair: a uniform window of 51 x 51 (``window="uniform"``) and a Gaussian one of sigma
1.5, 11 x 11 (``window="gaussian"``, the default here). As in scikit-image the border that a window does not fill is
left out; the data range is that of the format, 255. In CFLD's code that is so for the uniform window alone: for the
Gaussian one it takes each generated image's own range, which is smaller, and so come out its numbers. State the window
beside the number: :class:`ImageQuality` gives both.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from reid_aug.errors import CheckpointError, DataError
from reid_aug.metrics.weights import load_weights

Window = Literal["gaussian", "uniform"]
UNIFORM_SIDE = 51  # of the uniform window, pixels
CHUNK = 64  # pairs at once, which bounds the memory of a large batch
LPIPS_WEIGHTS = {  # torchvision's file of each backbone
    "alex": ("alexnet-owt-7be5be79.pth", "alexnet"),
    "vgg": ("vgg16-397923af.pth", "vgg16"),
    "squeeze": ("squeezenet1_1-b8a52dc0.pth", "squeezenet1_1"),
}


def ssim(generated: torch.Tensor, real: torch.Tensor, window: Window = "gaussian") -> torch.Tensor:
    """Structural similarity, [B] in [-1, 1] (Wang et al. 2004, Eq. 13), averaged over the three channels.

    Windows are separable, so each local mean is two matrix products: 9 (gaussian) and 79 (uniform) times as fast on a
    CPU core as torchmetrics' two-dimensional convolution, and equal to it to 1e-5.

    Raises:
        DataError: shapes or ranges that do not fit, or images smaller than the window.
    """
    x, y = _unit(generated), _unit(real)
    _check_pair(x, y)
    taps = _window(window)
    if min(x.shape[2:]) < len(taps):
        size = f"{len(taps)}x{len(taps)}"
        raise DataError(f"ssim: images {list(x.shape[2:])} for a {size} window. Use a smaller window.")
    down, across = (_sliding(taps, length).to(x) for length in x.shape[2:])
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = (down @ values @ across.T for values in (x, y, x * x, y * y, x * y))
    variance_x, variance_y = mean_xx - mean_x**2, mean_yy - mean_y**2
    covariance = mean_xy - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2  # for values in [0, 1]
    local = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    local = local / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))
    return local.mean(dim=(1, 2, 3))


def masked_ssim(
    generated: torch.Tensor, real: torch.Tensor, mask: torch.Tensor, window: Window = "gaussian"
) -> torch.Tensor:
    """Mask-SSIM of PG2 (Ma et al. 2017), [B]: both backgrounds are made black, and so count as equal."""
    generated, real, mask = _unit(generated), _unit(real), _checked_mask(mask, real)
    return ssim(2 * generated * mask - 1, 2 * real * mask - 1, window)


def psnr(generated: torch.Tensor, real: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB, [B], over the mask's pixels where one is given; equal images have inf."""
    generated, real = _unit(generated), _unit(real)
    _check_pair(generated, real)
    weight = torch.ones_like(real[:, :1]) if mask is None else _checked_mask(mask, real)
    squares = ((generated - real).square() * weight).mean(dim=1).sum(dim=(1, 2))
    return -10 * torch.log10(squares / weight.sum(dim=(1, 2, 3)))


class Lpips:
    """Learned perceptual distance (Zhang et al. 2018), through torchmetrics' network and a local backbone file.

    Args:
        weights: torchvision's backbone file (``LPIPS_WEIGHTS``) or the folder it is in; None is torch.hub's own.
        backbone: "alex" is what the evaluation code released with CFLD uses.
        device: where it is computed.

    Raises:
        CheckpointError: the file is not there or is of another network; names the file to give.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        backbone: Literal["alex", "vgg", "squeeze"] = "alex",
        device: str | torch.device = "cpu",
    ):
        # The public metric has no way to be given a file: it always asks torchvision, which downloads.
        from torchmetrics.functional.image.lpips import _NoTrainLpips

        file_name, model = LPIPS_WEIGHTS[backbone]
        source = f"`torchvision.models.{model}(weights='IMAGENET1K_V1')`, run where there is a network, fetches it"
        path, state = load_weights(file_name, weights, source)
        network = _NoTrainLpips(net=backbone, pnet_rand=True)
        _fill_features(network.net, state, path, source)
        self.device = torch.device(device)
        self._network: nn.Module = network.to(self.device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, generated: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """[B], 0 for equal images."""
        generated, real = _unit(generated), _unit(real)
        _check_pair(generated, real)
        pair = [(2 * images - 1).to(self.device, memory_format=torch.channels_last) for images in (generated, real)]
        return self._network(*pair).flatten().cpu()


class ImageQuality:
    """Means over a large set, given batch by batch; memory does not grow with the set.

    Args:
        lpips: the perceptual distance; None leaves it out.

    Attributes:
        pairs: given so far.
    """

    def __init__(self, lpips: Lpips | None = None):
        self.lpips = lpips
        self.pairs = 0
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    @property
    def masked_pairs(self) -> int:
        """Pairs that the masked means are over: those whose mask is not empty."""
        return self._counts["masked_ssim"]

    @torch.inference_mode()
    def update(self, generated: torch.Tensor, real: torch.Tensor, mask: torch.Tensor | None = None) -> None:
        """Add a batch; a pair without a mask, or with an empty one, counts in the other measures alone."""
        _check_pair(generated, real)
        for start in range(0, len(real), CHUNK):
            of = slice(start, start + CHUNK)
            for name, scores in self._scores(generated[of], real[of], None if mask is None else mask[of]).items():
                self._sums[name] += scores.double().sum().item()
                self._counts[name] += len(scores)
        self.pairs += len(real)

    def compute(self) -> dict[str, float]:
        """Mean ``ssim`` and ``psnr``; ``ssim_uniform`` where the images hold its window; ``masked_ssim`` and
        ``masked_psnr`` given masks; ``lpips`` given a network."""
        if not self.pairs:
            raise DataError("image quality: no images yet. Call `update` before `compute`.")
        return {name: total / self._counts[name] for name, total in self._sums.items()}

    def _scores(self, generated, real, mask) -> dict[str, torch.Tensor]:
        scores = {"ssim": ssim(generated, real), "psnr": psnr(generated, real)}
        if min(real.shape[2:]) >= UNIFORM_SIDE:
            scores["ssim_uniform"] = ssim(generated, real, "uniform")
        if self.lpips is not None:
            scores["lpips"] = self.lpips(generated, real)
        shown = None if mask is None else mask.flatten(1).any(1)
        if shown is not None and shown.any():
            generated, real, mask = generated[shown], real[shown], mask[shown]
            scores["masked_ssim"] = masked_ssim(generated, real, mask)
            scores["masked_psnr"] = psnr(generated, real, mask)
        return scores


def _window(name: Window) -> torch.Tensor:
    """One side of the separable window; sums to one."""
    if name == "uniform":
        return torch.full((UNIFORM_SIDE,), 1 / UNIFORM_SIDE)
    taps = torch.exp(-torch.arange(-5.0, 6.0).square() / (2 * 1.5**2))
    return taps / taps.sum()


def _sliding(taps: torch.Tensor, length: int) -> torch.Tensor:
    """[length - taps + 1, length]: the weights of each place where the window fits whole."""
    weights = torch.zeros(length - len(taps) + 1, length)
    for place, row in enumerate(weights):
        row[place : place + len(taps)] = taps
    return weights


def _unit(images: torch.Tensor) -> torch.Tensor:
    """Images as float32 in [0, 1]."""
    if images.ndim != 4 or images.shape[1] != 3:
        raise DataError(f"image quality: shape {list(images.shape)}. Give [B, 3, H, W].")
    if images.dtype == torch.uint8:
        return images.float() / 255
    if not images.is_floating_point():
        raise DataError(f"image quality: {images.dtype}. Give uint8 in 0..255 or float in [-1, 1].")
    if not (images.abs() <= 1.001).all():  # a rounding error is not a wrong range; NaN is one
        low, high = images.min(), images.max()
        raise DataError(f"image quality: float images from {low:.3g} to {high:.3g}. Give them in [-1, 1], or as uint8.")
    return (images.float().clamp(-1, 1) + 1) / 2


def _check_pair(generated: torch.Tensor, real: torch.Tensor) -> None:
    if generated.shape != real.shape:
        raise DataError(
            f"image quality: generated {list(generated.shape)}, real {list(real.shape)}. Resize them to one size."
        )


def _checked_mask(mask: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """The mask as float, on the images' device."""
    batch, _, height, width = images.shape
    if mask.shape != (batch, 1, height, width):
        wanted = [batch, 1, height, width]
        raise DataError(f"image quality: mask {list(mask.shape)} for images {list(images.shape)}. Give {wanted}.")
    mask = mask.to(images)
    empty = (mask.sum(dim=(1, 2, 3)) == 0).nonzero().flatten().tolist()
    if empty:
        raise DataError(f"image quality: the mask of image {empty[0]} of the batch is empty. Leave the pair out.")
    return mask


def _fill_features(network: nn.Module, weights: dict[str, torch.Tensor], path: Path, source: str) -> None:
    """Load torchvision's ``features.<layer>.<...>`` into the slices that LPIPS cuts a backbone into.

    A slice keeps the backbone's numbering (``slice2.3.weight`` is ``features.3.weight``), in squeezenet too
    (``slices.1.3.squeeze.weight``).
    """
    state = {}
    for name in network.state_dict():
        parts = name.removeprefix("slices.").split(".")[1:]
        key = ".".join(["features", *parts])
        if key not in weights:
            raise CheckpointError(f"{path}: `{key}` is missing, so it is of another network. {source}.")
        state[name] = weights[key]
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"{path}: of another network ({detail}). {source}.") from None
