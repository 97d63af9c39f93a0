"""The whole path, from a fraction of a re-ID set to the gain that augmentation brought. Read this file first.

    subset ---> plan ---> generate ---> store ---> identity filter ---> schedule ---> re-ID training ---> scores
    (D_tr)      (augment)                          (judged by the standard arm's model)

:func:`augment` and :func:`train_reid` are the two halves a researcher calls; :func:`run_cell` is one cell of a study
made of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from reid_aug.augment.generate import PoseTransfer, create_store, generate
from reid_aug.augment.identity import filter_store
from reid_aug.augment.plan import make_plan
from reid_aug.augment.schedule import make_schedule
from reid_aug.augment.store import Store
from reid_aug.augment.training_free import CopyAugmenter, WarpAugmenter
from reid_aug.config import (
    ArmConfig,
    AugmentConfig,
    FilterConfig,
    GeneratorSource,
    ReidConfig,
    ScheduleConfig,
    StudyConfig,
    build_config,
)
from reid_aug.data.images import Images
from reid_aug.data.market1501 import Market1501
from reid_aug.data.pairs import make_pairs
from reid_aug.data.subsets import take_fraction
from reid_aug.generators.pipeline import load_generator
from reid_aug.generators.training import train_generator
from reid_aug.records import Samples
from reid_aug.reid import training
from reid_aug.reid.evaluate import Scores, evaluate, evaluate_distances
from reid_aug.reid.features import extract_features
from reid_aug.reid.model import ReidModel
from reid_aug.reid.rerank import k_reciprocal
from reid_aug.study.results import Cell, Result, versions

Progress = Callable[[str, int, int, str], None]  # stage, done, total, a note such as the loss


def silent(stage: str, done: int, total: int, note: str = "") -> None:
    """The progress callback of those who want none."""


# --- the two halves -----------------------------------------------------------------------------------------------


def augment(
    samples: Samples,
    pipe: PoseTransfer,
    out: str | Path,
    *,
    sampling: Mapping[str, Any] | None = None,
    judge: ReidModel | None = None,
    progress: Progress = silent,
    **settings: Any,
) -> Store:
    """Synthesise images of the people in ``samples`` in other poses; a killed run continues when called again.

    Args:
        samples: the subset to augment, with its poses.
        pipe: a generator (``load_generator``) or a training-free augmenter.
        out: folder of the generated set.
        sampling: arguments of ``pipe`` such as ``num_inference_steps``; its own defaults where left out.
        judge: a re-ID model trained on ``samples`` for the identity filter; without one nothing is filtered.
        progress: called as the images come.
        **settings: fields of :class:`~reid_aug.config.AugmentConfig`: ``per_identity``, ``poses``, ``seed``, ...

    Raises:
        DataError: no identity has an image with a usable pose.
        ConfigError: an unknown setting.
        OutputError: ``out`` holds another run.
    """
    config = build_config(AugmentConfig, settings, where="augment settings")
    plan = make_plan(samples, config)
    store = create_store(out, plan, samples, config, pipe, sampling or {})
    generate(
        plan,
        samples,
        Images(samples),
        pipe,
        store,
        config.batch_size,
        sampling or {},
        progress=lambda done, total: progress("generate", done, total, ""),
    )
    if judge is not None and config.filter is not None:
        filter_generated(store, judge, samples, config.filter)
    return store


def open_augmenter(name: str) -> PoseTransfer:
    """A training-free augmenter, "warp" or "copies", or else the generator in the folder ``name``."""
    training_free = {"warp": WarpAugmenter, "copies": CopyAugmenter}
    return training_free[name]() if name in training_free else load_generator(name)


def filter_generated(store: Store, judge: ReidModel, real: Samples, config: FilterConfig) -> dict[str, int]:
    """Judge a store by a re-ID model; returns how many images it kept and refused."""
    return filter_store(store, lambda samples: extract_features(judge, Images(samples)), real, config)


@dataclass(frozen=True)
class TrainedReid:
    """A trained re-ID model, and its scores where it was evaluated."""

    model: ReidModel
    scores: Scores | None


def train_reid(
    samples: Samples,
    store: Store | None = None,
    *,
    schedule: str | ScheduleConfig = "none",
    config: ReidConfig | None = None,
    eval_on: Market1501 | None = None,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> TrainedReid:
    """Train a BoT re-ID model on real images and, by ``schedule``, the store's.

    Args:
        samples: real training images.
        store: generated images of the same identities; those the filter rejected are left out.
        schedule: a policy's name with its defaults, or its configuration.
        config: the recipe; BoT's own by default.
        eval_on: whose query and gallery score the model.
        out: folder of the run, resumable; None keeps nothing.
        progress: called as training goes on.

    Raises:
        ConfigError: an unknown policy, or one that needs a store that is not given.
        OutputError: ``out`` holds another run.
    """
    config = config or ReidConfig()
    if isinstance(schedule, str):
        schedule = build_config(ScheduleConfig, {"policy": schedule}, where="schedule")
    synthetic = None if store is None or schedule.policy == "none" else store.samples()
    total = config.training.iterations
    model = training.train_reid(
        samples,
        Images(samples),
        make_schedule(schedule, total, config.training.images),
        config,
        out,
        synthetic,
        None if synthetic is None else Images(synthetic),
        progress=lambda done, loss: progress("train re-ID", done, total, f"loss {loss:.3f}"),
    )
    return TrainedReid(model, None if eval_on is None else Evaluation(eval_on).scores(model))


class Evaluation:
    """Query and gallery of a data set, decoded once however many models are scored."""

    def __init__(self, market: Market1501):
        self.market = market

    @cached_property
    def images(self) -> tuple[Images, Images]:
        """Of query and gallery."""
        return Images(self.market.query), Images(self.market.gallery)

    def features(self, model: ReidModel) -> tuple[torch.Tensor, torch.Tensor]:
        """Of query and gallery, [Q, D] and [G, D], rows of length 1."""
        query, gallery = self.images
        return extract_features(model, query), extract_features(model, gallery)

    def scores(self, model: ReidModel) -> Scores:
        """By the Market-1501 protocol."""
        query, gallery = self.market.query, self.market.gallery
        query_features, gallery_features = self.features(model)
        return evaluate(query_features, query.pids, query.camids, gallery_features, gallery.pids, gallery.camids)

    def reranked_scores(self, model: ReidModel) -> Scores:
        """The same with k-reciprocal re-ranking (Zhong et al. 2017)."""
        query, gallery = self.market.query, self.market.gallery
        distances = k_reciprocal(*self.features(model))
        return evaluate_distances(distances, query.pids, query.camids, gallery.pids, gallery.camids)


# --- one cell of a study ------------------------------------------------------------------------------------------


@dataclass
class Study:
    """What the cells of a study share.

    Attributes:
        config: fractions, arms, seeds, recipe.
        market: the data set.
        out: folder of the study; every stage has its own folder in it and resumes there.
        progress: called by every stage.
        seconds: time spent by stage, summed over the cells run so far.
    """

    config: StudyConfig
    market: Market1501
    out: Path
    progress: Progress = silent
    seconds: dict[str, float] = field(default_factory=dict)

    @cached_property
    def evaluation(self) -> Evaluation:
        """Query and gallery."""
        return Evaluation(self.market)

    def cell(self, arm: str, fraction: float, seed: int) -> Cell:
        """What identifies this cell in the results."""
        reid, settings = self.config.reid, self.config.arms[arm]
        return Cell(
            data_set=self.config.data_set,
            fraction=fraction,
            arm=arm,
            generator=settings.generator or (settings.images if settings.images != "none" else None),
            schedule=settings.schedule.policy,
            seed=seed,
            iterations=reid.training.iterations,
            backbone=reid.model.backbone,
            start=Path(reid.model.weights).name if reid.model.weights else "scratch",
            image_size=reid.model.image_size,
        )

    def folder(self, kind: str, name: str, fraction: float, seed: int) -> Path:
        """Where a stage of a cell keeps its files: generators, generated or reid."""
        return self.out / kind / f"{name}-{round(100 * fraction)}-seed{seed}"

    def timed(self, stage: str, call: Callable[[], Any]) -> Any:
        """The value of ``call``; its time is added to the stage's."""
        start = time.monotonic()
        value = call()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - start
        return value


