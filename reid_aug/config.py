"""Configuration: frozen pydantic models that reject unknown keys, read from YAML with dotted overrides.

    config = load_config(ReidConfig, "configs/reid/market_osnet.yaml", overrides=["training.iterations=800"])

Defaults are the published recipes'; the YAML files in ``configs/`` state only what differs.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from reid_aug.errors import ConfigError

ImageSize = tuple[PositiveInt, PositiveInt]  # (height, width) in pixels


# YAML 1.1 reads an unquoted `no` as false.
Precision = Annotated[Literal["no", "bf16", "fp16"], BeforeValidator(lambda value: "no" if value is False else value)]


class Config(BaseModel):
    """Base of every configuration: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --- generators ---------------------------------------------------------------------------------------------------


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


class NoiseConfig(Config):
    """The forward process and what the network predicts."""

    timesteps: PositiveInt = 1000
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    zero_terminal_snr: bool = False
    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    timestep_sampling: Literal["uniform", "cubic"] = "uniform"  # cubic favours large t (CFLD, Sec. 3.3)
    min_snr_gamma: PositiveFloat | None = None  # Hang et al. 2023; None weights every timestep alike
    variance_weight: float = Field(0.001, ge=0.0)  # of L_vlb in the hybrid objective


class GeneratorTrainingConfig(Config):
    """The loop that trains a generator."""

    iterations: PositiveInt = 300_000
    batch_size: PositiveInt = 8  # on each process
    accumulation: PositiveInt = 1
    learning_rate: PositiveFloat = 2e-5
    weight_decay: float = Field(0.0, ge=0.0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = Field(0, ge=0)
    gradient_clip: PositiveFloat = 1.0
    ema_decay: float = Field(0.9999, ge=0.0, lt=1.0)
    drop: float = Field(0.1, ge=0.0, lt=1.0)  # share of samples that lose the source, the pose, or both (a third each)
    flip: float = Field(0.5, ge=0.0, le=1.0)
    reconstruction: bool = False  # train each pair also from the source to itself (L_rec, Eq. 5 of CFLD)
    precision: Precision = "no"
    compile: bool = False
    seed: int = Field(0, ge=0)
    checkpoint_every: PositiveInt = 1000
    sample_every: PositiveInt = 1000


class SamplingConfig(Config):
    """How images are drawn from a trained generator."""

    sampler: str = "DDIMScheduler"  # any diffusers scheduler class
    steps: PositiveInt = 20
    guidance: Literal["disentangled", "cumulative", "joint", "source"] = "disentangled"
    guidance_scale: dict[str, float] = {"pose": 2.0, "source": 2.0}


class GeneratorConfig(Config):
    """A generator and everything needed to train it again; saved beside the weights as ``train_config.yaml``."""

    model: GeneratorModel = PidmConfig()
    noise: NoiseConfig = NoiseConfig()
    training: GeneratorTrainingConfig = GeneratorTrainingConfig()
    sampling: SamplingConfig = SamplingConfig()

    @field_validator("model", mode="before")
    @classmethod
    def _pidm_unless_said(cls, model: Any) -> Any:
        return {"system": "pidm", **model} if isinstance(model, dict) else model


# --- augmentation -------------------------------------------------------------------------------------------------


class FilterConfig(Config):
    """The identity filter: what a generated image must show to be kept."""

    neighbours: PositiveInt = 5  # real images of an identity that vote
    min_margin: float = 0.0  # similarity to its own identity less that to the nearest other one


class AugmentConfig(Config):
    """How a subset is augmented."""

    per_identity: PositiveInt = 8
    poses: Literal["random", "diverse", "other_view"] = "random"
    source_identity: Literal["same", "other"] = "same"  # "other" is the wrong-identity control
    batch_size: PositiveInt = 64
    image_format: Literal["jpg", "png"] = "jpg"  # plain Market-1501 readers look for *.jpg
    seed: int = Field(0, ge=0)
    filter: FilterConfig | None = FilterConfig()


class ScheduleConfig(Config):
    """How generated images enter re-ID training; see ``augment.schedule``."""

    policy: Literal["none", "concat", "fixed_ratio", "finetune", "auxiliary"] = "none"
    synthetic: PositiveInt = 1  # generated images of each identity in a batch (fixed_ratio, auxiliary)
    start: float = Field(0.5, ge=0.0, le=1.0)  # share of the iterations on real images alone (finetune)
    weight: float = Field(1.0, ge=0.0)
    smoothing: float | None = Field(None, ge=0.0, lt=1.0)
    in_triplet: bool = True


# --- re-ID --------------------------------------------------------------------------------------------------------


class ReidModelConfig(Config):
    """Backbone, BNNeck and classifier (Luo et al., "Bag of Tricks", 2019)."""

    backbone: str = "resnet50"  # a timm model; else one of torchreid's zoo
    weights: str | None = None  # None: from scratch; "imagenet": the zoo's own by name; else a local weight file
    image_size: ImageSize = (256, 128)
    last_stride: Literal[1, 2] = 1  # of a ResNet's last stage; other families keep their own
    neck: bool = True


class ReidLossConfig(Config):
    """Cross-entropy on the neck's output, triplet and center loss on the feature before it."""

    label_smoothing: float = Field(0.1, ge=0.0, lt=1.0)
    triplet_margin: PositiveFloat | None = 0.3  # None is the soft margin
    triplet_weight: float = Field(1.0, ge=0.0)
    center_weight: float = Field(0.0005, ge=0.0)  # 0 leaves the center loss out
    center_learning_rate: PositiveFloat = 0.5


class ReidAugmentationConfig(Config):
    """Training-time image augmentation."""

    flip: float = Field(0.5, ge=0.0, le=1.0)
    pad: int = Field(10, ge=0)  # black pixels on each side, then a random crop back to size
    erasing: float = Field(0.5, ge=0.0, le=1.0)  # share of images that lose a rectangle to the ImageNet mean
    erasing_area: tuple[PositiveFloat, PositiveFloat] = (0.02, 0.4)  # shares of the image, smallest and largest
    erasing_aspect: float = Field(0.3, gt=0.0, le=1.0)  # smallest height / width; its inverse is the largest
    colour_jitter: float = Field(0.0, ge=0.0, le=1.0)  # strength of brightness, contrast and saturation changes

    @field_validator("erasing_area")
    @classmethod
    def _smallest_first(cls, area: tuple[float, float]) -> tuple[float, float]:
        if not area[0] <= area[1] <= 1.0:
            raise ValueError("expected [smallest, largest] shares of the image with smallest <= largest <= 1")
        return area


class ReidTrainingConfig(Config):
    """The re-ID loop, in iterations so that arms with more images train equally long."""

    iterations: PositiveInt = 22_320  # 120 epochs of 186 on the whole Market-1501
    epochs: PositiveInt | None = None  # instead of iterations: passes over the real images, converted at the start
    identities: PositiveInt = 16  # P, on each process
    images: PositiveInt = 4  # K
    learning_rate: PositiveFloat = 3.5e-4
    weight_decay: float = Field(5e-4, ge=0.0)
    warmup: float = Field(1 / 12, ge=0.0, le=1.0)  # share of the iterations, from 0.01 of the rate
    milestones: tuple[float, ...] = (1 / 3, 7 / 12)  # shares of the iterations at which the rate drops to a tenth
    precision: Precision = "no"
    accumulation: PositiveInt = 1
    ema_decay: float | None = Field(None, gt=0.0, lt=1.0)
    seed: int = Field(0, ge=0)
    checkpoint_every: PositiveInt = 1000
    evaluate_every: PositiveInt | None = None  # iterations between early evaluations, where one is given

    @model_validator(mode="after")
    def _one_length(self) -> ReidTrainingConfig:
        if self.epochs is not None and "iterations" in self.model_fields_set:
            raise ValueError("`epochs` and `iterations` both give the length; keep one")
        return self


class ReidConfig(Config):
    """A re-ID model and how it is trained; saved beside its weights."""

    model: ReidModelConfig = ReidModelConfig()
    loss: ReidLossConfig = ReidLossConfig()
    augmentation: ReidAugmentationConfig = ReidAugmentationConfig()
    training: ReidTrainingConfig = ReidTrainingConfig()


# --- study --------------------------------------------------------------------------------------------------------


class GeneratorSource(Config):
    """A generator of a study: one that is trained already, or the configuration to train it with."""

    sees: Literal["subset", "train", "other"] = "subset"  # the images it learns from: D_tr, all identities, another set
    folder: str | None = None  # a generator folder, or the name of one that the package ships
    config: GeneratorConfig | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> GeneratorSource:
        if (self.folder is None) == (self.config is None):
            raise ValueError("give either `folder` (a trained generator) or `config` (to train one)")
        if self.folder is not None and "sees" not in self.model_fields_set:
            raise ValueError("say what the generator in `folder` has learnt from: `sees` subset, train or other")
        if self.sees == "other" and self.config is not None:
            raise ValueError("`sees` other is for a trained generator (`folder`); to train one here: subset or train")
        return self


class ArmConfig(Config):
    """One arm of a study: where its extra images come from, and how they enter training."""

    images: Literal["none", "generator", "warp", "copies"] = "none"
    generator: str | None = None  # which of the study's generators
    augment: AugmentConfig = AugmentConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    @model_validator(mode="after")
    def _consistent(self) -> ArmConfig:
        if (self.images == "generator") != (self.generator is not None):
            raise ValueError("`generator` names a generator of the study exactly where `images` is generator")
        if (self.images == "none") != (self.schedule.policy == "none"):
            raise ValueError("`schedule.policy` is none exactly where `images` is none")
        return self


class StudyConfig(Config):
    """Fractions x arms x seeds, every arm trained for the same number of iterations."""

    data_set: str = "market1501"  # its name in the results
    fractions: tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 2)
    arms: dict[str, ArmConfig] = {"standard": ArmConfig()}
    generators: dict[str, GeneratorSource] = {}
    sampling: SamplingConfig | None = None  # None: the generator's own
    reid: ReidConfig = ReidConfig()

    @model_validator(mode="after")
    def _complete(self) -> StudyConfig:
        if "standard" not in self.arms or self.arms["standard"].images != "none":
            raise ValueError("`arms` needs `standard` without extra images: it is the baseline and judges the filter")
        if self.reid.training.epochs is not None:
            raise ValueError("`reid.training.epochs` depends on the fraction; give `iterations`, equal for all cells")
        for name, arm in self.arms.items():
            if arm.generator is not None and arm.generator not in self.generators:
                raise ValueError(f"`arms.{name}.generator` {arm.generator!r} is not among `generators`")
        return self


