import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from scipy.stats import norm

from reid_aug.config import NoiseConfig
from reid_aug.errors import ConfigError
from reid_aug.generators.objective import Objective, draw_timesteps, pose_constraint

LINEAR = [1e-4 + (0.02 - 1e-4) * t / 999 for t in range(1000)]


def abar(t: int) -> float:
    return math.prod(1 - beta for beta in LINEAR[: t + 1])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_is_the_mean_squared_error_of_the_target(prediction):
    objective = Objective(NoiseConfig(prediction=prediction))
    timestep = torch.tensor([3, 600, 999])
    clean, noise, output = (torch.randn(3, 2, 4, 4) for _ in range(3))
    losses = objective.loss(output, clean, noise, timestep)
    for k, t in enumerate(timestep.tolist()):
        a, s = math.sqrt(abar(t)), math.sqrt(1 - abar(t))
        target = noise[k] if prediction == "epsilon" else a * noise[k] - s * clean[k]
        assert losses[k].item() == pytest.approx(((output[k] - target) ** 2).mean().item(), rel=1e-4)
        noisy = objective.add_noise(clean, noise, timestep)[k]
        assert torch.allclose(noisy, a * clean[k] + s * noise[k], atol=1e-5)


def test_scaled_linear_is_the_process_of_stable_diffusion():
    root = [0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * t / 999 for t in range(1000)]
    found = Objective(NoiseConfig(beta_schedule="scaled_linear")).alphas_bar
    for t in (0, 400, 999):
        assert found[t].item() == pytest.approx(math.prod(1 - value**2 for value in root[: t + 1]), rel=1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_weights(prediction):
    objective = Objective(NoiseConfig(prediction=prediction, min_snr_gamma=5.0))
    for t in (0, 50, 300, 999):
        snr = abar(t) / (1 - abar(t))
        expected = min(snr, 5.0) / (snr if prediction == "epsilon" else snr + 1)
        assert objective.loss_weights[t].item() == pytest.approx(expected, rel=1e-3)


def test_the_true_target_recovers_the_clean_image_through_the_scheduler():
    """What the loss asks for is what the sampler's formula inverts."""
    for noise_config in (NoiseConfig(), NoiseConfig(prediction="v_prediction", zero_terminal_snr=True)):
        objective = Objective(noise_config)
        clean, noise = torch.randn(2, 1, 3, 4, 4)
        for t in (1, 400, 990):
            timestep = torch.tensor([t])
            noisy = objective.add_noise(clean, noise, timestep)
            found = objective.scheduler.step(objective.target(clean, noise, timestep), t, noisy).pred_original_sample
            assert torch.allclose(found, clean, atol=2e-2)


def test_the_variational_bound_equals_a_loop_over_numbers():
    objective = Objective(NoiseConfig(), learned_variance=True)
    rng = np.random.default_rng(0)
    clean = torch.tensor(rng.integers(0, 256, (2, 1, 2, 2)) / 127.5 - 1).float()
    clean[0, 0, 0] = torch.tensor([-1.0, 1.0])  # the two open bins
    noise, guess, v = (torch.tensor(rng.normal(size=(2, 1, 2, 2))).float() for _ in range(3))
    timestep = torch.tensor([0, 250])
    noisy = objective.add_noise(clean, noise, timestep)
    found = objective.variational_bound(guess, v, clean, noisy, timestep)
    for k, t in enumerate(timestep.tolist()):
        previous = abar(t - 1) if t else 1.0
        beta, total = LINEAR[t], []
        posterior = LINEAR[max(t, 1)] * (1 - (abar(max(t, 1) - 1))) / (1 - abar(max(t, 1)))
        for y, x, e, i in zip(noisy[k].flatten(), clean[k].flatten(), guess[k].flatten(), v[k].flatten()):
            y, x, e, i = (float(value) for value in (y, x, e, i))
            predicted = (y - math.sqrt(1 - abar(t)) * e) / math.sqrt(abar(t))
            c_clean = beta * math.sqrt(previous) / (1 - abar(t))
            c_noisy = (1 - previous) * math.sqrt(1 - beta) / (1 - abar(t))
            mean, true = c_clean * predicted + c_noisy * y, c_clean * x + c_noisy * y
            log_variance = math.log(posterior) + (i + 1) / 2 * (math.log(beta) - math.log(posterior))
            std = math.exp(log_variance / 2)
            if t == 0:
                upper = 1.0 if x > 0.999 else norm.cdf(x + 1 / 255, mean, std)
                lower = 0.0 if x < -0.999 else norm.cdf(x - 1 / 255, mean, std)
                total.append(-math.log(max(upper - lower, 1e-12)))
            else:
                ratio = posterior / std**2
                total.append(0.5 * (-math.log(ratio) - 1 + ratio + (true - mean) ** 2 / std**2))
        assert found[k].item() == pytest.approx(1000 * np.mean(total) / math.log(2), rel=2e-3)


def test_the_learned_range_is_the_one_diffusers_samples_with():
    objective = Objective(NoiseConfig(), learned_variance=True)
    scheduler = DDPMScheduler.from_config(objective.scheduler.config)
    for t in (1, 500):
        low = scheduler._get_variance(t, predicted_variance=torch.tensor(-1.0))
        high = scheduler._get_variance(t, predicted_variance=torch.tensor(1.0))
        assert low.item() == pytest.approx(objective.log_posterior[t].item(), rel=1e-4)
        assert high.item() == pytest.approx(objective.log_beta[t].item(), rel=1e-4)


def test_cubic_timesteps_follow_their_distribution():
    """P(t < x) = P(u^3 > 1 - x / T) = 1 - (1 - x / T)^(1/3) for u uniform on [0, 1]."""
    noise = NoiseConfig(timesteps=20, timestep_sampling="cubic")
    drawn = draw_timesteps(noise, 200_000, np.random.default_rng(0))
    for t in range(20):
        expected = (1 - t / 20) ** (1 / 3) - (1 - (t + 1) / 20) ** (1 / 3)
        assert np.mean(drawn == t) == pytest.approx(expected, abs=0.004)


def test_uniform_timesteps_are_equally_likely():
    drawn = draw_timesteps(NoiseConfig(timesteps=5), 50_000, np.random.default_rng(0))
    assert np.bincount(drawn, minlength=5) / 50_000 == pytest.approx(0.2, abs=0.01)


def test_the_pose_constraint_equals_a_double_loop():
    rng = np.random.default_rng(0)
    attention = torch.tensor(rng.random((2, 3, 4, 6))).float()
    target, source = torch.tensor([[0, 1, 2, 3], [1, 1, 0, 2]]), torch.tensor([[0, 1, 1, 2, 2, 2], [1, 1, 3, 3, 1, 2]])
    match = target[:, :, None] == source[:, None, :]  # the sources lack parts 3 (first) and 0 (second)
    found = pose_constraint(attention, match)
    for k in range(2):
        total = 0.0
        for i in range(4):
            if not any(target[k, i] == source[k, j] for j in range(6)):
                continue
            for j in range(6):
                if target[k, i] != source[k, j]:
                    total += sum(attention[k, head, i, j].item() ** 2 for head in range(3)) / 3
        assert found[k].item() == pytest.approx(total, rel=1e-5)


def test_settings_that_contradict_each_other():
    with pytest.raises(ConfigError, match=r"`noise\.prediction`: a learned variance needs epsilon"):
        Objective(NoiseConfig(prediction="v_prediction"), learned_variance=True)
    with pytest.raises(ConfigError, match=r"`noise\.zero_terminal_snr`.*v_prediction"):
        Objective(NoiseConfig(zero_terminal_snr=True))
