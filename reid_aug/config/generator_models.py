"""The shape of each generator system."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from reid_aug.config.base import Config, ImageSize


class GeneratorModelConfig(Config):
    """What the systems share: the images, what is diffused, and the options that are this package's own."""

    image_size: ImageSize = (128, 64)
    codec: Literal["pixels", "patch_pca", "vae"] = "pixels"  # what is diffused; patch_pca: components of 4x4 patches
    codec_components: PositiveInt = 16  # of 48, for patch_pca
    codec_weights: str | None = None  # of the vae: a local diffusers folder, or a name on the hub
    learned_variance: Literal[False] = False  # PIDM alone may learn it
    warp_prior: bool = False  # give the denoiser the part-wise warp of the source
    precondition: bool = False  # by the variance of the data, channel by channel

    @model_validator(mode="after")
    def _vae_has_weights(self) -> GeneratorModelConfig:
        if (self.codec == "vae") != (self.codec_weights is not None):
            raise ValueError("`codec_weights` names an AutoencoderKL or AutoencoderTiny exactly where `codec` is vae")
        return self


class _UNetConfig(GeneratorModelConfig):
    """Shape of the UNet that PIDM and PoCoLD share."""

    channels: tuple[PositiveInt, ...]  # one level each, halving height and width
    texture_levels: tuple[int, ...]  # levels that look into the source
    layers_per_level: PositiveInt = 2
    heads: PositiveInt
    dropout: float = Field(0.0, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _consistent_levels(self) -> _UNetConfig:
        if any(level >= len(self.channels) for level in self.texture_levels):
            raise ValueError(f"`texture_levels`: `channels` has levels 0 to {len(self.channels) - 1}")
        if any(width % 16 for width in self.channels):
            raise ValueError("`channels`: multiples of 16, as group normalisation needs")
        return self


class PidmConfig(_UNetConfig):
    """Shape of a PIDM denoiser (Bhunia et al., CVPR 2023)."""

    system: Literal["pidm"] = "pidm"
    channels: tuple[PositiveInt, ...] = (128, 128, 256, 256, 512)
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
    channels: tuple[PositiveInt, ...] = (128, 256, 512, 512)
    texture_levels: tuple[int, ...] = (0, 1, 2)
    heads: PositiveInt = 8
    part_maps: Literal["keypoints", "files"] = "keypoints"  # drawn; or DensePose's, parts/ of the data set's folder
    attention_rows: PositiveInt = 64  # n of Eq. 6: the rows that queries and keys are gathered in
    constraint_weight: float = Field(1.0, ge=0.0)  # lambda, of the pose constraint

    @model_validator(mode="after")
    def _whole_heads(self) -> PocoldConfig:
        if any(self.channels[level] % self.heads for level in self.texture_levels):
            raise ValueError("`heads`: must divide the `channels` of every texture level")
        return self


class ImagposeConfig(GeneratorModelConfig):
    """Shape of an IMAGPose denoiser (Shen et al., NeurIPS 2024); its canvas holds four images of ``image_size``."""

    system: Literal["imagpose"] = "imagpose"
    codec: Literal["pixels", "patch_pca", "vae"] = "patch_pca"
    channels: tuple[PositiveInt, ...] = Field((320, 640, 1280, 1280), min_length=2)  # the last level has no attention
    layers_per_level: PositiveInt = 2
    heads: PositiveInt = 8
    context_channels: PositiveInt = 768  # width of the tokens that cross-attention looks at
    patch: PositiveInt = 4  # of the tokenizer, cells of the codec's grid; 16 in the paper, at 512x512
    image_encoder: str | None = None  # a timm vision transformer; the paper's are DINOv2
    image_encoder_weights: str | None = None  # its weight file

    @model_validator(mode="after")
    def _consistent_encoder(self) -> ImagposeConfig:
        if (self.image_encoder is None) != (self.image_encoder_weights is None):
            raise ValueError("`image_encoder_weights` names a weight file exactly where `image_encoder` names a model")
        if any(width % 16 or width % self.heads for width in self.channels):
            raise ValueError("`channels`: multiples of 16, as group normalisation needs, and of `heads`")
        return self


class CfldConfig(GeneratorModelConfig):
    """Shape of a CFLD denoiser (Lu et al., CVPR 2024): a Stable Diffusion UNet, from scratch or trained."""

    system: Literal["cfld"] = "cfld"
    codec: Literal["pixels", "patch_pca", "vae"] = "patch_pca"
    unet: str | None = None  # trained: local folder of Stable Diffusion 1.5, or its name on the hub; None: from scratch
    channels: tuple[PositiveInt, ...] = Field((320, 640, 1280, 1280), min_length=2)  # from scratch, as the next three
    layers_per_level: PositiveInt = 2
    heads: PositiveInt = 8
    prompt_channels: PositiveInt = 768
    encoder: str = "swin_base_patch4_window7_224"  # any timm model of four scales
    encoder_weights: str | None = None  # None: from scratch; "imagenet": timm's own from the hub; else a weight file
    encoder_size: ImageSize = (256, 256)  # that the source is resized to
    encoder_arguments: dict[str, Any] = {}  # further ones of the timm model, such as embed_dim
    queries: PositiveInt = 16  # Q, of the perception-refined decoder
    decoder_blocks: PositiveInt = 8  # R
    decoder_heads: PositiveInt = 8
    appearance_layers: PositiveInt = 4  # K, of the hybrid-granularity attention
    heatmap_sigma: PositiveFloat = 3.0  # of a key point's Gaussian, pixels of the image

    @model_validator(mode="after")
    def _consistent_widths(self) -> CfldConfig:
        if any(width % 16 or width % self.heads for width in self.channels):
            raise ValueError("`channels`: multiples of 16, as group normalisation needs, and of `heads`")
        if self.prompt_channels % self.decoder_heads:
            raise ValueError("`prompt_channels`: must be a multiple of `decoder_heads`")
        return self


GeneratorModel = Annotated[PidmConfig | PocoldConfig | CfldConfig | ImagposeConfig, Field(discriminator="system")]