def run_cell(study: Study, arm: str, fraction: float, seed: int) -> Result:
    """Subset, augmentation, training and evaluation of one arm at one fraction and seed."""
    start = time.monotonic()
    subset = take_fraction(study.market.train, fraction, seed)
    settings = study.config.arms[arm]
    store = None if settings.images == "none" else generated_set(study, arm, subset, fraction, seed)
    model = reid_model(study, arm, subset, store, fraction, seed)
    scores = study.timed("evaluate", lambda: study.evaluation.scores(model))
    cell = study.cell(arm, fraction, seed)
    return Result(
        **cell.model_dump(),
        rank1=scores.rank1,
        rank5=scores.rank5,
        rank10=scores.rank10,
        mAP=scores.mAP,
        mINP=scores.mINP,
        seconds=time.monotonic() - start,
        real_images=len(subset),
        synthetic_images=0 if store is None else len(store.samples()),
        versions=versions(),
    )


def generated_set(study: Study, arm: str, subset: Samples, fraction: float, seed: int) -> Store:
    """The arm's extra images, filtered by the model that the standard arm trained on the same subset."""
    settings = study.config.arms[arm]
    pipe = augmenter(study, settings, subset, fraction, seed)
    sampling = study.config.sampling
    store = study.timed(
        "generate",
        lambda: augment(
            subset,
            pipe,
            study.folder("generated", arm, fraction, seed),
            sampling=sampling.model_dump() if sampling and settings.images == "generator" else None,
            progress=study.progress,
            **(settings.augment.model_dump() | {"seed": seed}),
        ),
    )
    if settings.augment.filter is not None:
        judge = reid_model(study, "standard", subset, None, fraction, seed)
        study.timed("filter", lambda: filter_generated(store, judge, subset, settings.augment.filter))
    return store


