from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from market_files import save_image
from PIL import Image

from reid_aug.data.images import Images, decode, find_undecodable
from reid_aug.errors import DataError
from reid_aug.records import Sample, Samples

SIZE = (128, 64)


@pytest.fixture
def samples(tmp_path) -> Samples:
    for number in range(6):
        save_image(tmp_path / f"{number}.png", seed=number)
    return Samples(Sample(tmp_path / f"{number}.png", number, 1) for number in range(6))


def in_memory_and_lazy(samples, size=SIZE):
    return Images(samples, size), Images(samples, size, memory_budget=len(samples) * 3 * size[0] * size[1] - 1)


def test_batches_hold_the_files_pixels(samples):
    for images in in_memory_and_lazy(samples):
        batch = images.batch([4, 0, 4])
        assert batch.dtype == torch.uint8
        assert len(images) == 6
        for image, number in zip(batch, (4, 0, 4)):
            pixels = np.array(Image.open(samples[number].path)).transpose(2, 0, 1)
            np.testing.assert_array_equal(image.numpy(), pixels)


def test_the_memory_budget_decides(samples):
    eager, lazy = in_memory_and_lazy(samples)
    for sample in samples:
        sample.path.unlink()
    assert eager.batch(range(6)).shape == (6, 3, *SIZE)
    with pytest.raises(DataError, match=r"1 image cannot be decoded:\n.*3\.png\n"):
        lazy.batch([3, 3])
    assert "in memory" in repr(eager)
    assert "decoded on demand" in repr(lazy)


@pytest.mark.parametrize("indices", [[], [1, 5], np.array([1, 5]), torch.tensor([1, 5]), range(2)])
def test_indices_of_any_kind(samples, indices):
    for images in in_memory_and_lazy(samples):
        assert images.batch(indices).shape == (len(indices), 3, *SIZE)


def test_a_batch_is_the_callers_own(samples):
    images = Images(samples)
    before = images.batch([0])
    images.batch([0]).zero_()
    assert torch.equal(images.batch([0]), before)


def test_positions_out_of_range_are_errors(samples):
    for images in in_memory_and_lazy(samples):
        with pytest.raises(IndexError):
            images.batch([6])


def test_no_samples():
    images = Images(Samples([]))
    assert len(images) == 0
    assert images.batch([]).shape == (0, 3, *SIZE)


def test_other_sizes_are_resized_as_pillow_does(tmp_path):
    pixels = save_image(tmp_path / "large.png", 200, 90)
    expected = np.array(Image.fromarray(pixels).resize((64, 128), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(tmp_path / "large.png", SIZE).numpy(), expected)
    assert decode(tmp_path / "large.png").shape == (3, 200, 90)
    samples = Samples([Sample(tmp_path / "large.png", 1, 1)])
    for images in in_memory_and_lazy(samples):
        np.testing.assert_array_equal(images.batch([0])[0].numpy(), expected)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_colour_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / f"image.{'jpg' if mode == 'CMYK' else 'png'}"
    Image.new("RGB", (64, 128), (200, 200, 200)).convert(mode).save(path)
    assert decode(path, SIZE).shape == (3, *SIZE)


def test_undecodable_files_are_found_in_order(tmp_path, samples):
    whole = samples[0].path.read_bytes()
    bad = {1: b"", 3: whole[: len(whole) // 2], 5: b"not an image"}
    for number, content in bad.items():
        samples[number].path.write_bytes(content)
    missing = Sample(Path(tmp_path / "missing.png"), 1, 1)
    assert find_undecodable([*samples, missing]) == [*(samples[number].path for number in bad), missing.path]
    for number in bad:
        with pytest.raises(DataError, match=rf"{number}\.png: cannot be decoded \(.*\. Replace it, or leave it out"):
            decode(samples[number].path)


def test_undecodable_files_are_counted_and_the_first_named(samples):
    for sample in samples:
        sample.path.write_bytes(b"not an image")
    with pytest.raises(DataError) as caught:
        Images(samples)
    lines = str(caught.value).splitlines()
    assert lines[0] == "6 images cannot be decoded:"
    assert lines[1:6] == [f"  {sample.path}" for sample in samples[:5]]
    assert lines[6:] == ["  and 1 more", "Replace them, or leave them out (--skip-bad)."]