# --- reading and writing ------------------------------------------------------------------------------------------

AnyConfig = TypeVar("AnyConfig", bound=Config)


def load_config(kind: type[AnyConfig], path: str | Path, overrides: Iterable[str] = ()) -> AnyConfig:
    """Read ``path`` (YAML) as ``kind``, with ``overrides`` such as ``training.iterations=800`` applied on top.

    Raises:
        ConfigError: no such file, not YAML, an unknown key, a wrong type or a value out of range.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Name a YAML file, e.g. from configs/.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text. Name a YAML file, e.g. from configs/.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}. Correct the line it names.") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds a {type(values).__name__}, expected `key: value` lines.")
    return build_config(kind, values, overrides, where=str(path))


def build_config(kind: type[AnyConfig], values: dict[str, Any], overrides: Iterable[str] = (), where: str = "config"):
    """Validate ``values`` as ``kind``; ``where`` names them in the error."""
    for override in overrides:
        values = _override(values, override)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error, kind)}") from None


def save_config(config: Config, path: str | Path) -> None:
    """Write the resolved configuration (every value, defaults too) as YAML, whole or not at all."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=120)
    path = Path(path)
    partial = path.with_name(f".{path.name}.tmp")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _override(values: dict[str, Any], override: str) -> dict[str, Any]:
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"override {override!r}: expected key.sub_key=value, e.g. training.iterations=800.")
    head, *rest = keys
    if not rest:
        try:
            return {**values, head: yaml.safe_load(text)}
        except yaml.YAMLError:
            raise ConfigError(f"override {override!r}: {text!r} is not a YAML value. Quote or correct it.") from None
    inner = values.get(head) or {}
    if not isinstance(inner, dict):
        raise ConfigError(f"override {override!r}: {head} is a value, not a section.")
    return {**values, head: _override(inner, f"{'.'.join(rest)}={text}")}