def augmenter(study: Study, arm: ArmConfig, subset: Samples, fraction: float, seed: int) -> PoseTransfer:
    """What draws the arm's images; a generator that is not trained yet is trained here."""
    if arm.images != "generator":
        return open_augmenter(arm.images)
    source = study.config.generators[arm.generator]
    if source.folder is not None:
        return load_generator(source.folder)
    return study.timed("train generator", lambda: trained_generator(study, arm.generator, source, subset, fraction, seed))


def trained_generator(
    study: Study, name: str, source: GeneratorSource, subset: Samples, fraction: float, seed: int
) -> PoseTransfer:
    """The study's own generator: one for each subset, or one for all that has seen the whole training set."""
    whole = source.sees == "train"
    samples = study.market.train if whole else subset
    folder = study.out / "generators" / name if whole else study.folder("generators", name, fraction, seed)
    if not (folder / "model_index.json").exists():
        total = source.config.training.iterations
        train_generator(
            samples,
            Images(samples),
            make_pairs(samples),
            source.config,
            folder,
            resume=folder.exists(),
            progress=lambda done, loss: study.progress("train generator", done, total, f"loss {loss:.4f}"),
        )
    return load_generator(folder)


def reid_model(
    study: Study, arm: str, subset: Samples, store: Store | None, fraction: float, seed: int
) -> ReidModel:
    """The arm's re-ID model, trained or, if a run in its folder has finished, loaded."""
    reid = study.config.reid
    config = reid.model_copy(update={"training": reid.training.model_copy(update={"seed": seed})})
    return study.timed(
        "train re-ID",
        lambda: train_reid(
            subset,
            store,
            schedule=study.config.arms[arm].schedule,
            config=config,
            out=study.folder("reid", arm, fraction, seed),
            progress=study.progress,
        ).model,
    )
