import numpy as np
import pytest
import torch
from generator_cases import SIZE, config, training_set

from reid_aug.config import NoiseConfig
from reid_aug.errors import CheckpointError
from reid_aug.generators import latents
from reid_aug.generators.autoencoder import PatchPcaCodec, PixelCodec
from reid_aug.generators.batches import PairBatches
from reid_aug.generators.latents import TrainingImages


class Counting(PatchPcaCodec):
    """A patch codec that counts the images it encodes."""

    encoded = 0

    def encode(self, images):
        self.encoded += len(images)
        return super().encode(images)


def codec() -> Counting:
    made = Counting(4, 6).fit(training_set()[1].pixels)
    made.encoded = 0
    return made


def batches(codec, **training) -> PairBatches:
    samples, images, pairs = training_set()
    return PairBatches(samples, images, pairs, config(training=training).training, NoiseConfig(), codec)


def test_kept_latents_are_those_of_the_pixels_mirrored_before_they_are_encoded():
    counting = codec()
    made = batches(counting, batch_size=32)
    made.encode_images()
    assert counting.encoded == 1 + 2 * len(made.names)  # one to know the shape
    for iteration in range(3):
        batch = made.at(iteration)
        expected = PatchPcaCodec.encode(counting, batch.condition.source[:, 0])
        assert torch.allclose(batch.condition.latents[:, 0], expected, atol=2e-3)
        assert batch.target.dtype == torch.float32
    assert counting.encoded == 1 + 2 * len(made.names)
    # Not the latents mirrored: the first component's neighbours within a patch change places.
    kept = made.encoded.kept.float()
    assert not torch.allclose(kept[1], kept[0].flip(-1), atol=0.05)


def test_batches_are_the_same_with_kept_latents():
    fresh, kept = batches(codec(), batch_size=16), batches(codec(), batch_size=16)
    kept.encode_images()
    for iteration in range(3):
        first, second = fresh.at(iteration), kept.at(iteration)
        assert first.names == second.names
        assert torch.equal(first.timestep, second.timestep)
        assert torch.allclose(first.target, second.target, atol=2e-3)


def test_without_flips_mirrored_images_are_not_encoded():
    made = batches(codec(), flip=0.0)
    made.encode_images()
    assert made.encoded.kept.shape == (1, len(made.names), 6, SIZE[0] // 4, SIZE[1] // 4)
    assert made.encoded.kept.dtype == torch.float16


def test_pixels_and_sets_that_are_too_large_are_not_kept(monkeypatch):
    made = batches(PixelCodec())
    made.encode_images()
    assert made.encoded.kept is None
    assert torch.equal(made.at(0).condition.latents, made.at(0).condition.source)
    monkeypatch.setattr(latents, "KEPT_BYTES", 1000)
    made = batches(codec())
    made.encode_images()
    assert made.encoded.kept is None
    assert made.at(0).target.shape == (4, 6, SIZE[0] // 4, SIZE[1] // 4)


def test_progress_counts_images_to_the_end(monkeypatch):
    monkeypatch.setattr(latents, "ENCODED_AT_ONCE", 4)
    seen = []
    batches(codec()).encode_images(lambda done, total: seen.append((done, total)))
    assert seen == [(8, 18), (16, 18), (18, 18)]


def test_latents_that_are_no_numbers_name_the_file():
    samples, images, _ = training_set()
    names = [sample.name for sample in samples]

    class Broken(PatchPcaCodec):
        def encode(self, pixels):
            made = super().encode(pixels)
            dark = pixels.mean((1, 2, 3)) == (images.pixels[5].float() / 127.5 - 1).mean()
            return torch.where(dark[:, None, None, None], torch.inf, made)

    made = TrainingImages(images, np.arange(len(samples)), names, Broken(4, 6).fit(images.pixels))
    with pytest.raises(CheckpointError, match=rf"{names[5]}: its latents are NaN, infinite.*codec_weights"):
        made.encode_all(mirrored=False)
    assert made.kept is None
