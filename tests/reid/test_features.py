"""Feature extraction: order, size, normalisation, and that it leaves the model as it was."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from reid_cases import ArrayImages, people, tiny_config

from reid_aug.reid.features import extract_features
from reid_aug.reid.model import build_model
from reid_aug.reid.transforms import normalise, resize

PEOPLE = people()


@pytest.fixture
def model():
    built = build_model(tiny_config().model, 6)
    built.neck.running_mean.normal_(generator=torch.Generator().manual_seed(0))
    return built


@pytest.mark.parametrize("batch_size", [1, 7, 30, 100])
def test_features_are_the_loop_over_single_images_whatever_the_batch(model, batch_size):
    images = ArrayImages(PEOPLE, size=(40, 30))
    features = extract_features(model, images, batch_size)
    assert features.shape == (30, model.dimension) and features.dtype == torch.float32
    assert not features.requires_grad and features.device.type == "cpu"
    model.eval()
    for index in range(0, 30, 11):
        expected = model(normalise(resize(images.batch([index]), (32, 16))))
        torch.testing.assert_close(features[index], F.normalize(expected)[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(30))


@pytest.mark.parametrize("training", [True, False])
def test_the_training_mode_and_statistics_are_as_before(model, training):
    model.train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    extract_features(model, ArrayImages(PEOPLE))
    assert model.training == training and model.backbone.training == training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_model_can_be_trained_afterwards(model):
    extract_features(model, ArrayImages(PEOPLE))
    feature, logits = model.train()(torch.randn(4, 3, 32, 16))
    (feature.sum() + logits.sum()).backward()
    assert model.backbone.conv1[0].weight.grad is not None


def test_no_images_give_no_features(model):
    empty = PEOPLE[:0]
    assert extract_features(model, ArrayImages(empty)).shape == (0, model.dimension)
