"""One cell of a study: an arm at a fraction and seed, each stage in its own folder so that a killed run goes on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from reid_aug.augment.generate import PoseTransfer, finished_store
from reid_aug.augment.inpaint import WarpInpainter
from reid_aug.augment.plan import make_plan
from reid_aug.augment.store import Store
from reid_aug.config import ArmConfig, GeneratorConfig, ReidConfig, StudyConfig
from reid_aug.data.market1501 import Market1501
from reid_aug.data.subsets import take_fraction
from reid_aug.files import write_json
from reid_aug.generators.pipeline import load_generator
from reid_aug.generators.run_folder import check_settings, is_trained
from reid_aug.records import Samples
from reid_aug.reid.model import WEIGHTS_NAME, ReidModel, load_model
from reid_aug.reid.weights import weights_name
from reid_aug.study.evaluate_reid import Evaluation
from reid_aug.study.recipe import (
    Progress,
    augment,
    filter_generated,
    open_augmenter,
    silent,
    train_on_pairs,
    train_reid,
)
from reid_aug.study.results import Cell, Result, versions

RANKED_NAME = "ranked.json"  # the gallery images nearest to a few queries, for the report

Seeded = TypeVar("Seeded", GeneratorConfig, ReidConfig)


@dataclass
class Study:
    """What the cells of a study share.

    Attributes:
        config: fractions, arms, seeds, recipe.
        market: the data set.
        out: folder of the study; every stage has its own folder in it and resumes there.
        progress: called by every stage.
        spent: called with a stage and its seconds, after each stage of a cell.
    """

    config: StudyConfig
    market: Market1501
    out: Path
    progress: Progress = silent
    spent: Callable[[str, float], None] = lambda stage, seconds: None

    @cached_property
    def evaluation(self) -> Evaluation:
        """Query and gallery."""
        return Evaluation(self.market, self.config.reid.model.image_size)

    def cell(self, arm: str, fraction: float, seed: int) -> Cell:
        """What identifies this cell in the results."""
        reid, settings = self.config.reid, self.config.arms[arm]
        return Cell(
            data_set=self.config.data_set,
            fraction=fraction,
            arm=arm,
            generator=settings.drawn_by,
            schedule=settings.schedule.policy,
            seed=seed,
            iterations=reid.training.iterations,
            backbone=reid.model.backbone,
            start=weights_name(reid.model.weights) if reid.model.weights else "scratch",
            image_size=reid.model.image_size,
        )

    def folder(self, kind: str, name: str, fraction: float, seed: int) -> Path:
        """Where a stage of a cell keeps its files: generators, generated or reid."""
        return self.out / kind / f"{name}-{100 * fraction:g}-seed{seed}"

    def generator_folder(self, name: str, fraction: float, seed: int) -> Path:
        """Where a generator of the study's own is: one for each subset, or one for all."""
        if self.config.generators[name].sees == "train":
            return self.out / "generators" / name
        return self.folder("generators", name, fraction, seed)

    def generated_folder(self, arm: str, fraction: float, seed: int) -> Path:
        """Where an arm's extra images are; arms that ask for the same images share them, whatever they do with them."""
        settings = self.config.arms[arm]
        digest = hashlib.sha256(settings.augment.model_dump_json().encode()).hexdigest()[:6]
        return self.folder("generated", f"{settings.drawn_by}-{digest}", fraction, seed)

    def timed(self, stage: str, call: Callable[[], Any]) -> Any:
        """The value of ``call``, whose time is the stage's, also where it is stopped."""
        start = time.monotonic()
        try:
            return call()
        finally:
            self.spent(stage, time.monotonic() - start)


def run_cell(study: Study, arm: str, fraction: float, seed: int) -> Result:
    """Subset, augmentation, training and evaluation of one arm at one fraction and seed."""
    start = time.monotonic()
    subset = take_fraction(study.market.train, fraction, seed)
    settings = study.config.arms[arm]
    store = None if settings.images == "none" else filtered_set(study, arm, subset, fraction, seed)
    model = reid_model(study, arm, subset, store, fraction, seed)
    features = study.timed("evaluate", lambda: study.evaluation.features(model))
    scores = study.timed("evaluate", lambda: study.evaluation.by_cosine(*features))
    write_json(study.folder("reid", arm, fraction, seed) / RANKED_NAME, study.evaluation.nearest(*features))
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


