import pytest
import torch

from reid_aug.config import NoiseConfig
from reid_aug.generators.objective import Objective
from reid_aug.generators.precondition import Precondition

STD = (1.0, 0.3, 0.05)
PROCESSES = [NoiseConfig(), NoiseConfig(prediction="v_prediction", zero_terminal_snr=True)]


@pytest.mark.parametrize("noise_config", PROCESSES, ids=lambda config: config.prediction)
def test_an_output_of_zero_is_the_best_linear_guess_and_leaves_unit_variance(noise_config):
    """Against least squares on drawn data: no other multiple of the noisy value comes nearer to the target."""
    objective, precondition = Objective(noise_config), Precondition(STD, noise_config)
    generator = torch.Generator().manual_seed(0)
    draws = 200_000
    for t in (20, 300, 800):
        timestep = torch.tensor([t])
        clean = torch.randn(1, 3, draws, 1, generator=generator) * torch.tensor(STD)[:, None, None]
        noise = torch.randn(1, 3, draws, 1, generator=generator)
        noisy = objective.add_noise(clean, noise, timestep)
        target = objective.target(clean, noise, timestep)
        guess = precondition.outputs(noisy, timestep, torch.zeros_like(noisy))
        rest = (target - guess) / precondition.scale[t]
        for channel in range(3):
            y, v = noisy[0, channel].flatten(), target[0, channel].flatten()
            slope = (y @ v / (y @ y)).item()
            assert guess[0, channel].flatten()[0].item() == pytest.approx(slope * y[0].item(), rel=0.05, abs=0.02)
            assert rest[0, channel].std().item() == pytest.approx(1, abs=0.02)
        assert torch.allclose(precondition.inputs(noisy, timestep).std((0, 2, 3)), torch.ones(3), atol=0.02)


def test_data_of_unit_variance_needs_none_of_it():
    """v-prediction is EDM's preconditioning for sigma_data 1."""
    precondition = Precondition((1.0,), PROCESSES[1])
    noisy, output = torch.randn(2, 4, 1, 2, 2)
    timestep = torch.tensor([0, 250, 750, 999])
    assert torch.allclose(precondition.outputs(noisy, timestep, output), output, atol=1e-5)
    assert torch.allclose(precondition.inputs(noisy, timestep), noisy, atol=1e-5)
