"""A study: every cell of fractions x seeds x arms that has no result yet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from reid_aug.augment.schedule import make_schedule
from reid_aug.augment.store import Store
from reid_aug.config import ArmConfig, GeneratorSource, ReidConfig, StudyConfig, load_config, save_config
from reid_aug.data.market1501 import Market1501
from reid_aug.data.subsets import take_fraction
from reid_aug.deadline import Deadline
from reid_aug.errors import ConfigError, DataError, OutputError
from reid_aug.files import write_json
from reid_aug.generators.run_folder import fixed_settings, is_trained
from reid_aug.reid.weights import weights_name
from reid_aug.study.cell import Study, finished_set, generated_set, run_cell, trained_generator
from reid_aug.study.recipe import Progress, silent
from reid_aug.study.results import Result, Results

CARRIED = ("generators", "generated")  # folders that may come from another machine before the study is begun here

CellKey = tuple[str, float, int]  # arm, fraction, seed
Announce = Callable[[int, int, Result], None]  # cells done, cells in all, the result of the last


def run_cells(study: Study, cells: Iterable[CellKey], deadline: Deadline) -> Iterator[Result]:
    """Results of ``cells``, one after another while there is time; those of an arm come after its standard one's."""
    for arm, fraction, seed in cells:
        if deadline.passed or not can_draw(study, arm, fraction, seed, deadline):
            return
        yield run_cell(study, arm, fraction, seed)


def run_sweep(
    config: StudyConfig,
    market: Market1501,
    out: str | Path,
    minutes: float | None = None,
    progress: Progress = silent,
    announce: Announce = lambda done, total, result: None,
    run: Callable[[Study, Sequence[CellKey], Deadline], Iterator[Result]] = run_cells,
) -> Results:
    """Run the study's cells; those already in ``out/results.jsonl`` are not run again.

    What :func:`train_generators` and :func:`generate_sets` did in the same folder before is used as it is.

    Args:
        config: the study; saved as ``out/study.yaml``. Fractions, seeds, arms and generators may be added from one run
            to the next.
        market: the data set.
        out: folder of the study.
        minutes: no cell is begun after this long, and training a generator stops, to go on in the next run.
        progress: called by every stage of a cell.
        announce: called after each cell.
        run: what runs the cells that lack a result; :func:`reid_aug.study.cluster.run_cells` runs many at a time.

    Raises:
        OutputError: ``out`` holds another study's files.
        DataError: ``out`` holds results of another data set.
    """
    study = _open(config, market, out, progress)
    results = Results(study.out / "results.jsonl")
    cells = _cells(config)
    missing = [cell for cell in cells if not results.has(study.cell(*cell))]
    first = len(cells) - len(missing) + 1
    for done, result in enumerate(run(study, missing, Deadline(minutes)), start=first):
        results.append(result)
        announce(done, len(cells), result)
    return results


def train_generators(
    config: StudyConfig, market: Market1501, out: str | Path, minutes: float | None = None, progress: Progress = silent
) -> list[Path]:
    """Train the generators that the study's cells still need: a machine with an accelerator can do just this.

    Args:
        minutes: training stops after this long, with a checkpoint that the next call continues.

    Returns:
        Their folders, those that are trained to the end.

    Raises:
        OutputError, DataError: as :func:`run_sweep`.
    """
    study, deadline = _open(config, market, out, progress), Deadline(minutes)
    for arm, fraction, seed in _cells(config):
        if deadline.passed or not can_draw(study, arm, fraction, seed, deadline):
            break
    return sorted(folder for folder in (study.out / "generators").glob("*") if is_trained(folder))


def generate_sets(
    config: StudyConfig, market: Market1501, out: str | Path, minutes: float | None = None, progress: Progress = silent
) -> list[Store]:
    """Draw the extra images of every cell, unfiltered; a set begun before is completed.

    Args:
        minutes: drawing a set, or training a generator, stops after this long, to go on in the next run.

    Raises:
        OutputError, DataError: as :func:`run_sweep`.
    """
    study, deadline = _open(config, market, out, progress), Deadline(minutes)
    stores = []
    for arm, fraction, seed in _cells(config):
        if config.arms[arm].images == "none":
            continue
        if deadline.passed or not can_draw(study, arm, fraction, seed, deadline):
            break
        subset = take_fraction(market.train, fraction, seed)
        stores.append(generated_set(study, arm, subset, fraction, seed, deadline.minutes_left))
    return stores


def can_draw(study: Study, arm: str, fraction: float, seed: int, deadline: Deadline) -> bool:
    """Whether the arm's images are drawn or can be; a generator of the study's own is trained as the time allows."""
    name = study.config.arms[arm].generator
    if name is None or study.config.generators[name].config is None:
        return True
    subset = take_fraction(study.market.train, fraction, seed)
    if finished_set(study, arm, subset, fraction, seed) is not None:
        return True
    return is_trained(trained_generator(study, name, subset, fraction, seed, deadline.minutes_left))


