"""IMAGPose from Stable Diffusion's UNet and a trained image encoder."""

import shutil

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from generator_cases import SIZE, condition, config, pose, training_set
from small_stable_diffusion import write_stable_diffusion

from reid_aug.config import GeneratorConfig, build_config
from reid_aug.errors import CheckpointError, ConfigError
from reid_aug.generators.autoencoder import PixelCodec, VaeCodec
from reid_aug.generators.canvas import join, split
from reid_aug.generators.condition import Condition
from reid_aug.generators.image_tokens import ImageTokens
from reid_aug.generators.imagpose import ImagposeDenoiser
from reid_aug.generators.pipeline import load_generator
from reid_aug.generators.systems import build_denoiser
from reid_aug.generators.training import train_generator
from reid_aug.pose.batch import PoseBatch


@pytest.fixture
def place(tmp_path) -> str:
    return write_stable_diffusion(tmp_path / "sd")


def settings(place: str, **model) -> GeneratorConfig:
    plain = config().model_dump(exclude={"model", "noise"})
    given = {"system": "imagpose", "image_size": SIZE, "codec": "vae", "codec_weights": place, "unet": place}
    sampling = {"steps": 2, "guidance": "joint", "guidance_scale": {"joint": 2.0}}
    return build_config(GeneratorConfig, {**plain, "model": {**given, **model}, "sampling": sampling})


def build(place: str, **model) -> ImagposeDenoiser:
    given = settings(place, **model)
    return build_denoiser(given.model, given.noise, VaeCodec.open(place)).eval()


@pytest.mark.parametrize("warp_prior", [False, True])
def test_at_first_it_is_the_trained_unet_on_the_canvas(place, warp_prior):
    model, codec = build(place, warp_prior=warp_prior), VaeCodec.open(place).eval()
    trained = UNet2DConditionModel.from_pretrained(f"{place}/unet").eval()
    assert model.unet.conv_in.convolution.in_channels == 9 + 5 * warp_prior
    rng, asked = np.random.default_rng(0), condition(2, 2)
    asked = Condition(asked.source, asked.source_pose, PoseBatch.stack([pose(rng) for _ in range(4)]))
    noisy, steps = torch.randn(4, 4, 16, 8), torch.tensor([10, 10, 700, 700])
    with torch.no_grad():
        encoded = model.encode(asked, codec)
        found = model(noisy, steps, encoded)
        canvas = join(torch.cat([encoded.tensors["known"], noisy.unflatten(0, (2, 2))], 1))
        expected = split(trained(canvas, steps[::2], encoded.tensors["context"]).sample)[:, 2:].flatten(0, 1)
    assert torch.allclose(found, expected, atol=1e-5)
    assert found.abs().max() > 0.01


def test_everything_but_the_codec_is_trained_and_the_folder_is_needed_no_more(place, tmp_path):
    pipe = train_generator(*training_set(), settings(place), tmp_path / "run")
    before = UNet2DConditionModel.from_pretrained(f"{place}/unet").state_dict()
    after = pipe.denoiser.unet.state_dict()
    after = {name.replace("conv_in.convolution", "conv_in"): weight for name, weight in after.items()}
    after["conv_in.weight"] = after["conv_in.weight"][:, :4]
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert after.keys() - before.keys() == {name for name in after if ".processor.views." in name}
    shutil.rmtree(place)
    assert load_generator(tmp_path / "run").digest == pipe.digest


def test_a_unet_that_does_not_fit(place, tmp_path):
    with pytest.raises(CheckpointError, match=r"`model\.unet` '.*nowhere': not loaded: .*unet/config\.json"):
        build(place, unet=str(tmp_path / "nowhere"))
    given = settings(place, codec="pixels", codec_weights=None).model
    with pytest.raises(ConfigError, match=r"takes 4 channels, the codec makes 3\. Set model\.codec=vae"):
        build_denoiser(given, config().noise, PixelCodec())
    other = write_stable_diffusion(tmp_path / "other", use_linear_projection=True, attention_head_dim=(2, 4, 4))
    with pytest.raises(ConfigError, match=r"`model\.unet` '.*other': other than .* in attention_head_dim, use_lin"):
        build(other)
    deep = write_stable_diffusion(tmp_path / "deep", channels=(16, 16, 16, 16, 16))
    with pytest.raises(ConfigError, match=r"`model`: `channels`: 5 levels halve the codec's grid of 16x8 4 times"):
        build(deep)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")


def test_without_the_hub_errors_say_which_files_to_give(place, offline):
    message = r"`model\.image_encoder_weights` 'timm': not loaded into vit_tiny_patch16_224: .*model\.safetensors of"
    with pytest.raises(CheckpointError, match=message):
        ImageTokens("vit_tiny_patch16_224", 16).load("timm")
    message = r"`model\.unet` 'some/where': not loaded: .*hub is not reachable\..*unet/config\.json and unet/"
    with pytest.raises(CheckpointError, match=message):
        build(place, unet="some/where")


@pytest.mark.parametrize("name", ["vit_nonsense", "resnet18", "swin_tiny_patch4_window7_224"])
def test_an_image_encoder_that_is_none(name):
    with pytest.raises(ConfigError, match=rf"`model\.image_encoder` '{name}'.*Name a vision transformer of timm"):
        ImageTokens(name, 16)
