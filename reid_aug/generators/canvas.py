"""The joint canvas of IMAGPose: four images of a person as the quarters of one, and attention across them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

SLOTS = 4  # images on a canvas, two rows of two


def join(slots: Tensor) -> Tensor:
    """[B, 4, C, h, w] to the canvas [B, C, 2h, 2w], row by row."""
    batch, _, channels, height, width = slots.shape
    rows = slots.unflatten(1, (2, 2)).permute(0, 3, 1, 4, 2, 5)
    return rows.reshape(batch, channels, 2 * height, 2 * width)


def split(canvas: Tensor) -> Tensor:
    """The canvas [B, C, 2h, 2w] to its images [B, 4, C, h, w]; the inverse of :func:`join`."""
    batch, channels, height, width = canvas.shape
    quarters = canvas.reshape(batch, channels, 2, height // 2, 2, width // 2)
    return quarters.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


class CrossViewAttention(nn.Module):
    """Cross-view attention of IMAGPose (Sec. 3.4): at each position, self-attention among the four images.

    No image has a mark of its own, so four equal images stay equal. The block starts as the identity.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.project = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Tensor, canvas: tuple[int, int]) -> Tensor:
        """[B, H W, C] to the same shape; ``canvas`` is (H, W), both even."""
        height, width = canvas
        views = tokens.unflatten(1, (2, height // 2, 2, width // 2)).permute(0, 2, 4, 1, 3, 5).flatten(3, 4)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(-2, -3)  # [B, h, w, heads, 4, C / heads]
            for part in self.project(self.norm(views)).chunk(3, -1)
        )
        # Written out: fused kernels are made for long sequences, and limit the batch, which here is B h w.
        weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
        found = self.out((weights @ value).transpose(-2, -3).flatten(-2))
        return tokens + found.unflatten(3, (2, 2)).permute(0, 3, 1, 4, 2, 5).reshape(tokens.shape)


class CrossViewProcessor(nn.Module):
    """A cross-attention of a diffusers UNet on a canvas, followed by cross-view attention.

    Args:
        channels: of the attention's output.
        heads: of the cross-view attention.
        aspect: height / width of the canvas, which an attention's flattened tokens do not tell.
    """

    def __init__(self, channels: int, heads: int, aspect: float):
        super().__init__()
        self.aspect = aspect
        self.views = CrossViewAttention(channels, heads)
        self.attend = AttnProcessor2_0()

    def forward(self, attention: Attention, hidden_states: Tensor, *args, **kwargs) -> Tensor:
        """As diffusers calls it: [B, H W, C] to the same shape."""
        found = self.attend(attention, hidden_states, *args, **kwargs)
        height = round((found.shape[1] * self.aspect) ** 0.5)
        return self.views(found, (height, found.shape[1] // height))


class PosedConvolution(nn.Module):
    """A UNet's first convolution, to whose output the pose's features are added, as ControlNet adds its condition.

    The features travel behind the input's own channels, since the UNet's ``forward`` takes one tensor.
    """

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        self.convolution = convolution

    def forward(self, inputs: Tensor) -> Tensor:
        """[B, C + E, H, W] to [B, E, H, W]."""
        seen, pose = inputs.split([self.convolution.in_channels, self.convolution.out_channels], 1)
        return self.convolution(seen) + pose


def make_canvas_unet(shape: Mapping[str, Any], aspect: float) -> UNet2DConditionModel:
    """Stable Diffusion's UNet with posed first convolution and cross-view attention, untrained.

    Args:
        shape: see :func:`~reid_aug.generators.stable_diffusion.unet_shape`.
        aspect: height / width of the canvas.
    """
    unet = UNet2DConditionModel.from_config(dict(shape))
    processors = dict(unet.attn_processors)
    for name in processors:
        place = name.removesuffix(".processor")
        if place.endswith("attn2"):
            width = unet.get_submodule(place).to_out[0].out_features
            processors[name] = CrossViewProcessor(width, shape["attention_head_dim"], aspect)
    unet.set_attn_processor(processors)
    unet.conv_in = PosedConvolution(unet.conv_in)
    nn.init.zeros_(unet.conv_out.weight)
    nn.init.zeros_(unet.conv_out.bias)
    return unet


def load_trained(unet: UNet2DConditionModel, trained: UNet2DConditionModel) -> None:
    """Give a canvas UNet the weights of a plain one of its shape; at first it predicts what that does of each canvas.

    The inputs that the trained one does not have (masked latents, mask, warp) start with weights of zero, and
    cross-view attention is new.
    """
    weights = trained.state_dict()
    first = unet.conv_in.convolution
    known = weights.pop("conv_in.weight")
    weights["conv_in.convolution.weight"] = torch.zeros_like(first.weight)
    weights["conv_in.convolution.weight"][:, : known.shape[1]] = known
    weights["conv_in.convolution.bias"] = weights.pop("conv_in.bias")
    new = {name: weight for name, weight in unet.state_dict().items() if ".processor.views." in name}
    unet.load_state_dict({**new, **weights})
