"""The BoT training loop (Luo et al., "Bag of Tricks and a Strong Baseline", 2019), in iterations."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import parse_flag_from_env

from reid_aug.config import ReidConfig
from reid_aug.errors import DataError, TrainingError
from reid_aug.records import ImageSource, Mix, Samples, Schedule
from reid_aug.reid.checkpoint import RunFolder
from reid_aug.reid.learner import Learner, TrainingBatch, learning_rate, make_accelerator
from reid_aug.reid.model import ReidModel, build_blank, build_model, load_model, save_model
from reid_aug.reid.transforms import augment, draw, resize
from reid_aug.sampler import Batch, PKSampler, iterations_per_epoch

log = logging.getLogger(__name__)

Progress = Callable[[int, float], None]  # iterations done, loss of the last
Evaluate = Callable[[ReidModel], Mapping[str, float]]  # values by name, for the logs


def train_reid(
    train: Samples,
    images: ImageSource,
    schedule: Schedule,
    config: ReidConfig,
    out: str | Path | None = None,
    synthetic: Samples | None = None,
    synthetic_images: ImageSource | None = None,
    evaluate: Evaluate | None = None,
    progress: Progress | None = None,
) -> ReidModel:
    """Train a re-ID model; in the same ``out`` a killed run goes on, and a finished one is loaded.

    Args:
        train: real images; their pids become the labels 0..N-1.
        images: their pixels, in the same order.
        schedule: the make-up of each iteration's batch.
        config: the recipe.
        out: folder of the run: ``model.safetensors`` and ``reid_config.yaml`` at the end, ``logs`` for TensorBoard.
        synthetic, synthetic_images: generated images of the same identities.
        evaluate: called every ``training.evaluate_every`` iterations; see ``holdout`` for a split to call it with.
        progress: called after every iteration.

    Returns:
        The trained model (its moving average where ``training.ema_decay`` is set), in evaluation mode on its device.

    Raises:
        DataError: images and samples of different number, one identity, generated images of unknown identities.
        ConfigError: fewer identities than P, an unknown backbone.
        TrainingError: a loss that is no longer a number.
        OutputError: ``out`` holds another run.
    """
    sources = _sources(train, images, synthetic, synthetic_images)
    config = in_iterations(config, train.pids)
    settings = config.training
    _say_repeats(train.pids, settings.images)
    generated_pids = np.empty(0, np.int64) if synthetic is None else synthetic.pids
    sampler = PKSampler(train.pids, generated_pids, settings.identities, settings.seed)
    accelerator = make_accelerator(settings)
    run = None if out is None else RunFolder(out)
    if run is not None:
        if accelerator.is_main_process:
            run.claim(config, train, schedule, synthetic, synthetic_images, accelerator.num_processes)
        accelerator.wait_for_everyone()
        if run.finished:
            return load_model(run.folder, accelerator.device)
    learner, start = _begin(config, sampler.num_classes, run, accelerator)

    with learner.reproducible(), _scalars(run, learner.is_main, start) as write:
        for iteration in range(start, settings.iterations):
            losses = _step(learner, iteration, schedule(iteration), sampler, sources)
            done = iteration + 1
            write(done, losses | {"learning_rate": learning_rate(iteration, settings)})
            if progress is not None:
                progress(done, losses["loss"])
            if evaluate is not None and settings.evaluate_every and done % settings.evaluate_every == 0:
                write(done, learner.evaluate(evaluate))
            if run is not None and learner.is_main and done % settings.checkpoint_every == 0:
                run.save({"iteration": done, "learner": learner.state()})
    return _finish(learner, run)


def _begin(
    config: ReidConfig, num_classes: int, run: RunFolder | None, accelerator: Accelerator
) -> tuple[Learner, int]:
    """The learner as the run's checkpoint left it, or at its start, and the iteration to go on with."""
    checkpoint = None if run is None else run.load()
    if checkpoint is None:
        return Learner(config, build_model(config.model, num_classes, config.training.seed), accelerator), 0
    learner = Learner(config, build_blank(config.model, num_classes), accelerator)
    learner.load_state(checkpoint["learner"])
    return learner, checkpoint["iteration"]


