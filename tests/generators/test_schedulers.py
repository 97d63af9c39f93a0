"""Every sampler that is accepted draws from the distribution that an exact denoiser knows."""

from __future__ import annotations

from importlib.util import find_spec

import diffusers
import pytest
import torch

from reid_aug.config import NoiseConfig
from reid_aug.errors import ConfigError
from reid_aug.generators.schedulers import make_sampler, make_scheduler

STD, COUNT, STEPS = 0.5, 4096, 20  # of the data, a Gaussian
PROCESSES = {
    "linear": NoiseConfig(prediction="epsilon"),
    "cosine": NoiseConfig(prediction="v_prediction", beta_schedule="squaredcos_cap_v2"),
    "cosine, zero at the end": NoiseConfig(
        prediction="v_prediction", beta_schedule="squaredcos_cap_v2", zero_terminal_snr=True
    ),
}


def accepted() -> list[str]:
    names, process = [], make_scheduler(PROCESSES["linear"], learned_variance=False)
    for name in dir(diffusers):
        if name.endswith("Scheduler") and not name.startswith("Flax"):
            try:
                make_sampler(name, process)
            except ConfigError:
                continue
            names.append(name)
    return names


def prediction(noisy: torch.Tensor, signal: torch.Tensor, kind: str) -> torch.Tensor:
    """What a perfect network says, for ``signal`` the cumulative product of alphas."""
    clean = signal.sqrt() * STD**2 * noisy / (signal * STD**2 + 1 - signal)
    if kind == "epsilon":
        return (noisy - signal.sqrt() * clean) / (1 - signal).sqrt()
    return (signal.sqrt() * noisy - clean) / (1 - signal).sqrt()


@pytest.mark.parametrize("noise", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("name", accepted())
def test_a_sampler_draws_from_the_data(name, noise):
    process = make_scheduler(noise, learned_variance=False)
    sampler = make_sampler(name, process)
    sampler.set_timesteps(STEPS)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, COUNT, 1, 1, generator=generator) * sampler.init_noise_sigma
    signals = process.alphas_cumprod
    takes_generator = "generator" in sampler.step.__code__.co_varnames
    extra = {"generator": generator} if takes_generator else {}
    for timestep in sampler.timesteps:
        inputs = sampler.scale_model_input(latents, timestep)
        output = prediction(inputs, signals[int(timestep)], noise.prediction)
        latents = sampler.step(output, timestep, latents, **extra).prev_sample
    assert latents.std().item() == pytest.approx(STD, rel=0.25)
    assert abs(latents.mean().item()) < 0.05


def test_samplers_that_are_known_to_work_are_accepted():
    assert {
        "DDIMScheduler", "DDPMScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler",
        "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler", "PNDMScheduler",
        "UniPCMultistepScheduler",
    } <= set(accepted())  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DDIMInverseScheduler", "for this noise process"),
        ("CogVideoXDPMScheduler", "for this noise process"),
        ("LCMScheduler", "for this noise process"),
        ("FlowMatchEulerDiscreteScheduler", "for this noise process"),
        ("NoScheduler", "diffusers has no scheduler 'NoScheduler'"),
    ],
)
def test_samplers_of_other_processes_are_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        make_sampler(name, make_scheduler(PROCESSES["linear"], learned_variance=False))


@pytest.mark.skipif(find_spec("torchsde") is not None, reason="torchsde is installed")
def test_a_sampler_whose_package_is_missing():
    with pytest.raises(ConfigError, match="DPMSolverSDEScheduler needs a package that is missing"):
        make_sampler("DPMSolverSDEScheduler", make_scheduler(PROCESSES["linear"], learned_variance=False))
