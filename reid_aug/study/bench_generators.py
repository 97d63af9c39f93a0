"""What each system costs at its Market-1501 configuration: parameters, operations, seconds and memory, in one run."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from reid_aug.config import GeneratorConfig, load_config
from reid_aug.data.images import Images
from reid_aug.data.toy import make_toy_market
from reid_aug.errors import ConfigError
from reid_aug.generators.autoencoder import make_codec
from reid_aug.generators.guidance import GUIDANCE
from reid_aug.generators.objective import Objective
from reid_aug.generators.pipeline import PosePipeline
from reid_aug.generators.systems import build_denoiser
from reid_aug.metrics.efficiency import count_parameters, gflops, measure
from reid_aug.records import ImageSource, Samples

CONFIGS = Path(__file__).parents[2] / "configs" / "generator"
PUBLISHED = {"pidm": 688.0, "pocold": 395.9, "cfld": 248.2}  # million trained parameters, 256x176 (Table 1 of CFLD)


def bench_generators(
    configs: Sequence[str | Path] | None = None,
    batch_size: int | None = None,
    steps: int | None = None,
    device: str | torch.device | None = None,
) -> list[dict[str, Any]]:
    """Measure untrained generators in float32 on images of the toy set; what they cost does not depend on training.

    Args:
        configs: generator configurations; None for every ``*_market.yaml`` of ``configs/generator``.
        batch_size: of the batch that is measured beside one image; None for 64 on CUDA, 4 on a CPU.
        steps: of the sampler; None for each configuration's own.
        device: None for CUDA where there is one.

    Returns:
        A row for each configuration: ``system``; parameters in millions, and those its paper trains; ``gflops_a_step``
        of one image through the denoiser once; ``steps`` and guidance ``passes``; seconds and peak memory in MB of a
        call for ``one_image``, for ``three_poses`` of one person, and for a ``batch`` of ``batch_size``. Peak memory is
        None where it cannot be told.

    Raises:
        ConfigError: there are no configurations, or one cannot be read.
    """
    paths = sorted(CONFIGS.glob("*_market.yaml")) if configs is None else [Path(path) for path in configs]
    if not paths:
        raise ConfigError(
            f"{CONFIGS}: no *_market.yaml, since the package is not run from its repository. Name configs."
        )
    settings = [load_config(GeneratorConfig, path) for path in paths]
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    batch_size = batch_size or (64 if device.type == "cuda" else 4)
    with tempfile.TemporaryDirectory() as folder:
        train = make_toy_market(folder, identities=4).train
        train = train.at([index % len(train) for index in range(max(batch_size, 3))])
        return [_bench(config, train, batch_size, steps, device) for config in settings]


def _bench(
    config: GeneratorConfig, samples: Samples, batch_size: int, steps: int | None, device: torch.device
) -> dict[str, Any]:
    images = Images(samples, size=config.model.image_size)
    pipe = _untrained(config, images, device)
    steps = steps or config.sampling.steps
    poses = [samples.poses[sample.name] for sample in samples]
    seen: list[tuple[Any, ...]] = []  # what the denoiser is called with
    hook = pipe.denoiser.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))

    def call(count: int, targets: int | None = None) -> None:
        """``count`` images with a pose each, or one with ``targets`` poses."""
        wanted, seeds = poses[:count], range(count)
        if targets is not None:
            wanted, seeds = [poses[:targets]], [list(range(targets))]
        pipe(images.batch(range(count)), poses[:count], wanted, seeds, "uint8", num_inference_steps=steps)

    call(1)
    noisy, timestep, encoded = seen[0]
    hook.remove()
    passes = len(GUIDANCE[config.sampling.guidance].branches)
    row = {
        "system": config.model.system,
        "parameters_million": count_parameters(pipe.denoiser) / 1e6,
        "published_million": PUBLISHED.get(config.model.system),
        "gflops_a_step": gflops(lambda: pipe.denoiser(noisy, timestep, encoded)) / passes,
        "steps": steps,
        "passes": passes,
        "batch_size": batch_size,
    }
    for name, arguments in (("one_image", (1,)), ("three_poses", (1, 3)), ("batch", (batch_size,))):
        cost = measure(lambda arguments=arguments: call(*arguments), device, repeats=1)
        row |= {
            f"seconds_{name}": cost.seconds,
            f"peak_mb_{name}": None if cost.peak_bytes is None else cost.peak_bytes / 1e6,
        }
    return row


def _untrained(config: GeneratorConfig, images: ImageSource, device: torch.device) -> PosePipeline:
    torch.manual_seed(0)
    codec = make_codec(config.model, images.batch(range(len(images))))
    denoiser = build_denoiser(config.model, config.noise, codec).eval().to(memory_format=torch.channels_last)
    process = Objective(config.noise, config.model.learned_variance).scheduler
    pipe = PosePipeline(denoiser, codec, process, config.sampling.model_dump(), config.model.image_size).to(device)
    pipe.set_progress_bar_config(disable=True)
    return pipe
