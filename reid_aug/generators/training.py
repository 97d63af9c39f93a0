"""The training loop of every generator."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from reid_aug.config import GeneratorConfig
from reid_aug.errors import TrainingError
from reid_aug.generators.autoencoder import Codec, make_codec
from reid_aug.generators.batches import PairBatch, PairBatches
from reid_aug.generators.condition import Condition
from reid_aug.generators.objective import Objective
from reid_aug.generators.pipeline import PosePipeline, load_generator
from reid_aug.generators.run_folder import RunFolder, is_trained
from reid_aug.generators.sheet import SampleSheet
from reid_aug.generators.systems import build_denoiser
from reid_aug.records import ImageSource, Samples

CODEC_IMAGES = 2000  # that a codec is fitted to
LOG_EVERY = 20  # iterations between reads of the loss, each of which waits for the accelerator

Progress = Callable[[int, float], None]


class TrainingStep(nn.Module):
    """Encoder, denoiser and loss as one module, so that data parallelism and compilation see a whole step.

    A denoiser with a loss term of its own has ``penalised``, which is ``forward`` returning (prediction, term [B]).
    """

    def __init__(self, denoiser: nn.Module, codec: Codec, objective: Objective):
        super().__init__()
        self.denoiser, self.codec, self.objective = denoiser, codec, objective

    def forward(
        self,
        clean: Tensor,
        noise: Tensor,
        timestep: Tensor,
        condition: Condition,
        keep_pose: Tensor,
        keep_source: Tensor,
    ) -> Tensor:
        """Loss of every sample, [B], for clean latents and noise [B, C, h, w]."""
        encoded = self.denoiser.encode(condition, self.codec).kept(keep_pose, keep_source)
        noisy = self.objective.add_noise(clean, noise, timestep)
        if not hasattr(self.denoiser, "penalised"):
            return self.objective.loss(self.denoiser(noisy, timestep, encoded), clean, noise, timestep)
        prediction, penalty = self.denoiser.penalised(noisy, timestep, encoded)
        return self.objective.loss(prediction, clean, noise, timestep) + penalty


def train_generator(
    samples: Samples,
    images: ImageSource,
    pairs: Sequence[tuple[str, str]],
    config: GeneratorConfig,
    out: str | Path,
    resume: bool = False,
    minutes: float | None = None,
    progress: Progress | None = None,
) -> PosePipeline:
    """Train a generator and save it as a diffusers folder.

    Args:
        samples: training images with poses.
        images: their pixels, in the same order.
        pairs: (source name, target name) to learn from.
        config: model, forward process, loop and default sampling.
        out: folder of the run: checkpoint, logs, sample sheets, and the generator once trained.
        resume: continue the run in ``out``, with the same weights as if it had not been interrupted; one that is
            trained to the end is loaded.
        minutes: stop after this long with a checkpoint to resume from; the generator of that moment is saved.
        progress: called with (iterations done, loss).

    Returns:
        The pipeline with the averaged (EMA) weights.

    Raises:
        OutputError: ``out`` holds another run, or one that was not asked to be resumed.
        DataError: no usable pairs.
        TrainingError: the loss is no longer a number; the last checkpoint is kept.
    """
    loop = config.training
    AcceleratorState._reset_state()  # an earlier run of this process may have had another precision
    accelerator = Accelerator(
        mixed_precision=loop.precision,
        gradient_accumulation_steps=loop.accumulation,
        log_with="tensorboard",
        project_dir=str(out),
    )
    torch.manual_seed(loop.seed)
    codec = make_codec(config.model, images.batch(_spread(len(samples), CODEC_IMAGES)))
    denoiser = build_denoiser(config.model, config.noise, codec).to(memory_format=torch.channels_last)
    objective = Objective(config.noise, config.model.learned_variance)
    batches = PairBatches(
        samples, images, pairs, loop, config.noise, accelerator.device,
        accelerator.process_index, accelerator.num_processes, getattr(denoiser, "slots", None),
        getattr(denoiser, "reads_part_maps", False),
    )  # fmt: skip
    pipe = PosePipeline(denoiser, codec, objective.scheduler, config.sampling.model_dump(), config.model.image_size)
    pipe.set_progress_bar_config(disable=True)
    pipe.describe()  # the sampling settings are wrong now or at the first sheet
    folder = RunFolder(out, config, batches.digest, resume)
    if resume and is_trained(folder.path):
        return load_generator(folder.path)
    trained = trained_parameters(denoiser)
    ema = EMAModel(trained, decay=loop.ema_decay)
    optimiser, rate = _optimiser(trained, config, accelerator)
    step, optimiser = accelerator.prepare(TrainingStep(denoiser, codec, objective), optimiser)
    state = {"denoiser": denoiser, "codec": codec, "optimiser": optimiser, "ema": ema, "rate": rate}
    if accelerator.scaler is not None:
        state["scaler"] = accelerator.scaler
    done = folder.load(state) if resume else 0
    ema.to(accelerator.device)  # after loading, which leaves it on the CPU
    accelerator.wait_for_everyone()  # all have looked at the folder before one changes it
    if accelerator.is_main_process:
        folder.claim()
    accelerator.init_trackers("logs")
    run = torch.compile(step) if loop.compile else step
    sheet = SampleSheet(batches, folder.path / "samples")
    losses = LossLog(accelerator, batches, done, progress)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes

    denoiser.train()
    while done < loop.iterations:
        losses.add(_iterate(accelerator, run, denoiser, codec, optimiser, batches, config, done))
        rate.step()
        ema.step(trained)
        done += 1
        last = done == loop.iterations or _is_over(deadline)
        saves = last or done % loop.checkpoint_every == 0
        shows = last or done % loop.sample_every == 0
        if saves or shows or done % LOG_EVERY == 0:
            losses.flush(done, rate.get_last_lr()[0])
        if accelerator.is_main_process and saves:
            folder.save(state, done)
        if accelerator.is_main_process and shows:
            with averaged(ema, denoiser):
                sheet.write(pipe, done)
        if last:
            break
    ema.copy_to(trained)
    denoiser.eval()
    if accelerator.is_main_process:
        folder.finish(pipe, trained=done == loop.iterations)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return pipe


def _optimiser(trained: list[nn.Parameter], config: GeneratorConfig, accelerator: Accelerator):
    """AdamW and its learning rate's schedule."""
    loop = config.training
    optimiser = torch.optim.AdamW(
        trained, lr=loop.learning_rate, weight_decay=loop.weight_decay, fused=accelerator.device.type == "cuda"
    )
    rate = get_scheduler(
        "constant_with_warmup" if loop.schedule == "constant" else "cosine",
        optimiser,
        num_warmup_steps=loop.warmup,
        num_training_steps=loop.iterations,
    )
    return optimiser, rate


