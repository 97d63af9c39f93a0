"""Commands that train a generator and its latent space, and make and filter a generated set."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from reid_aug.cli.app import app, say
from reid_aug.cli.options import (
    NO_POSES,
    Fraction,
    Keypoints,
    Minutes,
    Out,
    Sampler,
    Seed,
    Settings,
    SkipBad,
    Steps,
    TrainingData,
    TrainingSeed,
    open_subset,
    overrides_of,
    sampling_of,
)


class Poses(str, Enum):
    """Where target poses come from."""

    random = "random"
    diverse = "diverse"
    other_view = "other_view"
    other_camera = "other_camera"


@app.command("train-autoencoder")
def train_autoencoder_command(
    config: Annotated[Path, typer.Argument(help="Autoencoder configuration, e.g. configs/autoencoder/small.yaml.")],
    data: TrainingData,
    out: Annotated[Path, typer.Option(help="Folder to make: what model.codec_weights of a generator takes.")],
    fraction: Fraction = 1.0,
    seed: TrainingSeed = None,
    settings: Settings = None,
    skip_bad: SkipBad = False,
) -> None:
    """Train a small autoencoder, a latent space for generators, in minutes; an interrupted run starts again.

    Example: reid-aug train-autoencoder configs/autoencoder/small.yaml --data data/market --out runs/autoencoder
    """
    from reid_aug.config import AutoencoderConfig, load_config
    from reid_aug.data.images import Images
    from reid_aug.generators.autoencoder_training import train_autoencoder
    from reid_aug.progress import Bars

    resolved = load_config(AutoencoderConfig, config, overrides_of(settings, seed))
    subset = open_subset(data, NO_POSES, fraction, seed or 0, skip_bad)
    total = resolved.training.iterations
    with Bars() as bars:
        score = train_autoencoder(
            subset,
            Images(subset, resolved.image_size),
            resolved,
            out,
            progress=lambda done, loss: bars("train autoencoder", done, total, f"loss {loss:.5f}"),
        )
    if score.images:
        say(f"PSNR on {score.images} held-out images: {score.psnr:.1f} dB; patch_pca: {score.patch_pca:.1f} dB")
    say(f"autoencoder: {out}   use: --set model.codec=vae --set model.codec_weights={out}")


@app.command("train-generator")
def train_generator_command(
    config: Annotated[Path, typer.Argument(help="Generator configuration, e.g. configs/generator/pidm_market.yaml.")],
    data: TrainingData,
    out: Out,
    keypoints: Keypoints = None,
    fraction: Fraction = 1.0,
    seed: TrainingSeed = None,
    pairs: Annotated[Path | None, typer.Option(help="CSV of from,to pairs instead of all usable ones.")] = None,
    settings: Settings = None,
    minutes: Minutes = None,
    skip_bad: SkipBad = False,
) -> None:
    """Train a pose-guided diffusion generator on same-identity pairs; an interrupted run goes on when called again.

    Example: reid-aug train-generator configs/generator/pidm_market.yaml --data data/market --out runs/pidm
    """
    from reid_aug.config import GeneratorConfig, load_config
    from reid_aug.data.images import Images
    from reid_aug.data.pairs import make_pairs, read_pairs
    from reid_aug.generators.run_folder import is_trained
    from reid_aug.generators.training import train_generator
    from reid_aug.progress import Bars

    resolved = load_config(GeneratorConfig, config, overrides_of(settings, seed))
    subset = open_subset(data, keypoints, fraction, seed or 0, skip_bad)
    chosen = make_pairs(subset) if pairs is None else read_pairs(pairs, subset)
    reached, total = 0, resolved.training.iterations
    with Bars() as bars:

        def progress(done: int, loss: float) -> None:
            nonlocal reached
            reached = done
            bars("train generator", done, total, f"loss {loss:.4f}")

        train_generator(
            subset,
            Images(subset, resolved.model.image_size),
            chosen,
            resolved,
            out,
            minutes=minutes,
            progress=progress,
            encoding=lambda done, count: bars("encode images", done, count),
        )
    if is_trained(out):
        outcome = f"generator: {out}"
    else:
        outcome = f"stopped at {reached} of {total} iterations; run the same command again to go on"
    say(f"{outcome}   sample sheets: {out / 'samples'}   logs: tensorboard --logdir {out / 'logs'}")


@app.command("generate")
def generate_command(
    data: TrainingData,
    out: Out,
    generator: Annotated[str, typer.Option(help="Generator folder, inpaint:FOLDER, pidm_toy, warp, copies.")] = "warp",
    keypoints: Keypoints = None,
    fraction: Fraction = 1.0,
    seed: Seed = 0,
    per_identity: Annotated[int, typer.Option(help="Images for each identity.")] = 8,
    poses: Annotated[Poses, typer.Option(help="How target poses are chosen.")] = Poses.random,
    steps: Steps = None,
    sampler: Sampler = None,
    batch_size: Annotated[int, typer.Option(help="Images at once.")] = 64,
    minutes: Minutes = None,
    skip_bad: SkipBad = False,
) -> None:
    """Synthesise images of the subset's people in other poses; inpaint:FOLDER lets a generator draw around the warp.

    Example: reid-aug generate --generator runs/pidm --data data/market --fraction 0.2 --out runs/aug
    """
    from reid_aug.progress import Bars
    from reid_aug.study.recipe import augment, open_augmenter

    subset = open_subset(data, keypoints, fraction, seed, skip_bad)
    pipe = open_augmenter(generator)
    with Bars() as bars:
        store = augment(
            subset, pipe, out, sampling=sampling_of(steps, sampler), progress=bars, minutes=minutes,
            per_identity=per_identity, poses=poses.value, seed=seed, batch_size=batch_size,
        )  # fmt: skip
    say(f"{out}: {len(store)} images, manifest {out / 'manifest.jsonl'}")


@app.command("filter")
def filter_command(
    store: Annotated[Path, typer.Argument(help="Generated set, as `reid-aug generate` wrote it.")],
    judge: Annotated[Path, typer.Option(help="Re-ID model folder, as `reid-aug train-reid` wrote it.")],
    data: TrainingData,
    keypoints: Keypoints = None,
    fraction: Fraction = 1.0,
    seed: Seed = 0,
    min_margin: Annotated[float, typer.Option(help="Least similarity to the own identity less that to another.")] = 0.0,
    skip_bad: SkipBad = False,
) -> None:
    """Keep the generated images that are still the same person; write why into the manifest.

    Example: reid-aug filter runs/aug --judge runs/standard --data data/market --fraction 0.2
    """
    from reid_aug.augment.store import Store
    from reid_aug.config import FilterConfig
    from reid_aug.reid.model import load_model
    from reid_aug.study.recipe import filter_generated

    subset = open_subset(data, keypoints, fraction, seed, skip_bad)
    counts = filter_generated(Store.open(store), load_model(judge), subset, FilterConfig(min_margin=min_margin))
    say(f"{store}: kept {counts['keep']}, refused {counts['reject']}; reasons in {store / 'manifest.jsonl'}")
