"""The whole path, from a fraction of a re-ID set to the gain that augmentation brought. Read this file first.

    subset ---> plan ---> generate ---> store ---> identity filter ---> schedule ---> re-ID training ---> scores
    (D_tr)      (augment)                          (judged by the standard arm's model)

:func:`augment` and :func:`train_reid` are the two halves a researcher calls; ``study.cell`` makes a cell of a study
of them, and ``study.sweep`` runs the cells.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid_aug.augment.generate import PoseTransfer, create_store, generate, is_finished
from reid_aug.augment.identity import filter_store
from reid_aug.augment.inpaint import WarpInpainter
from reid_aug.augment.plan import make_plan
from reid_aug.augment.schedule import make_schedule
from reid_aug.augment.store import Store
from reid_aug.augment.training_free import CopyAugmenter, WarpAugmenter
from reid_aug.config import AugmentConfig, FilterConfig, GeneratorConfig, ReidConfig, ScheduleConfig, build_config
from reid_aug.data.holdout import split_holdout
from reid_aug.data.images import Images
from reid_aug.data.market1501 import Market1501
from reid_aug.data.pairs import make_pairs
from reid_aug.errors import ConfigError
from reid_aug.generators.pipeline import PosePipeline, load_generator
from reid_aug.generators.training import train_generator
from reid_aug.records import Samples
from reid_aug.reid import training
from reid_aug.reid.evaluate import Scores
from reid_aug.reid.features import extract_features
from reid_aug.reid.model import ReidModel, load_model
from reid_aug.study.evaluate_reid import Evaluation

Progress = Callable[[str, int, int, str], None]  # stage, done, total, a note such as the loss


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """The progress callback of those who want none."""


def augment(
    samples: Samples,
    pipe: PoseTransfer | str | Path,
    out: str | Path,
    *,
    sampling: Mapping[str, Any] | None = None,
    judge: ReidModel | str | Path | None = None,
    progress: Progress = silent,
    minutes: float | None = None,
    **settings: Any,
) -> Store:
    """Synthesise images of the people in ``samples`` in other poses; a killed run continues when called again.

    Args:
        samples: the subset to augment, with its poses.
        pipe: a generator (``load_generator``), a training-free augmenter or one of your own (docs/own_generator.md); or
            the name or folder of one, as :func:`open_augmenter` takes it.
        out: folder of the generated set.
        sampling: arguments of ``pipe`` such as ``num_inference_steps``; its own defaults where left out.
        judge: a re-ID model trained on ``samples``, or its folder, for the identity filter; without one nothing is
            filtered.
        progress: called as the images come.
        minutes: stop after this long; the next call goes on, and the filter waits for all images.
        **settings: fields of :class:`~reid_aug.config.AugmentConfig`: ``per_identity``, ``poses``, ``seed``, ...

    Raises:
        DataError: no identity has an image with a usable pose.
        ConfigError: an unknown setting; a ``pipe`` that is no :class:`~reid_aug.augment.generate.PoseTransfer`.
        CheckpointError: no generator or re-ID model of that name.
        OutputError: ``out`` holds another run.
    """
    if isinstance(pipe, (str, Path)):
        pipe = open_augmenter(pipe)
    if isinstance(judge, (str, Path)):
        judge = load_model(judge)
    config = build_config(AugmentConfig, settings, where="augment settings")
    plan = make_plan(samples, config)
    store = create_store(out, plan, samples, config, pipe, sampling or {})
    generate(
        plan,
        samples,
        Images(samples, image_size_of(pipe)),
        pipe,
        store,
        config.batch_size,
        sampling or {},
        progress=lambda done, total: progress("generate", done, total, ""),
        minutes=minutes,
    )
    if not is_finished(store, plan):
        warnings.warn(
            f"{out}: {len(store)} of {len(plan)} images are drawn. Run it again with the same settings to go on.",
            stacklevel=2,
        )
    elif judge is not None and config.filter is not None:
        filter_generated(store, judge, samples, config.filter)
    return store


def train_on_pairs(
    samples: Samples,
    config: GeneratorConfig,
    folder: Path,
    *,
    minutes: float | None = None,
    progress: Progress = silent,
) -> None:
    """Train a generator on all pairs of ``samples``; it stops after ``minutes``, and the next call goes on."""
    total = config.training.iterations
    train_generator(
        samples,
        Images(samples, config.model.image_size),
        make_pairs(samples),
        config,
        folder,
        minutes=minutes,
        progress=lambda done, loss: progress("train generator", done, total, f"loss {loss:.4f}"),
        encoding=lambda done, count: progress("encode images", done, count, ""),
    )


def open_augmenter(name: str | Path) -> PoseTransfer:
    """What draws images: "warp", "copies", the generator in a folder, or around the warp the one after "inpaint:"."""
    training_free = {"warp": WarpAugmenter, "copies": CopyAugmenter}
    if name in training_free:
        return training_free[name]()
    if str(name).startswith("inpaint:"):
        return WarpInpainter(load_generator(str(name).removeprefix("inpaint:")))
    return load_generator(name)


def image_size_of(pipe: PoseTransfer) -> tuple[int, int]:
    """(height, width) that a generator takes; what needs no training takes any, so the data set's usual 128x64."""
    pipe = pipe.generator if isinstance(pipe, WarpInpainter) else pipe
    return tuple(pipe.config.image_size) if isinstance(pipe, PosePipeline) else (128, 64)