def filtered_set(study: Study, arm: str, subset: Samples, fraction: float, seed: int) -> Store:
    """The arm's extra images, judged by the model that the standard arm trained on the same subset."""
    store = generated_set(study, arm, subset, fraction, seed)
    config = study.config.arms[arm].augment.filter
    # A store that was judged stays as it was, so that a run resumed on another machine trains on the same images.
    if config is not None and any(image.verdict == "unfiltered" for image in store.images):
        judge = judge_of(study, subset, fraction, seed)
        study.timed("filter", lambda: filter_generated(store, judge, subset, config))
    return store


def finished_set(study: Study, arm: str, subset: Samples, fraction: float, seed: int) -> Store | None:
    """The arm's extra images if all are drawn; their generator is not needed then, and need not be here."""
    config = study.config.arms[arm].augment.model_copy(update={"seed": seed})
    folder = study.generated_folder(arm, fraction, seed)
    return finished_store(folder, make_plan(subset, config), subset, config)


def generated_set(
    study: Study, arm: str, subset: Samples, fraction: float, seed: int, minutes: float | None = None
) -> Store:
    """The arm's extra images as they were drawn; drawing those that lack stops after ``minutes``."""
    store = finished_set(study, arm, subset, fraction, seed)
    if store is not None:
        return store
    settings = study.config.arms[arm]
    pipe = augmenter(study, settings, subset, fraction, seed)
    sampling = study.config.sampling.model_dump(exclude_none=True)
    return study.timed(
        "generate",
        lambda: augment(
            subset,
            pipe,
            study.generated_folder(arm, fraction, seed),
            sampling=None if settings.generator is None else sampling,
            progress=study.progress,
            minutes=minutes,
            **(settings.augment.model_dump() | {"seed": seed}),
        ),
    )


def judge_of(study: Study, subset: Samples, fraction: float, seed: int) -> ReidModel:
    """The standard arm's model of this subset and seed, trained here if its cell was not run yet."""
    folder = study.folder("reid", "standard", fraction, seed)
    if (folder / WEIGHTS_NAME).exists():
        return load_model(folder)
    return reid_model(study, "standard", subset, None, fraction, seed)


def augmenter(study: Study, arm: ArmConfig, subset: Samples, fraction: float, seed: int) -> PoseTransfer:
    """What draws the arm's images; a generator that is not trained yet is trained here."""
    if arm.generator is None:
        return open_augmenter(arm.images)
    folder = study.config.generators[arm.generator].folder
    if folder is None:
        folder = trained_generator(study, arm.generator, subset, fraction, seed)
    generator = load_generator(folder)
    return WarpInpainter(generator) if arm.images == "inpaint" else generator


def trained_generator(
    study: Study, name: str, subset: Samples, fraction: float, seed: int, minutes: float | None = None
) -> Path:
    """Folder of the study's own generator: one for each subset, or one for all that has seen the whole training set.

    It is trained, or trained further, for at most ``minutes``. The seed of a subset is its generator's too, so that
    the spread over seeds has the generator's share in it.

    Raises:
        OutputError: the generator there was trained in another way.
    """
    source, folder = study.config.generators[name], study.generator_folder(name, fraction, seed)
    whole = source.sees == "train"
    samples, config = (study.market.train, source.config) if whole else (subset, _seeded(source.config, seed))
    if is_trained(folder):
        check_settings(folder, config)
    else:
        study.timed(
            "train generator",
            lambda: train_on_pairs(samples, config, folder, minutes=minutes, progress=study.progress),
        )
    return folder


def reid_model(
    study: Study, arm: str, subset: Samples, store: Store | None, fraction: float, seed: int
) -> ReidModel:
    """The arm's re-ID model, trained or, if a run in its folder has finished, loaded."""
    config = _seeded(study.config.reid, seed)
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


def _seeded(config: Seeded, seed: int) -> Seeded:
    """The configuration with its training's seed replaced."""
    return config.model_copy(update={"training": config.training.model_copy(update={"seed": seed})})
