"""Every batched augmentation against a per-image reference."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.transforms import functional as vision

from reid_aug.config import ReidAugmentationConfig
from reid_aug.reid.transforms import IMAGENET_MEAN, IMAGENET_STD, Draws, augment, draw, normalise, resize

SIZE = (24, 16)


def _images(count=12, size=SIZE):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, *size), dtype=np.uint8))


def _reference(image, draws, index, pad):
    """One image through torchvision's functions, in the recipe's order."""
    if draws.flip[index]:
        image = vision.hflip(image)
    image = vision.crop(vision.pad(image, [pad]), *draws.shift[index].tolist(), *SIZE)
    image = image.float() / 255
    brightness, contrast, saturation = draws.colour[index].tolist()
    image = vision.adjust_brightness(image, brightness)
    image = vision.adjust_contrast(image, contrast)
    image = vision.adjust_saturation(image, saturation)
    image = vision.normalize(image, IMAGENET_MEAN, IMAGENET_STD)
    top, left, height, width = draws.erase[index].tolist()
    return vision.erase(image, top, left, height, width, torch.zeros(3, 1, 1))


def _check(config):
    images = _images()
    draws = draw(len(images), SIZE, config, seed=0, batch=5)
    expected = torch.stack([_reference(image, draws, index, config.pad) for index, image in enumerate(images)])
    torch.testing.assert_close(augment(images, draws, config.pad), expected, atol=1e-4, rtol=0)
    return draws


def _only(**settings):
    return ReidAugmentationConfig(**{"flip": 0, "pad": 0, "erasing": 0, **settings})


def test_flip_is_the_reference():
    draws = _check(_only(flip=0.5))
    assert 0 < draws.flip.sum() < len(draws.flip)


def test_pad_and_crop_is_the_reference():
    draws = _check(_only(pad=5))
    assert draws.shift.min() >= 0 and draws.shift.max() <= 10 and len(np.unique(draws.shift)) > 4


def test_colour_jitter_is_the_reference():
    draws = _check(_only(colour_jitter=0.4))
    assert 0.6 <= draws.colour.min() < draws.colour.max() <= 1.4


def test_erasing_is_the_reference():
    draws = _check(_only(erasing=1.0))
    assert (draws.erase[:, 2:] > 0).all()


def test_all_together_are_the_reference():
    _check(ReidAugmentationConfig(pad=4, erasing=0.7, colour_jitter=0.2, flip=0.5))


def test_erased_pixels_are_the_mean_and_nothing_else_is():
    images = torch.full((1, 3, *SIZE), 200, dtype=torch.uint8)
    draws = Draws(np.zeros(1, bool), np.zeros((1, 2), int), np.ones((1, 3), np.float32), np.array([[3, 2, 5, 7]]))
    zero = (augment(images, draws, 0) == 0).all(dim=1)[0]
    assert zero.sum() == 35 and zero[3:8, 2:9].all()


def test_rectangles_have_the_asked_area_and_aspect_and_lie_inside():
    config = ReidAugmentationConfig()
    rectangles = draw(4000, (256, 128), config, seed=0, batch=0).erase
    erased = rectangles[rectangles[:, 2] > 0]
    assert abs(len(erased) / 4000 - 0.5) < 0.03
    top, left, height, width = erased.T
    assert (top >= 0).all() and (left >= 0).all() and (top + height <= 256).all() and (left + width <= 128).all()
    area, aspect = height * width / (256 * 128), height / width
    assert 0.018 < area.min() < 0.025 and 0.35 < area.max() < 0.41
    assert 0.27 < aspect.min() < 0.35 and aspect.max() < 1 / 0.27


def test_draws_depend_on_seed_and_number_alone():
    config = ReidAugmentationConfig()
    one, again, other, seed = (draw(8, SIZE, config, s, n) for s, n in ((1, 2), (1, 2), (1, 3), (2, 2)))
    assert (one.shift == again.shift).all() and (one.erase == again.erase).all()
    assert (one.shift != other.shift).any() and (one.shift != seed.shift).any()


def test_result_is_channels_last_float32():
    images = _images()
    result = augment(images, draw(len(images), SIZE, ReidAugmentationConfig(), 0, 0), 10)
    assert result.dtype == torch.float32 and result.is_contiguous(memory_format=torch.channels_last)
    assert normalise(images).is_contiguous(memory_format=torch.channels_last)


def test_resize_is_antialiased_bilinear_and_leaves_the_size_alone():
    images = _images(size=(48, 20))
    expected = F.interpolate(images.float(), SIZE, mode="bilinear", antialias=True)
    assert (resize(images, SIZE).float() - expected).abs().max() <= 1
    assert resize(images, (48, 20)) is images
