"""The demo: the whole path on the built-in data set, on two CPU cores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reid_aug.config import (
    ArmConfig,
    AugmentConfig,
    GeneratorConfig,
    GeneratorSource,
    ReidAugmentationConfig,
    ReidConfig,
    ReidModelConfig,
    ReidTrainingConfig,
    ScheduleConfig,
    StudyConfig,
    load_config,
)
from reid_aug.data.toy import make_toy_market
from reid_aug.generators.pipeline import SHIPPED
from reid_aug.generators.run_folder import is_trained
from reid_aug.study.pages import report_study
from reid_aug.study.recipe import Progress, train_on_pairs
from reid_aug.study.results import summarise
from reid_aug.study.results_table import table
from reid_aug.study.sweep import announcer, run_sweep

GENERATOR = "pidm_toy"
REID_START = "osnet_x0_25_toy.safetensors"
PEOPLE_SEED, PEOPLE = 1000, 400  # whom the generator learns from; the demo's own people come from seed 0
CAVEATS = (
    "The people are drawn. The numbers show that the path works, not what augmentation does to photographs.",
    "The re-ID network starts from weights trained on 400 other drawn people, which alone score Rank-1 65.6, mAP 57.5 "
    "here; a short training on a fraction of 48 people loses some of that in every arm.",
)


def plan_of(from_scratch: bool) -> str:
    """What the demo will do and how long it takes, in words (measured on two cores at 2.4 GHz)."""
    trains = "2. load the shipped generator\n"
    if from_scratch:
        trains = "2. train the generator: about 35 minutes on one core\n"
    return (
        "1. draw a small Market-1501: about 10 seconds\n"
        f"{trains}"
        "3. fractions x arms x seeds, each: generate, filter, train, evaluate: about 5 minutes\n"
        "4. write the report: about 10 seconds"
    )


def run_demo(out: str | Path, from_scratch: bool, progress: Progress, say: Callable[[object], None]) -> str:
    """Run the demo in ``out``, resuming what is there; returns where to look.

    Raises:
        OutputError: ``out`` holds something else.
    """
    out = Path(out)
    market = make_toy_market(out / "data", seed=0)
    generator = str(train_from_scratch(out, progress)) if from_scratch else GENERATOR
    study = out / ("study-from-scratch" if from_scratch else "study")
    results = run_sweep(demo_study(generator), market, study, progress=progress, announce=announcer(say))
    say(table(summarise(results)))
    page = report_study(study, market, CAVEATS)
    return f"report: {page}\ngenerated images: {study / 'generated'}\n{CAVEATS[0]}"


def demo_study(generator: str) -> StudyConfig:
    """Two fractions, two seeds, without and with generated images."""
    return StudyConfig(
        data_set="toy",
        fractions=(0.2, 0.5),
        seeds=(0, 1),
        arms={
            "standard": ArmConfig(),
            "augmented": ArmConfig(
                images="generator",
                generator=GENERATOR,
                augment=AugmentConfig(per_identity=3, batch_size=48),
                schedule=ScheduleConfig(policy="fixed_ratio", synthetic=1),
            ),
        },
        generators={GENERATOR: GeneratorSource(folder=generator, sees="other")},
        reid=ReidConfig(
            # Like MSMT17 weights for Market-1501: a strong start, from other people than the demo's.
            model=ReidModelConfig(backbone="osnet_x0_25", weights=REID_START, image_size=(128, 64)),
            augmentation=ReidAugmentationConfig(pad=5),
            training=ReidTrainingConfig(iterations=120, identities=8, images=4),
        ),
    )


def train_from_scratch(out: Path, progress: Progress) -> Path:
    """Train ``pidm_toy`` as the shipped weights were trained; returns the generator's folder.

    The command that made the shipped weights is this one with its output kept: ``reid-aug demo --from-scratch``.
    """
    config = load_config(GeneratorConfig, SHIPPED / GENERATOR / "train_config.yaml")
    folder = out / "generator"
    if not is_trained(folder):
        people = make_toy_market(out / "people", identities=PEOPLE, seed=PEOPLE_SEED, test_identities=1).train
        train_on_pairs(people, config, folder, progress=progress)
    return folder