def filter_generated(store: Store, judge: ReidModel, real: Samples, config: FilterConfig) -> dict[str, int]:
    """Judge a store by a re-ID model; returns how many images it kept and refused.

    Raises:
        DataError: the store was made from other images than ``real``.
    """
    store.check_origin(real, ("keep", "reject", "unfiltered"))
    size = judge.config.image_size
    return filter_store(store, lambda samples: extract_features(judge, Images(samples, size)), real, config)


@dataclass(frozen=True)
class TrainedReid:
    """A trained re-ID model, and its scores where it was evaluated: on query and gallery, on held-out identities."""

    model: ReidModel
    scores: Scores | None
    holdout: Scores | None = None


def train_reid(
    samples: Samples,
    store: Store | str | Path | None = None,
    *,
    schedule: str | ScheduleConfig = "none",
    config: ReidConfig | None = None,
    eval_on: Market1501 | None = None,
    holdout: float | None = None,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> TrainedReid:
    """Train a BoT re-ID model on real images and, by ``schedule``, the store's.

    Args:
        samples: real training images.
        store: images generated from ``samples``, or their folder; those the filter rejected are left out.
        schedule: a policy's name with its defaults, or its configuration (docs/schedules.md).
        config: the model and its training. None is ``ReidConfig()``: BoT's settings and its 22,320 iterations for a
            ResNet-50 from scratch. BoT itself starts from ImageNet weights, as ``configs/reid/bot_resnet50.yaml`` does.
        eval_on: whose query and gallery score the model.
        holdout: share of the identities to leave out of training and score the model on, at the end and every
            ``training.evaluate_every`` iterations (in the logs).
        out: folder of the run, resumable; None keeps nothing.
        progress: called as training goes on.

    Raises:
        ConfigError: an unknown policy, one that needs a store that is not given, or a store that it does not use.
        DataError: the store was made from other images than ``samples``; too few identities to hold out.
        OutputError: ``out`` holds another run, or ``store`` names no generated set.
    """
    config = config or ReidConfig()
    if config.training.evaluate_every is not None and holdout is None:
        raise ConfigError(
            "`training.evaluate_every`: there is nobody to score on the way. Hold identities out (holdout=0.1, "
            "--holdout 0.1), or leave it out."
        )
    if isinstance(store, (str, Path)):
        store = Store.open(store)
    if isinstance(schedule, str):
        schedule = build_config(ScheduleConfig, {"policy": schedule}, where="schedule")
    _check_store(schedule, store)
    synthetic = None if store is None else _usable(store, samples)
    held_out = None
    if holdout is not None:
        split = split_holdout(samples, holdout, config.training.seed)
        samples = split.fit
        held_out = Evaluation(Market1501(Path(), split.fit, split.query, split.gallery), config.model.image_size)
        if synthetic is not None:
            synthetic = _of(split.fit, store, synthetic)
    config = training.in_iterations(config, samples.pids)
    size, total = config.model.image_size, config.training.iterations
    model = training.train_reid(
        samples,
        Images(samples, size),
        make_schedule(schedule, total, config.training.images),
        config,
        out,
        synthetic,
        None if synthetic is None else Images(synthetic, size),
        evaluate=None if held_out is None else held_out.logged,
        progress=lambda done, loss: progress("train re-ID", done, total, f"loss {loss:.3f}"),
    )
    return TrainedReid(
        model,
        None if eval_on is None else Evaluation(eval_on, size).scores(model),
        None if held_out is None else held_out.scores(model),
    )


def _check_store(schedule: ScheduleConfig, store: Store | None) -> None:
    if store is None and schedule.policy != "none":
        raise ConfigError(f"schedule: {schedule.policy} mixes in generated images, but no store is given. Give one.")
    if store is not None and schedule.policy == "none":
        raise ConfigError(
            f"schedule: none uses real images alone, but the store {store.folder} is given. Leave it out, or name a "
            "schedule such as fixed_ratio."
        )


def _usable(store: Store, real: Samples) -> Samples:
    """The images to mix in; a filter may have left none, which is said."""
    store.check_origin(real)
    store.warn_unjudged()
    synthetic = store.samples()
    if not synthetic:
        warnings.warn(
            f"{store.folder}: none of its {len(store)} images is kept, so training is on real images alone. Lower the "
            "filter's min_margin.",
            stacklevel=3,
        )
    return synthetic


def _of(fit: Samples, store: Store, synthetic: Samples) -> Samples:
    """The generated images that show nobody who is held out, by label or by source."""
    names, pids = {sample.name for sample in fit}, set(fit.pids.tolist())
    seen = {image.name for image in store.images if image.source in names and image.pid in pids}
    return synthetic.where(lambda sample: sample.name in seen)
