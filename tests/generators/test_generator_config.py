import numpy as np
import pytest
import torch
from generator_cases import pose
from small_stable_diffusion import write_stable_diffusion

from reid_aug.config import (
    GeneratorConfig,
    PidmConfig,
    PocoldConfig,
    StudyConfig,
    build_config,
    load_config,
    save_config,
)
from reid_aug.errors import ConfigError
from reid_aug.generators.autoencoder import VaeCodec, make_codec
from reid_aug.generators.condition import Condition
from reid_aug.generators.systems import build_denoiser
from reid_aug.pose.batch import PoseBatch


@pytest.mark.parametrize("model", [{}, {"channels": [16, 32], "texture_levels": [1]}])
def test_a_model_without_a_system_is_pidm(model):
    assert isinstance(build_config(GeneratorConfig, {"model": model}).model, PidmConfig)
    assert build_config(GeneratorConfig, {}).model == PidmConfig()


def test_the_system_chooses_the_class_and_survives_saving(tmp_path):
    config = build_config(GeneratorConfig, {}, ["model.system=pocold", "model.heads=4"])
    assert config.model == PocoldConfig(heads=4)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(GeneratorConfig, tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"system": "pixdm"}, r"`model`: .*'pixdm'.*'pidm', 'pocold'"),
        ({"heds": 1}, r"unknown key `model\.heds`\. Remove it or use one of: .*heads.*heatmap_sigma"),
        ({"system": "pocold", "heatmap_sigma": 1}, r"unknown key `model\.heatmap_sigma`.*attention_rows"),
        ({"system": "pocold", "heads": 0}, r"`model\.heads`: .*greater than 0"),
        ({"system": "pocold", "channels": [16, 0]}, r"`model\.channels\.1`: .*greater than 0"),
        (3, r"`model`: .*\(got 3\)"),
    ],
)
def test_errors_name_the_field_as_the_file_does(model, message):
    with pytest.raises(ConfigError, match=message):
        build_config(GeneratorConfig, {"model": model})


def test_errors_inside_sections_by_name():
    with pytest.raises(ConfigError, match=r"unknown key `arms\.warp\.image`.*one of: images, generator"):
        build_config(StudyConfig, {"arms": {"standard": {}, "warp": {"image": "warp"}}})
    values = {"generators": {"mine": {"config": {"model": {"system": "pocold", "rows": 3}}}}}
    with pytest.raises(ConfigError, match=r"unknown key `generators\.mine\.config\.model\.rows`.*attention_rows"):
        build_config(StudyConfig, values)


