import sys
import warnings

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from reid_aug.errors import CheckpointError, DataError, MissingDependencyError
from reid_aug.metrics.fid import (
    INCEPTION_WEIGHTS,
    fid,
    fit_gaussian,
    frechet_distance,
    image_gaussian,
    load_inception,
)


def features(count, seed, shift=0.0, width=6):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator)
    return torch.randn(count, width, generator=generator) @ mixing + shift


def test_gaussian_equals_numpy_however_batched():
    values = features(50, seed=0, shift=30.0)
    found = fit_gaussian(values.split([1, 20, 29]))
    assert found.count == 50
    assert np.allclose(found.mean, values.double().numpy().mean(axis=0))
    assert np.allclose(found.covariance, np.cov(values.double().numpy(), rowvar=False))


def test_one_dimension_in_closed_form():
    a, b = torch.tensor([[0.0], [2.0], [4.0]]), torch.tensor([[10.0], [11.0], [12.0]])
    # (2 - 11)^2 + (2 - 1)^2, for the standard deviations are 2 and 1
    assert frechet_distance(fit_gaussian([a]), fit_gaussian([b])) == pytest.approx(82.0)


def test_distance_equals_the_formula_with_a_general_matrix_root():
    a, b = fit_gaussian([features(40, 1)]), fit_gaussian([features(40, 2, shift=0.5)])
    product = (a.covariance @ b.covariance).numpy()
    values, vectors = np.linalg.eig(product)
    root = (vectors * np.sqrt(values)) @ np.linalg.inv(vectors)
    assert np.allclose(root @ root, product)
    expected = ((a.mean - b.mean) ** 2).sum().item() + np.trace(a.covariance + b.covariance) - 2 * np.trace(root).real
    assert frechet_distance(a, b) == pytest.approx(expected)
    assert frechet_distance(b, a) == pytest.approx(expected)


def test_fewer_images_than_features():
    a, b = fit_gaussian([features(3, 1, width=20)]), fit_gaussian([features(4, 2, width=20)])
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)
    assert frechet_distance(a, b) > (a.mean - b.mean).square().sum().item()


class Colours(nn.Module):
    """A stand-in for Inception: eight features of a random linear map of 4x4 average colours."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(48, 8).requires_grad_(False)

    def forward(self, images):
        return self.linear(nn.functional.adaptive_avg_pool2d(images.float(), 4).flatten(1))


def batches(seed, low, high, count=40):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (count, 3, 16, 8), dtype=torch.uint8, generator=generator).split(16)


def test_fid_of_images_equals_torchmetrics():
    real, generated = batches(0, 0, 200), batches(1, 60, 256)
    metric = FrechetInceptionDistance(Colours(), input_img_size=(3, 16, 8))
    for batch in real:
        metric.update(batch, real=True)
    for batch in generated:
        metric.update(batch, real=False)
    found = fid(real, generated, Colours())
    assert found == pytest.approx(metric.compute().item(), rel=1e-3)
    assert found > 1


def test_inception_is_torch_fidelitys_with_the_given_weights(tmp_path):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = torchvision.models.inception_v3(weights=None, aux_logits=False, num_classes=1008, init_weights=False)
    torch.save(other.state_dict(), tmp_path / INCEPTION_WEIGHTS)
    reference = FeatureExtractorInceptionV3("inception", ["2048"], str(tmp_path / INCEPTION_WEIGHTS))
    images = batches(0, 0, 256, count=2)[0]
    found = load_inception(tmp_path)(images)
    assert found.shape == (2, 2048)
    assert torch.allclose(found, reference(images)[0], rtol=1e-3, atol=1e-5)
    assert image_gaussian(load_inception(tmp_path), [images]).mean.allclose(found.double().mean(0), atol=1e-5)

    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / INCEPTION_WEIGHTS)
    with pytest.raises(CheckpointError, match=rf"{INCEPTION_WEIGHTS}: of another network"):
        load_inception(tmp_path)


def test_the_weight_file_to_give_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=rf"{INCEPTION_WEIGHTS}: no such file.*torch-fidelity.*its folder"):
        load_inception(tmp_path)


def test_a_missing_package_is_named_with_its_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(MissingDependencyError, match="pip install torch-fidelity"):
        load_inception(tmp_path)


@pytest.mark.parametrize(
    "run, message",
    [
        (lambda: fit_gaussian([features(1, 0)]), "1 images have no covariance. Give at least two"),
        (lambda: fit_gaussian([]), "0 images have no covariance"),
        (lambda: fit_gaussian([features(4, 0) * float("nan")]), "not finite. Look for NaN"),
        (
            lambda: frechet_distance(fit_gaussian([features(4, 0)]), fit_gaussian([features(4, 0, width=5)])),
            "6 against 5 features. Take both from one network",
        ),
        (lambda: image_gaussian(Colours(), [torch.zeros(2, 3, 8, 4)]), "torch.float32 .* Give uint8 images"),
    ],
)
def test_input_that_does_not_fit_is_named(run, message):
    with pytest.raises(DataError, match=message):
        run()