def _open(config: StudyConfig, market: Market1501, out: str | Path, progress: Progress) -> Study:
    """The study in its folder, after a check that its schedules can be and that the folder and data set are its own."""
    for arm in config.arms.values():  # now, rather than when the arm's images are drawn
        make_schedule(arm.schedule, config.reid.training.iterations, config.reid.training.images)
    out = Path(out)
    _claim(out, config, market)
    return Study(config, market, out, progress, partial(_add_seconds, out / "stages.json"))


def _cells(config: StudyConfig) -> list[CellKey]:
    """Every cell in order; the standard arm comes first, as its model judges the other arms' images."""
    arms = ["standard", *(arm for arm in config.arms if arm != "standard")]
    return [(arm, fraction, seed) for fraction in config.fractions for seed in config.seeds for arm in arms]


def announcer(say: Callable[[str], None]) -> Announce:
    """An ``announce`` that says a line when a cell is done."""

    def announce(done: int, total: int, result: Result) -> None:
        say(
            f"[{done}/{total}] {100 * result.fraction:g} % {result.arm} seed {result.seed}: "
            f"Rank-1 {result.rank1:.1f}, mAP {result.mAP:.1f} ({result.real_images} real + "
            f"{result.synthetic_images} generated images, {result.seconds:.0f} s)"
        )

    return announce


def check_data(folder: Path, market: Market1501) -> None:
    """Note which data set the study in ``folder`` is of, or see that it is ``market``.

    Raises:
        DataError: it is another one.
    """
    path = folder / "data.json"
    digest = hashlib.sha256()
    for samples in (market.train, market.query, market.gallery):
        digest.update("\n".join([*(sample.name for sample in samples), ""]).encode())
    names = digest.hexdigest()[:16]
    if not path.exists():
        write_json(path, {"root": str(market.root), "names": names})
        return
    there = json.loads(path.read_text(encoding="utf-8"))
    if there["names"] != names:
        raise DataError(
            f"{market.root}: not the images that the study in {folder} was run on ({there['root']} then, see "
            f"{path.name}). Name that data set, or another folder."
        )


def _add_seconds(path: Path, stage: str, seconds: float) -> None:
    """Add to what ``stages.json`` has of the stage."""
    total = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_json(path, {**total, stage: total.get(stage, 0.0) + seconds})


def _claim(out: Path, config: StudyConfig, market: Market1501) -> None:
    """Make the folder this study's, or find that it is already; ``study.yaml`` then has what both ask for."""
    path = out / "study.yaml"
    if path.exists():
        try:
            there = load_config(StudyConfig, path)
        except ConfigError as error:
            raise OutputError(f"{out}: holds a study of another version: {error} Name another folder.") from None
        config = _joined(there, config, out)
        check_data(out, market)  # before anything in the folder changes
    elif out.is_file():
        raise OutputError(f"{out}: a file, not a folder. Name another.")
    elif out.exists() and not all(file.name.endswith(".tmp") or file.name in CARRIED for file in out.iterdir()):
        raise OutputError(f"{out}: not empty, and not a study. Name another folder.")
    out.mkdir(parents=True, exist_ok=True)
    save_config(config, path)
    check_data(out, market)


def _joined(there: StudyConfig, asked: StudyConfig, out: Path) -> StudyConfig:
    """Both studies in one; what they share must be equal, but for what a generator's training may go on with."""
    changed = [name for name in ("data_set", "sampling") if getattr(there, name) != getattr(asked, name)]
    if _recipe(there.reid) != _recipe(asked.reid):
        changed.append("reid")
    for kind, fixed in (("arms", ArmConfig.model_dump), ("generators", _origin)):
        old, new = getattr(there, kind), getattr(asked, kind)
        changed += [f"{kind}.{name}" for name in old if name in new and fixed(new[name]) != fixed(old[name])]
    if changed:
        raise OutputError(f"{out}: holds a study with other settings ({', '.join(changed)}). Name another folder.")
    return asked.model_copy(
        update={
            "fractions": tuple(sorted({*there.fractions, *asked.fractions})),
            "seeds": tuple(sorted({*there.seeds, *asked.seeds})),
            "arms": {**there.arms, **asked.arms},
            "generators": {**there.generators, **asked.generators},
        }
    )


def _recipe(config: ReidConfig) -> dict[str, Any]:
    """What every cell shares. The weights it starts from go by their name, as in the results."""
    recipe = config.model_dump()
    weights = recipe["model"]["weights"]
    recipe["model"]["weights"] = weights and weights_name(weights)
    return recipe


def _origin(source: GeneratorSource) -> dict[str, Any]:
    """What makes a generator, but for those settings that a run may be resumed with."""
    return source.model_dump(exclude={"config"}) | {"config": source.config and fixed_settings(source.config)}
