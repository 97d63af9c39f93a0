"""A study: every cell of fractions x seeds x arms that has no result yet, one after another."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from reid_aug.config import StudyConfig, load_config, save_config
from reid_aug.data.market1501 import Market1501
from reid_aug.errors import ConfigError, OutputError
from reid_aug.study.recipe import Progress, Study, run_cell, silent
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
        config: the study; saved as ``out/study.yaml``.
        market: the data set.
        out: folder of the study.
        minutes: no cell is begun after this long.
        progress: called by every stage of a cell.
        announce: called before a cell (result None) and after it.

    Raises:
        OutputError: ``out`` holds another study's files.
    """
    out = Path(out)
    _claim(out, config)
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
        if minutes is not None and time.monotonic() - started > 60 * minutes:
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


def _add_seconds(path: Path, seconds: dict[str, float]) -> None:
    """Add to the time spent by stage that the folder records."""
    total = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for stage, spent in seconds.items():
        total[stage] = total.get(stage, 0.0) + spent
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(total, indent=2), encoding="utf-8")
    os.replace(partial, path)


def _claim(out: Path, config: StudyConfig) -> None:
    """Make the folder this study's, or find that it is already.

    Fractions, seeds and arms may be added from one run to the next; what they share must stay as it was.
    """
    path = out / "study.yaml"
    if path.exists():
        try:
            there = load_config(StudyConfig, path)
        except ConfigError as error:
            raise OutputError(f"{out}: holds a study of another version: {error} Name another folder.") from None
        changed = [name for name in ("data_set", "reid", "sampling") if getattr(there, name) != getattr(config, name)]
        changed += [f"arms.{arm}" for arm in there.arms if config.arms.get(arm, there.arms[arm]) != there.arms[arm]]
        if changed:
            raise OutputError(
                f"{out}: holds a study with other settings ({', '.join(changed)}). Name another folder."
            )
    elif out.exists() and any(out.iterdir()):
        raise OutputError(f"{out}: not empty, and not a study. Name another folder.")
    out.mkdir(parents=True, exist_ok=True)
    save_config(config, path)
