import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from reid_aug.config import PidmConfig
from reid_aug.errors import CheckpointError, DataError
from reid_aug.generators.autoencoder import PatchPcaCodec, PixelCodec, VaeCodec, make_codec


def pictures(count: int = 40) -> torch.Tensor:
    """Smooth colour gradients with a little grain, uint8 [N, 3, 16, 8]."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 3, 2, 2, generator=generator) * 255
    smooth = torch.nn.functional.interpolate(corners, (16, 8), mode="bilinear", align_corners=True)
    return (smooth + torch.randn(smooth.shape, generator=generator)).clamp(0, 255).to(torch.uint8)


def test_the_components_are_those_of_a_naive_pca():
    images = pictures()
    codec = PatchPcaCodec(4, 6).fit(images)
    pixels = images.double().numpy() / 127.5 - 1
    patches = np.array(
        [
            image[:, top : top + 4, left : left + 4].flatten()
            for image in pixels
            for top in range(0, 16, 4)
            for left in range(0, 8, 4)
        ]
    )
    centred = patches - patches.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(patches))
    expected = vectors[:, ::-1][:, :6]
    assert np.allclose(np.abs((codec.basis.numpy() * expected).sum(0)), 1, atol=1e-3)
    assert np.allclose(codec.component_std.numpy(), np.sqrt(values[::-1][:6]), rtol=1e-3)
    assert codec.std[0] == 1.0


def test_no_component_is_lost_whose_numbers_add_up_to_nothing():
    """Left and right halves of a patch differ from image to image, by as much as they miss together."""
    images = torch.full((2, 3, 4, 4), 100, dtype=torch.uint8)
    images[0, ..., :2], images[1, ..., :2] = 140, 60
    images[0, ..., 2:], images[1, ..., 2:] = 60, 140
    floats = images.float() / 127.5 - 1
    codec = PatchPcaCodec(4, 1).fit(images)
    assert torch.allclose(codec.decode(codec.encode(floats)), floats, atol=1e-5)


def test_all_components_reconstruct_exactly_and_fewer_do_worse():
    images = pictures()
    floats = images.float() / 127.5 - 1
    errors = []
    for components in (48, 12, 2):
        codec = PatchPcaCodec(4, components).fit(images)
        errors.append((codec.decode(codec.encode(floats)) - floats).abs().mean().item())
    assert errors[0] < 1e-5
    assert errors == sorted(errors)


def test_latents_have_the_stated_shape_and_deviation():
    images = pictures(200)
    codec = PatchPcaCodec(4, 5).fit(images)
    latents = codec.encode(images.float() / 127.5 - 1)
    assert latents.shape == (200, 5, 4, 2)
    assert np.allclose(latents.std((0, 2, 3), correction=0).numpy(), codec.std, rtol=1e-3)


def test_a_codec_survives_saving(tmp_path):
    images = pictures()
    codec = PatchPcaCodec(4, 7).fit(images)
    codec.save_pretrained(tmp_path)
    again = PatchPcaCodec.from_pretrained(tmp_path)
    floats = images.float() / 127.5 - 1
    assert torch.equal(codec.encode(floats), again.encode(floats))


def test_pixels_pass_unchanged_and_are_clamped():
    codec = make_codec(PidmConfig(), pictures())
    assert isinstance(codec, PixelCodec)
    images = torch.randn(1, 3, 4, 4)
    assert codec.encode(images) is images
    assert torch.equal(codec.decode(images * 9), (images * 9).clamp(-1, 1))


def test_nothing_to_fit_to():
    with pytest.raises(DataError, match="no images to fit to"):
        PatchPcaCodec().fit(torch.empty(0, 3, 8, 8, dtype=torch.uint8))


def vae(kind: str, folder: Path) -> Path:
    """A folder with a small VAE of random weights."""
    torch.manual_seed(0)
    if kind == "AutoencoderKL":
        made = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(16, 16, 16), latent_channels=5, norm_num_groups=8, shift_factor=0.3,
        )  # fmt: skip
    else:
        widths, blocks = (8, 8, 8), (1, 1, 1)
        made = AutoencoderTiny(
            encoder_block_out_channels=widths, decoder_block_out_channels=widths, num_encoder_blocks=blocks,
            num_decoder_blocks=blocks, latent_channels=5, scaling_factor=0.7,
        )  # fmt: skip
    made.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["AutoencoderKL", "AutoencoderTiny"])
def test_a_vae_is_scaled_as_its_settings_say_and_measured(kind, tmp_path):
    folder, images = vae(kind, tmp_path / "vae"), pictures()
    codec = make_codec(PidmConfig(codec="vae", codec_weights=str(folder), learned_variance=False), images)
    assert (codec.channels, codec.factor) == (5, 4)
    floats = images.float() / 127.5 - 1
    latents = codec.encode(floats)
    assert latents.shape == (40, 5, 4, 2)
    if kind == "AutoencoderKL":
        model = AutoencoderKL.from_pretrained(folder)
        expected = (model.encode(floats).latent_dist.mean - 0.3) * 0.18215
        decoded = model.decode(latents / 0.18215 + 0.3).sample
    else:
        model = AutoencoderTiny.from_pretrained(folder)
        expected = model.encode(floats).latents * 0.7
        decoded = model.decode(latents / 0.7).sample
    assert torch.allclose(latents, expected, atol=1e-5)
    assert torch.allclose(codec.decode(latents), decoded.clamp(-1, 1), atol=1e-5)
    assert np.allclose(latents.std((0, 2, 3), correction=0).numpy(), codec.std, rtol=1e-3)
    assert not any(parameter.requires_grad for parameter in codec.parameters())


@pytest.mark.parametrize("kind", ["AutoencoderKL", "AutoencoderTiny"])
def test_a_generator_keeps_its_vae_without_the_folder_it_came_from(kind, tmp_path):
    folder, floats = vae(kind, tmp_path / "pipeline" / "vae"), pictures().float() / 127.5 - 1
    codec = VaeCodec.open(folder.parent).fit(pictures())
    codec.save_pretrained(tmp_path / "codec")
    shutil.rmtree(folder.parent)
    again = VaeCodec.from_pretrained(tmp_path / "codec")
    assert again.std == codec.std
    assert torch.equal(codec.encode(floats), again.encode(floats))
    assert str(tmp_path) not in (tmp_path / "codec" / "config.json").read_text()


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Path:
    """The folder of what was downloaded from the hub, which cannot be reached."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("part", ["", "vae"])
