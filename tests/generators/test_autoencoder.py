import numpy as np
import pytest
import torch

from reid_aug.config import PidmConfig
from reid_aug.errors import DataError
from reid_aug.generators.autoencoder import PatchPcaCodec, PixelCodec, make_codec


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
