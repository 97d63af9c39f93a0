"""The report of a study folder: what was run, gathered from its files and shown with pictures."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import torch

from reid_aug.augment.store import MANIFEST, Store
from reid_aug.config import GeneratorSource, StudyConfig, load_config
from reid_aug.data.images import Images
from reid_aug.data.market1501 import Market1501
from reid_aug.errors import DataError
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.render import limb_picture
from reid_aug.records import Sample, Samples
from reid_aug.study.cell import RANKED_NAME, Study
from reid_aug.study.report import GeneratedSet, Picture, write_report
from reid_aug.study.results import Results
from reid_aug.study.sheets import pair_sheet, ranked_sheet
from reid_aug.study.sweep import check_data

SHOWN = 8  # generated images a sheet


def report_study(folder: str | Path, market: Market1501, caveats: tuple[str, ...] = ()) -> Path:
    """Write the page of the study in ``folder``; returns its path.

    Raises:
        DataError: the folder holds no study, one without a result yet, or one of another data set than ``market``.
    """
    folder = Path(folder)
    if not (folder / "study.yaml").is_file():
        raise DataError(f"{folder}: no study.yaml in it. Name a folder that `reid-aug sweep` wrote.")
    check_data(folder, market)
    config = load_config(StudyConfig, folder / "study.yaml")
    study = Study(config, market, folder)
    stages = folder / "stages.json"
    controls = [arm for arm, settings in config.arms.items() if settings.images in ("copies", "warp")]
    return write_report(
        folder,
        Results(folder / "results.jsonl"),
        title=f"{config.data_set}: what augmentation did",
        baselines=("standard", *controls),
        sheets=generated_sheets(study),
        ranked=ranked_lists(study),
        stages=json.loads(stages.read_text(encoding="utf-8")) if stages.exists() else {},
        generators={name: seen_by(source) for name, source in config.generators.items()},
        sets=generated_sets(study),
        settings={"study.yaml": (folder / "study.yaml").read_text(encoding="utf-8")},
        caveats=caveats,
    )


def seen_by(source: GeneratorSource) -> str:
    """Which images a generator learned from, in words."""
    return {
        "subset": "the subset alone that it augments",
        "train": "all training images, more than the subset that it augments",
        "other": "other people than those of this data set",
    }[source.sees]


def stores(study: Study, fraction: float, seed: int) -> Iterator[tuple[list[str], Store]]:
    """The sets of extra images that are not empty, each with the arms that share it."""
    arms = defaultdict(list)
    for arm in study.config.arms:
        arms[study.generated_folder(arm, fraction, seed)].append(arm)
    for folder, sharing in arms.items():
        if (folder / MANIFEST).exists() and len(store := Store.open(folder)):
            yield sharing, store


def generated_sets(study: Study) -> list[GeneratedSet]:
    """How many images each set has, and how many the filter kept."""
    sets = []
    for fraction, seed in product(study.config.fractions, study.config.seeds):
        for arms, store in stores(study, fraction, seed):
            verdicts = Counter(image.verdict for image in store.images)
            kept = None if verdicts["unfiltered"] else verdicts["keep"]
            sets.append(GeneratedSet(fraction, seed, tuple(arms), len(store), kept))
    return sets


def generated_sheets(study: Study) -> list[Picture]:
    """A sheet for each set of extra images: source, target pose, generated, and a real image of the person."""
    fraction, seed = study.config.fractions[0], study.config.seeds[0]
    return [
        Picture(
            f"{', '.join(arms)}: {100 * fraction:g} % of the training images, seed {seed}",
            store_sheet(store, study.market.train),
        )
        for arms, store in stores(study, fraction, seed)
    ]


def store_sheet(store: Store, known: Samples):
    """Images of a store, evenly spread over it, beside what they were made from; ``known`` has the real ones."""
    images = store.images
    places = [int(index) for index in torch.linspace(0, len(images) - 1, min(SHOWN, len(images)))]
    chosen = [images[place] for place in places]
    positions = {sample.name: index for index, sample in enumerate(known)}
    real = [_another(known, image.pid, image.source) for image in chosen]
    made = store.samples(("keep", "unfiltered", "reject")).at(places)
    poses = PoseBatch.stack([made.poses[image.name] for image in chosen])
    of_sources = Images(known.at([positions[image.source] for image in chosen]))
    everything = range(len(chosen))
    size = of_sources.size
    limbs = limb_picture(poses, size)
    return pair_sheet(
        of_sources.batch(everything), limbs, Images(made).batch(everything), Images(Samples(real)).batch(everything)
    )


def ranked_lists(study: Study) -> list[Picture]:
    """The gallery images nearest to a few queries, by each arm's model at the first fraction and seed."""
    fraction, seed = study.config.fractions[0], study.config.seeds[0]
    query = {sample.name: sample for sample in study.market.query}
    gallery = {sample.name: sample for sample in study.market.gallery}
    pictures = []
    for arm in study.config.arms:
        path = study.folder("reid", arm, fraction, seed) / RANKED_NAME
        if not path.exists():
            continue
        for name, nearest in json.loads(path.read_text(encoding="utf-8")).items():
            found = Samples(gallery[one] for one in nearest)
            shown = Images(Samples([query[name]]) + found).batch(range(1 + len(found)))
            sheet = ranked_sheet(shown[0], shown[1:], (found.pids == query[name].pid).tolist())
            pictures.append(Picture(f"{arm}: query {name}", sheet))
    return pictures


def _another(known: Samples, pid: int, name: str) -> Sample:
    """A real image of the person, other than ``name`` where there is one."""
    own = [sample for sample in known if sample.pid == pid]
    return next((sample for sample in reversed(own) if sample.name != name), own[0])