def _is_over(deadline: float | None) -> bool:
    """Whether the time is up, by the main process's clock: all processes stop at the same iteration."""
    if deadline is None:
        return False
    return broadcast_object_list([time.monotonic() > deadline])[0]


def _iterate(
    accelerator, run, denoiser, codec, optimiser, batches: PairBatches, config: GeneratorConfig, done: int
) -> Tensor:
    """One optimiser step over the accumulated batches; returns its mean loss, still on the device."""
    total = 0.0
    for part in range(config.training.accumulation):
        batch = batches.at(done, part)
        torch.manual_seed(batch.generator.initial_seed())  # for dropout
        with accelerator.accumulate(run), accelerator.autocast():
            loss = run(*step_inputs(batch, codec)).mean()
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(trained_parameters(denoiser), config.training.gradient_clip)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        total = total + loss.detach() / config.training.accumulation
    return total


def step_inputs(batch: PairBatch, codec: Codec) -> tuple:
    """The arguments of :class:`TrainingStep` for a batch."""
    with torch.no_grad():
        clean = codec.encode(batch.target)
    noise = torch.randn(clean.shape, generator=batch.generator, device=clean.device)
    return clean, noise, batch.timestep, batch.condition, batch.keep_pose, batch.keep_source


def trained_parameters(denoiser: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes; a pretrained part may be frozen."""
    return [parameter for parameter in denoiser.parameters() if parameter.requires_grad]


@contextmanager
def averaged(ema: EMAModel, denoiser: nn.Module):
    """The denoiser in evaluation mode with its averaged weights; put back as it was afterwards."""
    parameters = trained_parameters(denoiser)
    ema.store(parameters)
    ema.copy_to(parameters)
    denoiser.eval()
    try:
        yield
    finally:
        ema.restore(parameters)
        denoiser.train()


class LossLog:
    """Collects losses on the device, reads them in groups, and stops the run when one is not a number."""

    def __init__(self, accelerator: Accelerator, batches: PairBatches, done: int, progress: Progress | None):
        self.accelerator, self.batches, self.progress = accelerator, batches, progress
        self.first, self.pending = done, []

    def add(self, loss: Tensor) -> None:
        """Note the loss of the next iteration."""
        self.pending.append(loss)

    def flush(self, done: int, learning_rate: float) -> None:
        """Read, check and report the losses since the last time."""
        if not self.pending:
            return
        values = torch.stack(self.pending).float().cpu()
        bad = (~values.isfinite()).nonzero()
        if len(bad):
            iteration = self.first + int(bad[0])
            names = ", ".join(f"{source} -> {target}" for source, target in self.batches.at(iteration).names)
            raise TrainingError(
                f"iteration {iteration + 1}: the loss is {values[bad[0]].item()}. The last checkpoint is kept; resume "
                f"from it with a lower training.learning_rate. Pairs of that batch: {names}"
            )
        self.first, self.pending = done, []
        loss = values.mean().item()
        self.accelerator.log({"loss": loss, "learning_rate": learning_rate}, step=done)
        if self.progress is not None:
            self.progress(done, loss)


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` positions, evenly spread over ``count``."""
    return [int(position) for position in torch.linspace(0, count - 1, min(count, most))]
