"""What each system costs at its Market-1501 configuration: parameters, operations, seconds and memory, in one run.

Every measurement of memory is made in a process of its own, which has held nothing before.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reid_aug.config import GeneratorConfig, load_config
from reid_aug.data.images import Images
from reid_aug.data.toy import make_toy_market
from reid_aug.errors import ConfigError
from reid_aug.generators.attention import PoseConstrainedAttention
from reid_aug.generators.autoencoder import make_codec
from reid_aug.generators.guidance import GUIDANCE
from reid_aug.generators.pipeline import PosePipeline
from reid_aug.generators.schedulers import make_scheduler
from reid_aug.generators.systems import build_denoiser
from reid_aug.metrics.efficiency import MemoryMeter, count_parameters, gflops
from reid_aug.records import Pose

CONFIGS = Path(__file__).parents[2] / "configs" / "generator"
PUBLISHED = {"pidm": 688.0, "pocold": 395.9, "cfld": 248.2}  # million trained parameters, 256x176 (Table 1 of CFLD)
CPU_STEPS = 3  # measured on a CPU; the first is left out of a step's time


def bench_generators(
    configs: Sequence[str | Path] | None = None,
    batch_size: int = 64,
    steps: int | None = None,
    device: str | torch.device | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> list[dict[str, Any]]:
    """Measure untrained generators in float32 on images of the toy set; what they cost does not depend on training.

    Args:
        configs: generator configurations; None for every ``*_market.yaml`` of ``configs/generator``.
        batch_size: of the batch that is measured beside one image.
        steps: of the sampler that are measured; seconds are extrapolated from them to each configuration's own number.
            None for all of them on CUDA, three on a CPU.
        device: None for CUDA where there is one.
        progress: called with the measurements done, all, and the next one's name.

    Returns:
        A row for each configuration:

        - ``system`` and ``config``, the file's name;
        - ``parameters_million`` of denoiser and codec, ``trained_million`` of them, ``published_million`` that the
          paper trains;
        - ``gflops_a_step`` of one image, all ``passes`` of the guidance, and the sampler's ``steps``, of which
          ``measured_steps`` were measured;
        - ``seconds_`` and ``peak_mb_`` of ``one_image`` and of a ``batch`` of ``batch_size``. The peak is that of model
          and call, beyond the imported libraries; None where the system does not tell it;
        - ``seconds_three_poses``: three poses of one person in one call, and ``seconds_three_calls``: one by one;
        - of PoCoLD, ``seconds_dense_batch`` and ``peak_mb_dense_batch``: with its attention matrix made in full.

    Raises:
        ConfigError: there are no configurations, one cannot be read, or a batch does not fit into memory.
    """
    paths = sorted(CONFIGS.glob("*_market.yaml")) if configs is None else [Path(path) for path in configs]
    if not paths:
        raise ConfigError(
            f"{CONFIGS}: no *_market.yaml, since the package is not run from its repository. Name configs."
        )
    settings = [load_config(GeneratorConfig, path) for path in paths]
    device = str(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    work = []
    for path, config in zip(paths, settings):
        measured = steps or (CPU_STEPS if device == "cpu" else config.sampling.steps)
        job = Job(config, *_inputs(config, max(batch_size, 3)), min(measured, config.sampling.steps), device)
        work += [(path, job, measure_person, ""), (path, job, measure_batch, "batch")]
        if config.model.system == "pocold":
            work.append((path, replace(job, dense=True), measure_batch, "dense_batch"))
    rows: dict[Path, dict[str, Any]] = {}
    for number, (path, job, function, name) in enumerate(work):
        progress(number, len(work), f"{path.stem} {name}")
        row = rows.setdefault(path, {"system": job.config.model.system, "config": path.stem, "batch_size": batch_size})
        row |= _alone(function, replace(job, count=batch_size if name else 1), name, f"{path.stem}, {name or 'person'}")
    progress(len(work), len(work), "")
    return list(rows.values())


@dataclass(frozen=True)
class Job:
    """What a process of its own measures.

    Attributes:
        config: of the generator.
        pixels, poses: uint8 [N, 3, H, W] and N poses to sample from.
        steps: of the sampler that are measured.
        device: where.
        count: images of the batch.
        dense: make PoCoLD's attention matrix in full.
    """

    config: GeneratorConfig
    pixels: np.ndarray
    poses: list[Pose]
    steps: int
    device: str
    count: int = 1
    dense: bool = False


class DenseAttention(PoseConstrainedAttention):
    """PoCoLD's attention with ``A = A_q^T A_k`` made in full: to measure what the sparse form saves."""

    def forward(self, hidden: Tensor, texture: Tensor, keep: Tensor) -> Tensor:
        """As :meth:`PoseConstrainedAttention.forward`."""
        to_queries, to_keys, value = self._factors(hidden, texture)
        return self.add(hidden, (to_queries.transpose(2, 3) @ to_keys) @ value, keep)