def _explain(error: ValidationError, kind: type[Config]) -> str:
    """One line a problem: the dotted field, what is wrong, and what would be accepted."""
    lines = []
    for problem in error.errors():
        keys, _ = _walk(kind, problem["loc"])
        field = ".".join(keys)
        if problem["type"] == "extra_forbidden":
            _, sections = _walk(kind, problem["loc"][:-1])
            known = ", ".join(name for section in sections for name in section.model_fields)
            lines.append(f"unknown key `{field}`. Remove it or use one of: {known}.")
        else:
            lines.append(f"`{field}`: {problem['msg']} (got {problem['input']!r}).")
    return "\n".join(lines)


def _walk(kind: type[Config], location: tuple[Any, ...]) -> tuple[list[str], list[type[Config]]]:
    """The keys of a pydantic location, without the tags of unions, and the classes that its last section may have."""
    keys, sections = [], [kind]
    for part in location:
        tagged = [section for section in sections if _tag(section) == part]
        if tagged and len(sections) > 1:
            sections = tagged
            continue
        keys.append(str(part))
        holder = next((section for section in sections if part in section.model_fields), None)
        if holder is not None:
            annotation = holder.model_fields[part].annotation
            sections = [option for option in (annotation, *get_args(annotation)) if hasattr(option, "model_fields")]
    return keys, sections


def _tag(section: type[Config]) -> str | None:
    field = section.model_fields.get("system")
    return None if field is None else field.default