def test_the_hubs_name_of_a_vae_or_of_a_pipeline_with_one(part, hub):
    model, commit = hub / "models--some--model", "0" * 40
    place = vae("AutoencoderTiny", model / "snapshots" / commit / part)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    floats = pictures().float() / 127.5 - 1
    assert torch.equal(VaeCodec.open("some/model").encode(floats), VaeCodec.open(place).encode(floats))


@pytest.mark.parametrize("name", ["/no/where", "./weights/model", "../model", "runs/a/model"])
def test_a_path_is_not_asked_of_the_hub(name, hub):
    with pytest.raises(CheckpointError, match=r"no such folder\. Give a local folder with .* both in vae/\."):
        VaeCodec.open(name)


def test_without_the_hub_a_name_is_said_to_be_no_folder(hub):
    with pytest.raises(CheckpointError, match=r"'some/model': .* folder, and the hub is not reachable\. Give a"):
        VaeCodec.open("some/model")


def test_a_vae_that_is_not_there_or_is_none(tmp_path):
    with pytest.raises(CheckpointError, match=r"`model\.codec_weights` '.*nowhere'.*Give a local folder with"):
        VaeCodec.open(tmp_path / "nowhere")
    PatchPcaCodec(4, 3).save_pretrained(tmp_path / "pca")
    with pytest.raises(CheckpointError, match="of class PatchPcaCodec, not AutoencoderKL or AutoencoderTiny"):
        VaeCodec.open(tmp_path / "pca")
    (vae("AutoencoderTiny", tmp_path / "cut") / "diffusion_pytorch_model.safetensors").write_bytes(b"cut off")
    with pytest.raises(CheckpointError, match=r"`model\.codec_weights`.*Give a local folder"):
        VaeCodec.open(tmp_path / "cut")
