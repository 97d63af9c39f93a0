import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics
import torchvision

from reid_aug.errors import CheckpointError, DataError
from reid_aug.metrics.image import LPIPS_WEIGHTS, ImageQuality, Lpips, masked_ssim, psnr, ssim

RELUS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29), "squeeze": (1, 4, 7, 9, 10, 11, 12)}


def images(count=2, size=(20, 14), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=generator)


def pair(count=2, size=(20, 14)):
    """Real images and noisy copies, so that scores are neither 0 nor 1."""
    real = images(count, size)
    noise = images(count, size, seed=1)
    return (0.7 * real.float() + 0.3 * noise.float()).to(torch.uint8), real


def boxes(count, size):
    mask = torch.zeros(count, 1, *size, dtype=torch.bool)
    for index in range(count):
        mask[index, :, 3 : 9 + index % 8, 2:10] = True
    return mask


def naive_ssim(first, second, weights):
    """Wang et al. 2004, window by window, in 0..255."""
    first, second = first.numpy().astype(np.float64), second.numpy().astype(np.float64)
    height, width = weights.shape
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for channel in range(3):
        for top in range(first.shape[1] - height + 1):
            for left in range(first.shape[2] - width + 1):
                a = first[channel, top : top + height, left : left + width]
                b = second[channel, top : top + height, left : left + width]
                ma, mb = (weights * a).sum(), (weights * b).sum()
                va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
                vab = (weights * (a - ma) * (b - mb)).sum()
                values.append((2 * ma * mb + c1) * (2 * vab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(values))


def gaussian_window():
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    square = np.outer(line, line)
    return square / square.sum()


@pytest.mark.parametrize(
    "window, weights, size",
    [("gaussian", gaussian_window(), (20, 14)), ("uniform", np.full((51, 51), 1 / 51**2), (53, 52))],
)
def test_ssim_equals_a_loop_over_windows(window, weights, size):
    generated, real = pair(2, size)
    expected = [naive_ssim(generated[index], real[index], weights) for index in range(2)]
    assert 0.1 < expected[0] < 0.95
    assert ssim(generated, real, window).tolist() == pytest.approx(expected, abs=1e-4)


def test_ssim_equals_torchmetrics_away_from_the_border():
    generated, real = pair(2, (64, 32))
    _, local = torchmetrics.functional.image.structural_similarity_index_measure(
        generated.float(), real.float(), data_range=255.0, return_full_image=True
    )
    expected = local[..., 5:-5, 5:-5].mean(dim=(1, 2, 3))
    assert torch.allclose(ssim(generated, real), expected, atol=1e-5)


def test_masked_ssim_is_that_of_images_with_black_backgrounds():
    generated, real = pair()
    mask = boxes(2, (20, 14))
    found = masked_ssim(generated, real, mask)
    expected = [naive_ssim(generated[i] * mask[i], real[i] * mask[i], gaussian_window()) for i in range(2)]
    assert found.tolist() == pytest.approx(expected, abs=1e-4)
    elsewhere = torch.where(mask, generated, 255 - generated)
    assert torch.equal(masked_ssim(elsewhere, real, mask), found)


def test_psnr_equals_torchmetrics_and_its_masked_form_a_loop():
    generated, real = pair(3)
    for index, value in enumerate(psnr(generated, real).tolist()):
        library = torchmetrics.functional.image.peak_signal_noise_ratio(
            generated[index].float(), real[index].float(), data_range=255.0
        )
        assert value == pytest.approx(library.item(), abs=1e-3)
    mask = boxes(3, (20, 14))
    for index, value in enumerate(psnr(generated, real, mask).tolist()):
        squares = [
            (int(generated[index, channel, y, x]) - int(real[index, channel, y, x])) ** 2
            for channel in range(3)
            for y in range(20)
            for x in range(14)
            if mask[index, 0, y, x]
        ]
        assert value == pytest.approx(10 * math.log10(255**2 / (sum(squares) / len(squares))), abs=1e-3)


def test_float_and_uint8_images_score_alike():
    generated, real = pair()
    as_float = [images.float() / 127.5 - 1 for images in (generated, real)]
    assert torch.allclose(ssim(*as_float), ssim(generated, real), atol=1e-5)
    assert torch.allclose(psnr(*as_float), psnr(generated, real), atol=1e-3)


def test_equal_images():
    real = images()
    assert ssim(real, real).tolist() == pytest.approx([1.0, 1.0], abs=1e-6)
    assert psnr(real, real).tolist() == [math.inf, math.inf]


@pytest.mark.parametrize(
    "score, message",
    [
        (lambda a, b: ssim(a.float(), b), r"float images from .* to 25\d\. Give them in \[-1, 1\], or as uint8"),
        (lambda a, b: ssim(a.float() * math.nan, b), r"float images from nan"),
        (lambda a, b: psnr(a.int(), b), "torch.int32. Give uint8"),
        (lambda a, b: psnr(a[0], b), r"shape \[3, 20, 14\]. Give \[B, 3, H, W\]"),
        (lambda a, b: psnr(a[:, :, :10], b), r"generated \[2, 3, 10, 14\], real \[2, 3, 20, 14\]. Resize"),
        (lambda a, b: psnr(a, b, torch.ones(2, 1, 10, 14)), r"mask \[2, 1, 10, 14\] .* Give \[2, 1, 20, 14\]"),
        (
            lambda a, b: psnr(a, b, torch.tensor([1, 0]).view(2, 1, 1, 1).expand(2, 1, 20, 14)),
            "mask of image 1 .* empty",
        ),
        (lambda a, b: ssim(a, b, "uniform"), r"images \[20, 14\] for a 51x51 window"),
        (lambda a, b: ImageQuality().compute(), "no images yet. Call `update`"),
    ],
)
def test_input_that_does_not_fit_is_named(score, message):
    with pytest.raises(DataError, match=message):
        score(*pair())


def test_quality_of_a_set_is_the_mean_over_its_pairs_however_batched():
    generated, real = pair(70)
    mask = boxes(70, (20, 14))
    whole, pieces = ImageQuality(), ImageQuality()
    whole.update(generated, real, mask)
    for start in (0, 1, 33):
        stop = {0: 1, 1: 33, 33: 70}[start]
        pieces.update(generated[start:stop], real[start:stop], mask[start:stop])
    expected = {
        "ssim": ssim(generated, real),
        "psnr": psnr(generated, real),
        "masked_ssim": masked_ssim(generated, real, mask),
        "masked_psnr": psnr(generated, real, mask),
    }
    assert whole.pairs == pieces.pairs == 70
    assert set(whole.compute()) == set(expected)
    for name, scores in expected.items():
        assert whole.compute()[name] == pytest.approx(scores.double().mean().item(), rel=1e-5)
        assert pieces.compute()[name] == pytest.approx(whole.compute()[name], rel=1e-6)


def test_pairs_with_an_empty_mask_count_in_the_other_measures_alone():
    generated, real = pair(5)
    mask = boxes(5, (20, 14))
    mask[[1, 3]] = False
    quality = ImageQuality()
    quality.update(generated, real, mask)
    quality.update(generated[:2], real[:2], torch.zeros(2, 1, 20, 14))
    shown = [0, 2, 4]
    found = quality.compute()
    assert (quality.pairs, quality.masked_pairs) == (7, 3)
    assert found["masked_psnr"] == pytest.approx(psnr(generated[shown], real[shown], mask[shown]).mean().item())
    assert found["masked_ssim"] == pytest.approx(masked_ssim(generated[shown], real[shown], mask[shown]).mean().item())
    expected = ssim(generated, real)
    assert found["ssim"] == pytest.approx((expected.sum() + expected[:2].sum()).item() / 7)


def test_both_windows_are_given_where_the_images_hold_them():
    generated, real = pair(2, (60, 51))
    quality = ImageQuality()
    quality.update(generated, real)
    assert quality.compute()["ssim_uniform"] == pytest.approx(ssim(generated, real, "uniform").mean().item())
    quality = ImageQuality()
    quality.update(generated[:, :, :, :50], real[:, :, :, :50])
    assert set(quality.compute()) == {"ssim", "psnr"}


def backbone_state(backbone):
    """Random weights under torchvision's names, and the layers they belong to."""
    torch.manual_seed(0)
    if backbone == "vgg":  # its classifier alone is half a gigabyte
        layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
    else:
        layers = getattr(torchvision.models, LPIPS_WEIGHTS[backbone][1])(weights=None).features
    return layers.eval(), {f"features.{name}": value for name, value in layers.state_dict().items()}


@pytest.mark.parametrize("backbone", ["alex", "vgg", "squeeze"])
def test_lpips_equals_its_definition_on_the_given_weights(tmp_path, backbone):
    layers, state = backbone_state(backbone)
    torch.save(state, tmp_path / LPIPS_WEIGHTS[backbone][0])
    generated, real = pair(2, (64, 64))
    lpips = Lpips(tmp_path, backbone)

    linear = Path(torchmetrics.functional.image.lpips.__file__).with_name("lpips_models") / f"{backbone}.pth"
    linear = torch.load(linear, map_location="cpu", weights_only=True)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    expected = [0.0, 0.0]
    for index in range(2):
        a, b = [
            ((one[index].float() / 127.5 - 1) - shift[:, None, None]) / scale[:, None, None]
            for one in (generated, real)
        ]
        found = 0
        with torch.no_grad():
            for number, layer in enumerate(layers[: RELUS[backbone][-1] + 1]):
                a, b = layer(a[None])[0], layer(b[None])[0]
                if number in RELUS[backbone]:
                    difference = (a / (a.square().sum(0) + 1e-8).sqrt() - b / (b.square().sum(0) + 1e-8).sqrt()) ** 2
                    weights = linear[f"lin{found}.model.1.weight"].flatten()
                    expected[index] += (difference * weights[:, None, None]).sum(0).mean().item()
                    found += 1
    assert lpips(generated, real).tolist() == pytest.approx(expected, rel=1e-3)
    assert lpips(real, real).tolist() == [0.0, 0.0]
    if backbone == "alex":
        quality = ImageQuality(lpips)
        quality.update(generated, real)
        assert quality.compute()["lpips"] == pytest.approx(sum(expected) / 2, rel=1e-3)


def test_lpips_names_the_file_to_give(tmp_path, monkeypatch):
    name = "alexnet-owt-7be5be79.pth"
    with pytest.raises(CheckpointError, match=rf"{name}: no such file\. .*models\.alexnet\(.*give it or its folder"):
        Lpips(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(CheckpointError, match=rf"hub/checkpoints/{name}: no such file"):
        Lpips()
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match=rf"{name}: not a weight file"):
        Lpips(tmp_path)
    torch.save([1, 2], tmp_path / name)
    with pytest.raises(CheckpointError, match=rf"{name}: holds no state dict"):
        Lpips(tmp_path)
    torch.save(backbone_state("squeeze")[1], tmp_path / name)
    with pytest.raises(CheckpointError, match=rf"{name}: (of another network|`features\.\S+` is missing)"):
        Lpips(tmp_path)
    _, state = backbone_state("alex")
    torch.save({**state, "features.0.weight": torch.zeros(2, 3)}, tmp_path / name)
    with pytest.raises(CheckpointError, match=rf"{name}: of another network \(size mismatch"):
        Lpips(tmp_path)
    weights = tmp_path / "mine.pth"
    torch.save(state, weights)
    assert Lpips(weights)(*pair(1, (64, 64))).shape == (1,)