def measure_person(job: Job, name: str = "") -> dict[str, Any]:
    """Parameters and operations; one image, three poses in one call, and in three; ``name`` is not used."""
    _warm_up(job)
    meter = MemoryMeter(job.device)
    sampling = _Sampling(job)
    row = {"seconds_one_image": sampling.seconds(1), "peak_mb_one_image": _mb(meter)}
    row["seconds_three_poses"] = sampling.seconds(1, 3)
    row["seconds_three_calls"] = sum(sampling.seconds(1, 1) for _ in range(3))
    weights = [*sampling.pipe.denoiser.parameters(), *sampling.pipe.codec.parameters()]
    return row | {
        "parameters_million": count_parameters(nn.ParameterList(weights)) / 1e6,
        "trained_million": sum(w.numel() for w in sampling.pipe.denoiser.parameters() if w.requires_grad) / 1e6,
        "published_million": PUBLISHED.get(job.config.model.system),
        "gflops_a_step": sampling.gflops_a_step(),
        "steps": job.config.sampling.steps,
        "measured_steps": job.steps,
        "passes": len(GUIDANCE[job.config.sampling.guidance].branches),
    }


def measure_batch(job: Job, name: str = "batch") -> dict[str, Any]:
    """Seconds and peak memory of ``job.count`` images at once, under ``name``."""
    _warm_up(job)
    meter = MemoryMeter(job.device)
    seconds = _Sampling(job).seconds(job.count)
    return {f"seconds_{name}": seconds, f"peak_mb_{name}": _mb(meter)}


class _Sampling:
    """An untrained generator that is called for a number of images, by the clock."""

    def __init__(self, job: Job):
        self.job = job
        self.pipe = _untrained(job)
        self._starts: list[float] = []  # of the denoiser's calls
        self._inputs: tuple[Any, ...] = ()
        self.pipe.denoiser.register_forward_pre_hook(self._start)

    def seconds(self, people: int, targets: int | None = None) -> float:
        """Of a call for ``people`` with a pose each, or ``targets`` poses each, at the configuration's steps.

        A step takes as long as the median from one call of the denoiser to the next, without the first.
        """
        poses = self.job.poses
        wanted: list[Any] = poses[:people]
        seeds: list[Any] = list(range(people))
        if targets is not None:
            wanted, seeds = [poses[:targets]] * people, [list(range(targets))] * people
        self._starts.clear()
        started = self._now()
        pixels = torch.from_numpy(self.job.pixels[:people])
        self.pipe(pixels, poses[:people], wanted, seeds, "uint8", num_inference_steps=self.job.steps)
        total = self._now() - started
        steps = np.diff(self._starts)
        step = statistics.median(steps[1:] if len(steps) > 1 else [*steps, total][:1])
        return float(total + (self.job.config.sampling.steps - self.job.steps) * step)

    def gflops_a_step(self) -> float:
        """Of one image, all passes of the guidance."""
        self.seconds(1)
        return gflops(lambda: self.pipe.denoiser(*self._inputs))

    def _start(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._inputs = inputs
        self._starts.append(self._now())

    def _now(self) -> float:
        if self.job.device != "cpu":
            torch.cuda.synchronize(self.job.device)
        return time.perf_counter()


def _alone(function: Callable[[Job, str], dict[str, Any]], job: Job, name: str, what: str) -> dict[str, Any]:
    """``function(job, name)`` in a new process with as many threads as this one."""
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (torch.get_num_threads(),)) as pool:
        try:
            return pool.submit(function, job, name).result()
        except (BrokenProcessPool, torch.OutOfMemoryError):
            raise ConfigError(
                f"bench: {what}: the process that measured {job.count} images ended, most likely for want of memory. "
                "Ask for a smaller batch."
            ) from None


def _inputs(config: GeneratorConfig, count: int) -> tuple[np.ndarray, list[Pose]]:
    """``count`` toy images and their poses, some more than once."""
    with tempfile.TemporaryDirectory() as folder:
        train = make_toy_market(folder, identities=4).train
        train = train.at([index % len(train) for index in range(count)])
        pixels = Images(train, config.model.image_size).batch(range(count)).numpy()
    return pixels, [train.poses[sample.name] for sample in train]


def _warm_up(job: Job) -> None:
    """Load what is loaded at the first call, so that it is neither timed nor counted.

    CUDA has kernels for a batch's size; on a CPU one image does, since a batch would take minutes.
    """
    _Sampling(job).seconds(1 if job.device == "cpu" else job.count)


def _untrained(job: Job) -> PosePipeline:
    config = job.config
    torch.manual_seed(0)
    codec = make_codec(config.model, torch.from_numpy(job.pixels[:64]))
    denoiser = build_denoiser(config.model, config.noise, codec).eval().to(memory_format=torch.channels_last)
    if job.dense:
        for module in denoiser.modules():
            if isinstance(module, PoseConstrainedAttention):
                module.__class__ = DenseAttention
    process = make_scheduler(config.noise, config.model.learned_variance)
    pipe = PosePipeline(denoiser, codec, process, config.sampling.model_dump(), config.model.image_size).to(job.device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _mb(meter: MemoryMeter) -> float | None:
    peak = meter.peak()
    return None if peak is None else peak / 1e6