def _step(
    learner: Learner, iteration: int, mix: Mix, sampler: PKSampler, sources: Sequence[ImageSource]
) -> dict[str, float]:
    """Draw, make and learn from the batches of an iteration; the losses by name."""
    batches = (
        _make_batch(sampler.draw(number, mix), number, sources, learner.config, learner.device)
        for number in learner.batch_numbers(iteration)
    )
    losses = learner.step(iteration, batches, mix)
    _check(losses, iteration)
    return losses


def _finish(learner: Learner, run: RunFolder | None) -> ReidModel:
    """The trained model, saved in the run's folder."""
    model = learner.result()
    if run is not None and learner.is_main:
        save_model(model, learner.config, run.folder)
        run.drop_checkpoint()  # the finished model takes its place
    learner.wait()
    return model


def _make_batch(
    drawn: Batch, number: int, sources: Sequence[ImageSource], config: ReidConfig, device: torch.device
) -> TrainingBatch:
    """Pixels of a drawn batch, augmented on ``device``."""
    size = config.model.image_size
    pixels = torch.empty(len(drawn.indices), 3, *size, dtype=torch.uint8, device=device)
    places = [np.flatnonzero(drawn.synthetic == bool(kind)) for kind in range(2)]
    for source, chosen in zip(sources, places):
        if len(chosen):
            of_source = source.batch(drawn.indices[chosen]).to(device)
            pixels[torch.from_numpy(chosen).to(device)] = resize(of_source, size)
    draws = draw(len(pixels), size, config.augmentation, config.training.seed, number)
    return TrainingBatch(
        images=augment(pixels, draws, config.augmentation.pad),
        labels=torch.from_numpy(drawn.labels).to(device),
        synthetic=torch.from_numpy(drawn.synthetic).to(device),
        real=torch.from_numpy(places[0]).to(device),
    )


def _sources(
    train: Samples, images: ImageSource, synthetic: Samples | None, synthetic_images: ImageSource | None
) -> list[ImageSource]:
    """The real images, then the generated ones where there are any."""
    if (synthetic is None) != (synthetic_images is None):
        raise DataError("generated set: give both its samples and its images, or neither.")
    pairs = [("training set", train, images)]
    if synthetic is not None:
        pairs.append(("generated set", synthetic, synthetic_images))
    for name, samples, source in pairs:
        if len(samples) != len(source):
            raise DataError(
                f"{name}: {len(samples)} samples but {len(source)} images. Decode the images of these very samples."
            )
    return [source for _, _, source in pairs]


def in_iterations(config: ReidConfig, pids: np.ndarray) -> ReidConfig:
    """The same configuration with ``training.epochs``, where it is given, converted to iterations (and said).

    A schedule is made for a number of iterations: convert first, then make it.

    Args:
        pids: [M] of the real training images.
    """
    settings = config.training
    if settings.epochs is None:
        return config
    batches = iterations_per_epoch(pids, settings.identities, settings.images)
    processes = PartialState(parse_flag_from_env("ACCELERATE_USE_CPU")).num_processes
    at_once = settings.accumulation * processes
    iterations = math.ceil(settings.epochs * batches / at_once)
    log.warning(
        "training.epochs=%d of %d batches, %d an iteration: %d iterations.",
        settings.epochs, batches, at_once, iterations,
    )  # fmt: skip
    settings = settings.model_copy(update={"iterations": iterations, "epochs": None})
    return config.model_copy(update={"training": settings})


def _say_repeats(pids: np.ndarray, images: int) -> None:
    counts = np.unique(pids, return_counts=True)[1]
    few = int((counts < images).sum())
    if few:
        log.warning(
            "training set: %d of %d identities have fewer than %d images; theirs are repeated within a batch.",
            few, len(counts), images,
        )  # fmt: skip


def _check(losses: dict[str, float], iteration: int) -> None:
    if not math.isfinite(losses["loss"]):
        parts = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        raise TrainingError(
            f"training: the loss is no longer a number at iteration {iteration} ({parts}). Lower "
            "training.learning_rate, lengthen training.warmup, or use training.precision=no."
        )


@contextmanager
def _scalars(run: RunFolder | None, is_main: bool, start: int):
    """A function (iteration, values by name) that writes to TensorBoard in the run's ``logs``."""
    if run is None or not is_main:
        yield lambda iteration, values: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(run.folder / "logs", purge_step=start + 1) as writer:

        def write(iteration: int, values: Mapping[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, iteration)

        yield write
