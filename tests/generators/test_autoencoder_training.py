import json
import math

import numpy as np
import pytest
import torch
from generator_cases import SIZE, ArrayImages, config, training_set
from safetensors.torch import load_file

from reid_aug.config import AutoencoderConfig, build_config, load_config
from reid_aug.errors import ConfigError, DataError, OutputError, TrainingError
from reid_aug.generators.autoencoder import PatchPcaCodec, VaeCodec
from reid_aug.generators.autoencoder_training import _crops, moments_penalty, psnr, split_identities, train_autoencoder
from reid_aug.generators.training import train_generator
from reid_aug.records import Samples


def settings(**training) -> AutoencoderConfig:
    loop = {"iterations": 30, "batch_size": 8, "crop": 16, "holdout": 0.4, **training}
    values = {"image_size": SIZE, "latent_channels": 6, "width": 8, "blocks": (0, 0, 1), "training": loop}
    return build_config(AutoencoderConfig, values)


def smooth_set():
    """The training set with colours that change slowly across an image."""
    samples, images, pairs = training_set()
    coarse = torch.nn.functional.avg_pool2d(images.pixels.float(), 8)
    smooth = torch.nn.functional.interpolate(coarse, SIZE, mode="bilinear").to(torch.uint8)
    return samples, ArrayImages(smooth), pairs


def test_the_folder_is_a_codec_a_generator_is_trained_with(tmp_path):
    samples, images, pairs = smooth_set()
    given, losses = settings(), []
    score = train_autoencoder(samples, images, given, tmp_path / "vae", lambda done, loss: losses.append((done, loss)))
    assert losses[-1][0] == 30
    assert load_config(AutoencoderConfig, tmp_path / "vae" / "train_config.yaml") == given
    assert json.loads((tmp_path / "vae" / "reconstruction.json").read_text()) == vars(score)
    assert score.images == 3
    codec = VaeCodec.open(tmp_path / "vae")
    assert (codec.channels, codec.factor) == (6, 4)
    held_out = images.batch(split_identities(samples, 0.4, 0)[1])
    assert psnr(codec, held_out) == pytest.approx(score.psnr, abs=1e-3)
    model = {"codec": "vae", "codec_weights": str(tmp_path / "vae")}
    pipe = train_generator(samples, images, pairs, config(model=model), tmp_path / "run")
    assert isinstance(pipe.codec, VaeCodec)


def test_it_learns_and_its_latents_have_variance_one(tmp_path):
    samples, images, _ = smooth_set()
    given = settings(iterations=150, learning_rate=1e-2, moments_weight=1.0, holdout=0.0)
    losses = []
    assert train_autoencoder(samples, images, given, tmp_path / "vae", lambda _, loss: losses.append(loss)).images == 0
    assert losses[-1] < 0.3 * losses[0]
    codec = VaeCodec.open(tmp_path / "vae").fit(images.pixels)
    assert all(0.5 < std < 2 for std in codec.std)


def test_a_seed_gives_the_same_weights_and_another_gives_others(tmp_path):
    samples, images, _ = smooth_set()
    weights = []
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        train_autoencoder(samples, images, settings(iterations=3, seed=seed), tmp_path / name)
        weights.append(load_file(tmp_path / name / "diffusion_pytorch_model.safetensors"))
    first, again, other = weights
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_psnr_is_that_of_a_naive_loop():
    images = training_set()[1].pixels
    codec = PatchPcaCodec(4, 6).fit(images)
    expected = []
    for image in images:
        made = codec.decode(codec.encode(image[None].float() / 127.5 - 1))[0]
        made = (made * 127.5 + 127.5).round().numpy()
        expected.append(10 * math.log10(255**2 / np.mean((made - image.numpy()) ** 2)))
    assert psnr(codec, images, batch_size=2) == pytest.approx(np.mean(expected), abs=1e-3)


def test_crops_are_those_of_a_naive_loop():
    images = training_set()[1]
    rows, top, left = np.array([3, 0, 3]), np.array([0, 5, 16]), np.array([8, 2, 0])
    flipped = np.array([False, True, True])
    made = _crops(images, rows, top, left, flipped, 8)
    for k in range(3):
        cut = images.pixels[rows[k], :, top[k] : top[k] + 8, left[k] : left[k] + 8]
        cut = cut.flip(-1) if flipped[k] else cut
        assert torch.allclose(made[k], cut.float() / 127.5 - 1)


def test_the_moments_penalty_is_the_kl_divergence_of_gaussians():
    latents = torch.randn(64, 2, 8, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 3.0])[
        :, None, None
    ] + torch.tensor([0.0, 2.0])[:, None, None]
    normal = torch.distributions.Normal(0.0, 1.0)
    expected = [
        torch.distributions.kl_divergence(
            torch.distributions.Normal(channel.mean(), channel.std(correction=0)), normal
        ).item()
        for channel in latents.transpose(0, 1)
    ]
    assert moments_penalty(latents).item() == pytest.approx(np.mean(expected), rel=1e-4)
    assert expected[0] < 1e-3 < expected[1]


def test_identities_are_held_out_whole():
    samples = training_set(identities=10)[0]
    trained_on, held_out = split_identities(samples, 0.2, seed=0)
    assert len(held_out) == 6
    assert not set(samples.pids[trained_on]) & set(samples.pids[held_out])
    assert sorted([*trained_on, *held_out]) == list(range(30))
    assert len(split_identities(samples, 0.0, seed=0)[1]) == 0


def test_bad_input(tmp_path):
    samples, images, _ = smooth_set()
    with pytest.raises(DataError, match="no images to learn from"):
        train_autoencoder(Samples([], {}), images, settings(), tmp_path / "vae")
    one = samples.at(range(3))
    with pytest.raises(DataError, match=r"1 of 1 identities would be held out.*training\.holdout=0"):
        train_autoencoder(one, images, settings(), tmp_path / "vae")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="taken: is there already"):
        train_autoencoder(samples, images, settings(), tmp_path / "taken")
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf).*training\.learning_rate.*The batch was: 000\d_c1"):
        train_autoencoder(samples, images, settings(learning_rate=1e38, gradient_clip=1e38), tmp_path / "vae")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": (30, 16)}, "multiples of 4"),
        ({"image_size": (32, 16)}, "at most the smaller side"),
        ({"latent_channels": 49}, "`latent_channels`: .*48"),
    ],
)
def test_sizes_that_cannot_be(values, message):
    with pytest.raises(ConfigError, match=message):
        build_config(AutoencoderConfig, values)
