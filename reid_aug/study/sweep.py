"""A study: every cell of fractions x seeds x arms that has no result yet, one after another."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from reid_aug.config import StudyConfig, load_config, save_config
from reid_aug.data.market1501 import Market1501
from reid_aug.errors import ConfigError, DataError, OutputError
from reid_aug.files import write_json
from reid_aug.study.cell import Study, run_cell
from reid_aug.study.recipe import Progress, silent
from reid_aug.study.results import Cell, Result, Results

Announce = Callable[[int, int, Cell, Result | None], None]  # position, cells in all, the cell, its result once there


def run_sweep(
    config: StudyConfig,
    market: Market1501,
    out: str | Path,
    minutes: float | None = None,
    progress: Progress = silent,
    announce: Announce = lambda position, total, cell, result: None,
) -> Results:
    """Run the study's cells; those already in ``out/results.jsonl`` are not run again.

    Args:
        config: the study; saved as ``out/study.yaml``. Fractions, seeds, arms and generators may be added from one run
            to the next.
        market: the data set.
        out: folder of the study.
        minutes: no cell is begun after this long.
        progress: called by every stage of a cell.
        announce: called before a cell (result None) and after it.

    Raises:
        OutputError: ``out`` holds another study's files.
        DataError: ``out`` holds results of another data set.
    """
    out = Path(out)
    _claim(out, config)
    check_data(out, market)
    results = Results(out / "results.jsonl")
    study = Study(config, market, out, progress)
    # The standard arm of a fraction and seed comes first: its model judges the other arms' images.
    arms = ["standard", *(arm for arm in config.arms if arm != "standard")]
    cells = [(arm, fraction, seed) for fraction in config.fractions for seed in config.seeds for arm in arms]
    started = time.monotonic()
    for position, (arm, fraction, seed) in enumerate(cells, start=1):
        cell = study.cell(arm, fraction, seed)
        if results.has(cell):
            continue
        if minutes is not None and time.monotonic() - started >= 60 * minutes:
            break
        announce(position, len(cells), cell, None)
        result = run_cell(study, arm, fraction, seed)
        results.append(result)
        _add_seconds(out / "stages.json", study.seconds)
        study.seconds.clear()
        announce(position, len(cells), cell, result)
    return results


def announcer(say: Callable[[str], None]) -> Announce:
    """An ``announce`` that says a line when a cell is done."""

    def announce(position: int, total: int, cell: Cell, result: Result | None) -> None:
        if result is not None:
            say(
                f"[{position}/{total}] {cell.fraction:.0%} {cell.arm} seed {cell.seed}: Rank-1 {result.rank1:.1f}, "
                f"mAP {result.mAP:.1f} ({result.real_images} real + {result.synthetic_images} generated images, "
                f"{result.seconds:.0f} s)"
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


def _add_seconds(path: Path, seconds: dict[str, float]) -> None:
    """Add to the time spent by stage that the folder records."""
    total = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for stage, spent in seconds.items():
        total[stage] = total.get(stage, 0.0) + spent
    write_json(path, total)


def _claim(out: Path, config: StudyConfig) -> None:
    """Make the folder this study's, or find that it is already; ``study.yaml`` then has what both ask for."""
    path = out / "study.yaml"
    if path.exists():
        try:
            there = load_config(StudyConfig, path)
        except ConfigError as error:
            raise OutputError(f"{out}: holds a study of another version: {error} Name another folder.") from None
        config = _joined(there, config, out)
    elif out.exists() and not all(file.name.endswith(".tmp") for file in out.iterdir()):
        raise OutputError(f"{out}: not empty, and not a study. Name another folder.")
    out.mkdir(parents=True, exist_ok=True)
    save_config(config, path)


def _joined(there: StudyConfig, asked: StudyConfig, out: Path) -> StudyConfig:
    """Both studies in one; what they share must be equal."""
    changed = [name for name in ("data_set", "reid", "sampling") if getattr(there, name) != getattr(asked, name)]
    for kind in ("arms", "generators"):
        old, new = getattr(there, kind), getattr(asked, kind)
        changed += [f"{kind}.{name}" for name in old if new.get(name, old[name]) != old[name]]
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
