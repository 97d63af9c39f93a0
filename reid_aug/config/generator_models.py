"""The shape of each generator system."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from reid_aug.config.base import Config, ImageSize

CODEC_FACTORS = {"pixels": 1, "patch_pca": 4}  # pixels along a cell of the grid; a vae's are known once it is open


class GeneratorModelConfig(Config):
    """What the systems share: the images, what is diffused, and the options that are this package's own."""

    image_size: ImageSize = (128, 64)
    codec: Literal["pixels", "patch_pca", "vae"] = "pixels"  # what is diffused; patch_pca: components of 4x4 patches
    codec_components: int = Field(16, ge=1, le=48)  # of a 4x4 patch's 3 x 16 numbers, for patch_pca
    codec_weights: str | None = None  # of the vae: a local diffusers folder, or a name on the hub
    learned_variance: Literal[False] = False  # PIDM alone may learn it
    warp_prior: bool = False  # give the denoiser the part-wise warp of the source
    cameras: NonNegativeInt = 0  # of the data set: tell the denoiser which one is to see the target; 0: do not
    precondition: bool = False  # by the variance of the data, channel by channel

    @model_validator(mode="after")
    def _vae_has_weights(self) -> GeneratorModelConfig:
        if (self.codec == "vae") != (self.codec_weights is not None):
            raise ValueError("`codec_weights` names an AutoencoderKL or AutoencoderTiny exactly where `codec` is vae")
        return self

    @model_validator(mode="after")
    def _fits_its_codec(self) -> GeneratorModelConfig:
        if self.codec in CODEC_FACTORS:
            self.check_codec(CODEC_FACTORS[self.codec])
        return self

    def check_codec(self, factor: int) -> None:
        """Check the images against a codec's grid, and the network against that; of a vae once its factor is known.

        Args:
            factor: pixels along a cell of the grid.

        Raises:
            ValueError: a side of the images, or the network's shape, does not go with that grid.
        """
        height, width = self.image_size
        if height % factor or width % factor:
            raise ValueError(
                f"`image_size`: {height}x{width} pixels, but a cell of `codec` {self.codec} has {factor}x{factor}. "
                f"Take multiples of {factor}"
            )
        self._check_grid(height // factor, width // factor, factor)

    def _check_grid(self, height: int, width: int, factor: int) -> None:
        """Raise a ValueError where the network cannot work on this grid."""


def check_halvings(levels: int, height: int, width: int, factor: int) -> None:
    """Raise a ValueError where a grid of ``height`` x ``width`` cells is odd before the last of ``levels``."""
    whole = 2 ** (levels - 1)
    if height % whole or width % whole:
        most = 1
        while height % 2**most == 0 and width % 2**most == 0:
            most += 1
        raise ValueError(
            f"`channels`: {levels} levels halve the codec's grid of {height}x{width} {levels - 1} times. Take at most "
            f"{most}, or an `image_size` of multiples of {factor * whole}"
        )


class _UNetConfig(GeneratorModelConfig):
    """Shape of the UNet that PIDM and PoCoLD share."""

    channels: tuple[PositiveInt, ...] = Field(min_length=1)  # one level each, halving height and width
    texture_levels: tuple[int, ...]  # levels that look into the source
    layers_per_level: PositiveInt = 2
    heads: PositiveInt
    dropout: float = Field(0.0, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _consistent_levels(self) -> _UNetConfig:
        chosen, last = self.texture_levels, len(self.channels) - 1
        if not chosen or len(set(chosen)) < len(chosen) or min(chosen) < 0 or max(chosen) > last:
            raise ValueError(
                f"`texture_levels`: {list(chosen)}. Name one or more, each once; `channels` has levels 0 to {last}"
            )
        if any(width % 16 for width in self.channels):
            raise ValueError("`channels`: multiples of 16, as group normalisation needs")
        if any(self.channels[level] % self.heads for level in chosen):
            raise ValueError(f"`heads`: {self.heads}; must divide the `channels` of every texture level")
        return self

    def _check_grid(self, height: int, width: int, factor: int) -> None:
        check_halvings(len(self.channels), height, width, factor)


class PidmConfig(_UNetConfig):
    """Shape of a PIDM denoiser (Bhunia et al., CVPR 2023)."""

    system: Literal["pidm"] = "pidm"
    channels: tuple[PositiveInt, ...] = Field((128, 128, 256, 256, 512), min_length=1)
    texture_levels: tuple[int, ...] = (2, 3, 4)
    heads: PositiveInt = 1
    dropout: float = Field(0.1, ge=0.0, lt=1.0)
    learned_variance: bool = True  # hybrid objective of improved DDPM; epsilon prediction only
    heatmap_sigma: PositiveFloat = 3.0  # of a key point's Gaussian, pixels of the image

    @model_validator(mode="after")
    def _variance_of_pixels(self) -> PidmConfig:
        if self.learned_variance and (self.precondition or self.codec != "pixels"):
            raise ValueError("`learned_variance` is for plain pixels: set it or `precondition` false, and codec pixels")
        return self


class PocoldConfig(_UNetConfig):
    """Shape of a PoCoLD denoiser (Han et al., ICCV 2023)."""

    system: Literal["pocold"] = "pocold"
    codec: Literal["pixels", "patch_pca", "vae"] = "patch_pca"
    channels: tuple[PositiveInt, ...] = Field((128, 256, 512, 512), min_length=1)
    texture_levels: tuple[int, ...] = (0, 1, 2)
    heads: PositiveInt = 8
    part_maps: Literal["keypoints", "files"] = "keypoints"  # drawn; or DensePose's, parts/ of the data set's folder
    attention_rows: PositiveInt = 64  # n of Eq. 6: the rows that queries and keys are gathered in
    constraint_weight: float = Field(1.0, ge=0.0)  # lambda, of the pose constraint


class _StableDiffusionConfig(GeneratorModelConfig):
    """Shape of the Stable Diffusion UNet that CFLD and IMAGPose share."""

    codec: Literal["pixels", "patch_pca", "vae"] = "patch_pca"
    unet: str | None = None  # trained: local folder of Stable Diffusion 1.5, or its name on the hub; None: from scratch
    channels: tuple[PositiveInt, ...] = Field((320, 640, 1280, 1280), min_length=2)  # from scratch, as the next two
    layers_per_level: PositiveInt = 2
    heads: PositiveInt = 8

    @model_validator(mode="after")
    def _consistent_channels(self) -> _StableDiffusionConfig:
        if any(width % 16 or width % self.heads for width in self.channels):
            raise ValueError("`channels`: multiples of 16, as group normalisation needs, and of `heads`")
        return self


class ImagposeConfig(_StableDiffusionConfig):
    """Shape of an IMAGPose denoiser (Shen et al., NeurIPS 2024); its canvas holds four images of ``image_size``."""

    system: Literal["imagpose"] = "imagpose"
    context_channels: PositiveInt = 768  # from scratch: width of the tokens that cross-attention looks at
    patch: PositiveInt = 4  # of the tokenizer, cells of the codec's grid; 16 in the paper, at 512x512
    image_encoder: str | None = None  # a timm vision transformer; the paper's are DINOv2
    image_encoder_weights: str | None = None  # "timm": its own from the hub; else a weight file

    @model_validator(mode="after")
    def _consistent_encoder(self) -> ImagposeConfig:
        if (self.image_encoder is None) != (self.image_encoder_weights is None):
            raise ValueError(
                "`image_encoder_weights` names a weight file, or timm for its own from the hub, exactly where "
                "`image_encoder` names a model"
            )
        return self

    def _check_grid(self, height: int, width: int, factor: int) -> None:
        if factor not in (1, 2, 4, 8):
            raise ValueError(f"`codec_weights`: of factor {factor}; IMAGPose's pose encoder has 1, 2, 4 or 8")
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"`patch`: {self.patch} does not divide the codec's grid of {height}x{width}. Take a divisor of both"
            )
        if self.unet is None:
            check_halvings(len(self.channels), height, width, factor)


class CfldConfig(_StableDiffusionConfig):
    """Shape of a CFLD denoiser (Lu et al., CVPR 2024): a Stable Diffusion UNet, from scratch or trained."""

    system: Literal["cfld"] = "cfld"
    prompt_channels: PositiveInt = 768
    encoder: str = "swin_base_patch4_window7_224"  # any timm model of four scales
    encoder_weights: str | None = None  # None: from scratch; "timm": its own from the hub; else a weight file
    encoder_size: ImageSize = (256, 256)  # that the source is resized to
    encoder_arguments: dict[str, Any] = {}  # further ones of the timm model, such as embed_dim
    queries: PositiveInt = 16  # Q, of the perception-refined decoder
    decoder_blocks: PositiveInt = 8  # R
    decoder_heads: PositiveInt = 8
    appearance_layers: PositiveInt = 4  # K, of the hybrid-granularity attention
    heatmap_sigma: PositiveFloat = 3.0  # of a key point's Gaussian, pixels of the image

    @model_validator(mode="after")
    def _consistent_widths(self) -> CfldConfig:
        if self.prompt_channels % self.decoder_heads:
            raise ValueError("`prompt_channels`: must be a multiple of `decoder_heads`")
        if min(self.encoder_size) < 32:
            raise ValueError("`encoder_size`: sides of 32 pixels or more, the stride of the encoder's fourth scale")
        return self

    def _check_grid(self, height: int, width: int, factor: int) -> None:
        # Odd grids are rounded up when they are halved, but one cell cannot be halved any more.
        if self.unet is None and min(height, width) <= 2 ** (len(self.channels) - 2):
            most = (min(height, width) - 1).bit_length() + 1
            raise ValueError(
                f"`channels`: {len(self.channels)} levels halve the codec's grid of {height}x{width} "
                f"{len(self.channels) - 1} times. Take at most {most}, or a larger `image_size`"
            )


GeneratorModel = Annotated[PidmConfig | PocoldConfig | CfldConfig | ImagposeConfig, Field(discriminator="system")]
