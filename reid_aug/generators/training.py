"""The training loop of every generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list

from reid_aug.config import GeneratorConfig
from reid_aug.deadline import Deadline
from reid_aug.errors import ConfigError
from reid_aug.generators.autoencoder import make_codec
from reid_aug.generators.batches import PairBatches
from reid_aug.generators.learner import Learner
from reid_aug.generators.loss_log import LOG_EVERY, LossLog, Progress
from reid_aug.generators.pipeline import PosePipeline, load_generator
from reid_aug.generators.run_folder import RunFolder, is_trained
from reid_aug.generators.schedulers import make_scheduler
from reid_aug.generators.sheet import SampleSheet
from reid_aug.generators.systems import build_denoiser
from reid_aug.records import ImageSource, Samples

CODEC_IMAGES = 2000  # that a codec is fitted to


def train_generator(
    samples: Samples,
    images: ImageSource,
    pairs: Sequence[tuple[str, str]],
    config: GeneratorConfig,
    out: str | Path,
    minutes: float | None = None,
    progress: Progress | None = None,
    encoding: Callable[[int, int], None] | None = None,
) -> PosePipeline:
    """Train a generator and save it as a diffusers folder; a run that was stopped continues when called again.

    It ends in the same weights as if it had not been stopped. One that is trained to the end is loaded.

    Args:
        samples: training images with poses.
        images: their pixels, in the same order.
        pairs: (source name, target name) to learn from.
        config: model, forward process, loop and default sampling.
        out: folder of the run: checkpoint, logs, sample sheets, and the generator once trained. A run goes on with
            the settings it was begun with, but for some of the loop:
            :data:`~reid_aug.generators.run_folder.CHANGEABLE`.
        minutes: stop after this long; the next call goes on, and the generator of that moment is saved.
        progress: called with (iterations done, loss).
        encoding: called with (images encoded, of how many) before the first iteration.

    Returns:
        The pipeline with the averaged (EMA) weights.

    Raises:
        OutputError: ``out`` holds another run, of other settings or other data.
        DataError: no usable pairs.
        ConfigError: settings that the data do not go with, such as too few ``model.cameras``.
        TrainingError: the loss or a weight is no longer a number; the last good checkpoint is kept.
    """
    loop = config.training
    AcceleratorState._reset_state()  # an earlier run of this process may have had another precision
    accelerator = Accelerator(
        mixed_precision=loop.precision,
        gradient_accumulation_steps=loop.accumulation,
        log_with="tensorboard",
        project_dir=str(out),
    )
    folder = RunFolder(out, config)
    pipe, batches = assemble(samples, images, pairs, config, accelerator)
    folder.learns_from(batches.digest)
    if is_trained(folder.path):
        return load_generator(folder.path)
    learner = Learner(pipe, config, accelerator)
    done = folder.load(learner.state)
    learner.start(done)
    batches.encode_images(encoding)  # with the codec of the checkpoint
    accelerator.wait_for_everyone()  # all have looked at the folder before one changes it
    if accelerator.is_main_process:
        folder.claim()
    accelerator.init_trackers("logs")
    losses = _loss_log(learner, batches, folder.checkpoint, done, progress)
    sheet = SampleSheet(batches, folder.path / "samples")
    deadline = Deadline(minutes)
    last = done >= loop.iterations
    while not last:
        losses.add(learner.step(batches, done))
        done += 1
        last = done == loop.iterations or _is_over(deadline)
        saves = last or done % loop.checkpoint_every == 0
        shows = last or done % loop.sample_every == 0
        if saves or shows or done % LOG_EVERY == 0:
            losses.flush()
        if saves and not learner.is_finite():
            losses.fail(done - 1, "weights that are no numbers")
        if accelerator.is_main_process and saves:
            folder.save(learner.state, done)
        if accelerator.is_main_process and shows:
            with learner.averaged():
                sheet.write(pipe, done)
    learner.finish()
    if accelerator.is_main_process:
        folder.finish(pipe, trained=done >= loop.iterations)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return pipe


def assemble(
    samples: Samples,
    images: ImageSource,
    pairs: Sequence[tuple[str, str]],
    config: GeneratorConfig,
    accelerator: Accelerator,
) -> tuple[PosePipeline, PairBatches]:
    """The untrained generator and what it learns from."""
    loop = config.training
    _check_cameras(samples, config.model.cameras)
    torch.manual_seed(loop.seed)  # of the initial weights
    codec = make_codec(config.model, images.batch(_spread(len(samples), CODEC_IMAGES)))
    denoiser = build_denoiser(config.model, config.noise, codec).to(memory_format=torch.channels_last)
    batches = PairBatches(
        samples, images, pairs, loop, config.noise, codec.to(accelerator.device),
        accelerator.process_index, accelerator.num_processes, getattr(denoiser, "slots", None),
        getattr(denoiser, "reads_part_maps", False),
    )  # fmt: skip
    process = make_scheduler(config.noise, config.model.learned_variance)
    pipe = PosePipeline(denoiser, codec, process, config.sampling.model_dump(), config.model.image_size)
    pipe.set_progress_bar_config(disable=True)
    pipe.describe()  # the sampling settings are wrong now or at the first sheet
    return pipe, batches


def _loss_log(
    learner: Learner, batches: PairBatches, checkpoint: Path, done: int, progress: Progress | None
) -> LossLog:
    """Losses go to the trackers and to ``progress``; where they end, the batch's images are named."""

    def report(done: int, loss: float) -> None:
        learner.accelerator.log({"loss": loss, "learning_rate": learner.learning_rate}, step=done)
        if progress is not None:
            progress(done, loss)

    def names(iteration: int) -> str:
        parts = range(learner.config.training.accumulation)
        people = [person for part in parts for person in batches.at(iteration, part).names]
        return ", ".join(f"{' + '.join(sources)} -> {' + '.join(targets)}" for sources, targets in people)

    def remedy() -> str:
        if checkpoint.exists():
            return "The last good checkpoint is kept: run it again with a lower training.learning_rate to go on."
        return "There is no checkpoint yet: run it again with a lower training.learning_rate."

    return LossLog(done, names, report, remedy)


def _is_over(deadline: Deadline) -> bool:
    """Whether the time is up, by the main process's clock: all processes stop at the same iteration."""
    return deadline.minutes_left is not None and broadcast_object_list([deadline.passed])[0]


def _check_cameras(samples: Samples, cameras: int) -> None:
    last = int(samples.camids.max(initial=0))
    if cameras and last > cameras:
        raise ConfigError(
            f"`model.cameras`: {cameras}, but the training set has images of camera {last}. Set it to {last}, or to 0 "
            "for a generator that is not told the camera."
        )


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` positions, evenly spread over ``count``."""
    return [int(position) for position in torch.linspace(0, count - 1, min(count, most))]