IMAGES = {"image_size": [32, 16]}
UNET = {**IMAGES, "codec": "pixels", "channels": [16, 32], "texture_levels": [0, 1], "heads": 2}
PIDM = {**UNET, "system": "pidm", "learned_variance": False}
POCOLD = {**UNET, "system": "pocold"}
CFLD = {
    **IMAGES, "system": "cfld", "codec": "pixels", "channels": [16, 32], "encoder": "swin_tiny_patch4_window7_224",
    "encoder_size": [64, 32], "decoder_blocks": 1, "appearance_layers": 1, "prompt_channels": 16,
    "encoder_arguments": {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 2},
}  # fmt: skip
IMAGPOSE = {**IMAGES, "system": "imagpose", "codec": "pixels", "channels": [16, 32]}
ODD_HEADS = r"`model`: .*`channels`: multiples of 16, as group normalisation needs, and of `heads`"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({**PIDM, "codec": "patch_pca", "codec_components": 49}, r"`model\.codec_components`: .* to 48 \(got 49\)"),
        ({**PIDM, "codec_components": 0}, r"`model\.codec_components`: .*greater than or equal to 1"),
        ({**PIDM, "codec": "patch_pca", "image_size": [32, 18]},
         r"`image_size`: 32x18 pixels, but a cell of `codec` patch_pca has 4x4\. Take multiples of 4\.$"),
        *(({**system, "channels": []}, r"`model\.channels`: .*at least [12] item") for system in
          (PIDM, POCOLD, CFLD, IMAGPOSE)),
        *(({**system, "heads": 3}, r"`heads`: 3; must divide the `channels` of every texture level\.$") for system in
          (PIDM, POCOLD)),
        *(({**system, "heads": 3}, ODD_HEADS) for system in (CFLD, IMAGPOSE)),
        *(({**system, "texture_levels": levels}, r"`texture_levels`: \[.*\]\. Name one or more, each once.* 0 to 1\.$")
          for system in (PIDM, POCOLD) for levels in ([], [-1], [0, 0], [1, 2])),
        *(({**system, "channels": [16] * 6}, r"`channels`: 6 levels halve the codec's grid of 32x16 5 times\. Take at "
           r"most 5, or an `image_size` of multiples of 32\.$") for system in (PIDM, POCOLD, IMAGPOSE)),
        ({**POCOLD, "codec": "patch_pca", "image_size": [24, 16], "channels": [16] * 3},
         r"3 levels halve the codec's grid of 6x4 2 times\. Take at most 2, or an `image_size` of multiples of 16\.$"),
        ({**CFLD, "channels": [16] * 6}, r"6 levels .* of 32x16 5 times\. Take at most 5, or a larger `image_size`"),
        ({**IMAGPOSE, "patch": 5}, r"`patch`: 5 does not divide the codec's grid of 32x16\. Take a divisor of both\.$"),
        ({**IMAGPOSE, "patch": 32}, r"`patch`: 32 does not divide"),
        ({**IMAGPOSE, "image_encoder_weights": "timm"}, r"`image_encoder_weights` names a weight file, or timm"),
        ({**CFLD, "encoder_size": [64, 31]}, r"`encoder_size`: sides of 32 pixels or more"),
        ({**CFLD, "decoder_heads": 7}, r"`prompt_channels`: must be a multiple of `decoder_heads`"),
        *(({**CFLD, field: 0}, rf"`model\.{field}`: .*greater than 0") for field in
          ("queries", "decoder_blocks", "decoder_heads", "appearance_layers", "prompt_channels")),
    ],
)  # fmt: skip
def test_shapes_that_cannot_be_are_one_error_that_names_the_field(model, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build_config(GeneratorConfig, {"model": model})
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("model", [
    {**CFLD, "image_size": [30, 20], "channels": [16] * 5},  # odd grids are rounded up
    {**PIDM, "channels": [16] * 5, "texture_levels": [4, 0]},
    {**IMAGPOSE, "codec": "patch_pca", "image_size": [48, 16], "patch": 2, "channels": [16, 32, 32]},
])  # fmt: skip
def test_shapes_that_can_be(model):
    """Each makes a network that predicts."""
    settings = build_config(GeneratorConfig, {"model": model})
    codec = make_codec(settings.model, torch.zeros(1, 3, *settings.model.image_size, dtype=torch.uint8))
    denoiser = build_denoiser(settings.model, settings.noise, codec).eval()
    poses = PoseBatch.stack([pose(np.random.default_rng(0))]).scaled(settings.model.image_size)
    source = torch.rand(1, 1, 3, *settings.model.image_size) * 2 - 1
    with torch.no_grad():
        encoded = denoiser.encode(Condition(source, poses, poses), codec)
        noisy = torch.randn(codec.encode(source[:, 0]).shape)
        assert denoiser(noisy, torch.tensor([5]), encoded).shape == noisy.shape


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({**PIDM, "image_size": [33, 16]}, r"`model`: `image_size`: 33x16 pixels, but a cell of `codec` vae has 2x2\."),
        ({**POCOLD, "channels": [16] * 5}, r"5 levels halve the codec's grid of 16x8 4 times\. Take at most 4"),
        ({**CFLD, "channels": [16] * 5}, r"5 levels halve the codec's grid of 16x8 4 times\. Take at most 4"),
        ({**IMAGPOSE, "patch": 16}, r"`patch`: 16 does not divide the codec's grid of 16x8"),
    ],
)
def test_what_only_an_opened_vae_tells(model, message, tmp_path):
    place = write_stable_diffusion(tmp_path)
    settings = build_config(GeneratorConfig, {"model": {**model, "codec": "vae", "codec_weights": place}})
    with pytest.raises(ConfigError, match=message):
        build_denoiser(settings.model, settings.noise, VaeCodec.open(place))


def test_a_vae_of_a_factor_that_the_pose_encoder_does_not_reach():
    model = build_config(GeneratorConfig, {"model": IMAGPOSE}).model
    with pytest.raises(ValueError, match=r"`codec_weights`: of factor 16; IMAGPose's pose encoder has 1, 2, 4 or 8"):
        model.check_codec(16)
