"""Results of a study: one JSON line a cell, and what the seeds say about each arm.

    results = Results("runs/study/results.jsonl")
    if not results.has(cell):
        results.append(Result(**cell.model_dump(), rank1=..., ...))
    rows = summarise(results)

Arms are paired by seed and compared at equal iterations.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from reid_aug.errors import DataError, OutputError
from reid_aug.files import append_line

CONFIDENCE = 0.95  # of the interval around a paired difference


class Cell(BaseModel):
    """What identifies one training run of a study; hashable, so it is the key of a result."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    data_set: str
    fraction: float = Field(gt=0.0, le=1.0)
    arm: str
    generator: str | None  # None where nothing is generated
    schedule: str
    seed: int
    iterations: PositiveInt
    backbone: str
    start: str  # "scratch", or the name of the weight file trained from
    image_size: tuple[PositiveInt, PositiveInt]  # (height, width)


class Result(Cell):
    """A cell and what came out of it; scores in percent, 0..100."""

    rank1: float = Field(ge=0.0, le=100.0)
    rank5: float = Field(ge=0.0, le=100.0)
    rank10: float = Field(ge=0.0, le=100.0)
    mAP: float = Field(ge=0.0, le=100.0)
    mINP: float = Field(ge=0.0, le=100.0)
    seconds: float = Field(ge=0.0)
    real_images: int = Field(ge=0)
    synthetic_images: int = Field(ge=0)
    versions: dict[str, str]

    @property
    def cell(self) -> Cell:
        """What the result is keyed by."""
        return Cell(**self.model_dump(include=set(Cell.model_fields)))


def versions() -> dict[str, str]:
    """Versions of this package, torch, diffusers and Python, for :attr:`Result.versions`."""
    found = {"python": platform.python_version()}
    for package in ("reid-aug", "torch", "diffusers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a source tree on the path, not installed
            found[package] = "not installed"
    return found


class Results(Sequence[Result]):
    """The cells recorded in a ``results.jsonl``, in the order they were run.

    A last line that a killed run left without its end is removed on opening; that cell is run again.

    Raises:
        DataError: a complete line that is not a result, or two lines of one cell.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._results: dict[Cell, Result] = {}
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            self._remember(_parse(line, f"{self.path}, line {number}"), f"{self.path}, line {number}")
        if whole < len(content):
            os.truncate(self.path, whole)

    def __getitem__(self, index):
        return list(self._results.values())[index]

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self._results.values())

    def has(self, cell: Cell) -> bool:
        """Whether ``cell`` has been run, so that it need not be run again."""
        return cell in self._results

    def append(self, result: Result) -> None:
        """Write one line; it is on the disk when this returns.

        Raises:
            OutputError: the cell is recorded already, or the file cannot be written.
        """
        if result.cell in self._results:
            raise OutputError(f"{self.path}: already holds {result.cell!r}. Remove its line to run the cell again.")
        append_line(self.path, json.dumps(result.model_dump(mode="json"), ensure_ascii=False))
        self._results[result.cell] = result

    def _remember(self, result: Result, where: str) -> None:
        if result.cell in self._results:
            raise DataError(f"{where}: the cell of an earlier line again. Remove one of the two lines.")
        self._results[result.cell] = result


def _parse(line: bytes, where: str) -> Result:
    try:
        return Result.model_validate_json(line)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "line"
        raise DataError(f"{where}: `{field}`: {problem['msg']}. Correct or remove the line.") from None


# --- what the seeds say -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """Mean over seeds and sample standard deviation (None for one seed)."""

    mean: float
    std: float | None


@dataclass(frozen=True)
class Difference(Spread):
    """A difference to the baseline, paired by seed, in points.

    Attributes:
        pairs: seeds that both arms have.
        interval: 95 % interval of Student's t around the mean; None for one pair.
    """

    pairs: int
    interval: tuple[float, float] | None

    @property
    def verdict(self) -> str:
        """One of "gain", "loss", "noise" (zero is inside the interval) or "unknown" (one pair)."""
        if self.interval is None:
            return "unknown"
        low, high = self.interval
        return "gain" if low > 0 else "loss" if high < 0 else "noise"


@dataclass(frozen=True)
class Row:
    """One arm at one fraction, over its seeds.

    Attributes:
        cell: the first seed's cell; all but ``seed`` holds for the row.
        results: one for each seed.
        baseline: the arm the differences are to.
        rank1_difference, mAP_difference: None for the baseline itself and where no seed is shared with it.
    """

    cell: Cell
    results: tuple[Result, ...]
    baseline: str
    rank1: Spread
    mAP: Spread
    rank1_difference: Difference | None
    mAP_difference: Difference | None

    @property
    def setting(self) -> str:
        """What must be equal for rows to be compared, in words."""
        cell = self.cell
        start = "from scratch" if cell.start == "scratch" else f"from {cell.start}"
        height, width = cell.image_size
        return f"{cell.data_set}, {cell.backbone} {start}, {height}x{width}, {cell.iterations:,} iterations"

    @property
    def label(self) -> str:
        """Arm and, where it has one of another name, generator."""
        plain = self.cell.generator in (None, self.cell.arm)
        return self.cell.arm if plain else f"{self.cell.arm} ({self.cell.generator})"


def summarise(results: Iterable[Result], baseline: str = "standard") -> list[Row]:
    """Rows by setting, fraction and arm (order of first appearance), with differences to the arm ``baseline``.

    Arms are compared only at the same data set, fraction, backbone, start, image size and number of iterations.
    """
    arms: dict[Cell, list[Result]] = {}
    for result in results:
        arms.setdefault(result.cell.model_copy(update={"seed": 0}), []).append(result)
    settings = list(dict.fromkeys(_setting(arm) for arm in arms))
    references = {
        (_setting(cell), cell.fraction, result.seed): result
        for cell, group in arms.items()
        if cell.arm == baseline
        for result in group
    }
    in_order = sorted(arms, key=lambda arm: (settings.index(_setting(arm)), arm.fraction))
    return [_row(arms[arm], references, baseline) for arm in in_order]


def _setting(cell: Cell) -> tuple:
    return (cell.data_set, cell.backbone, cell.start, cell.image_size, cell.iterations)


def _row(group: list[Result], references: dict[tuple, Result], baseline: str) -> Row:
    keys = [(_setting(result), result.fraction, result.seed) for result in group if result.arm != baseline]
    pairs = [(result, references[key]) for result, key in zip(group, keys) if key in references]
    return Row(
        cell=group[0].cell,
        results=tuple(group),
        baseline=baseline,
        rank1=_spread([result.rank1 for result in group]),
        mAP=_spread([result.mAP for result in group]),
        rank1_difference=_difference([result.rank1 - reference.rank1 for result, reference in pairs]),
        mAP_difference=_difference([result.mAP - reference.mAP for result, reference in pairs]),
    )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def _difference(values: Sequence[float]) -> Difference | None:
    if not values:
        return None
    spread = _spread(values)
    interval = None
    if spread.std is not None:
        from scipy.stats import t

        half = float(t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)) * spread.std / len(values) ** 0.5
        interval = (spread.mean - half, spread.mean + half)
    return Difference(spread.mean, spread.std, len(values), interval)
