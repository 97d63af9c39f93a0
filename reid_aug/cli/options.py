"""Options that several commands share, and what they open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from reid_aug.data.market1501 import Market1501
    from reid_aug.records import Samples

Data = Annotated[Path, typer.Option(help="Market-1501 folder (bounding_box_train, bounding_box_test, query).")]
TrainingData = Annotated[Path, typer.Option(help="Market-1501 folder; its bounding_box_train is all that is read.")]
Keypoints = Annotated[
    Path | None, typer.Option(help="Key-point CSV; by default market-annotation-train.csv (and -test.csv) of --data.")
]
Fraction = Annotated[float, typer.Option(help="Share of the training images, (0, 1].")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the subset and of everything drawn at random.")]
TrainingSeed = Annotated[
    int | None,
    typer.Option(min=0, help="Seed of the subset (0 by default) and of training (the configuration's by default)."),
]
Out = Annotated[Path, typer.Option(help="Folder for the output; run the same command again to resume.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Override of the configuration, e.g. training.iterations=800.")
]
Minutes = Annotated[float | None, typer.Option(help="Stop after this long; the next run goes on from there.")]
Steps = Annotated[int | None, typer.Option(help="Sampling steps; the generator's own by default.")]
Sampler = Annotated[str | None, typer.Option(help="A diffusers scheduler class.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be decoded.")]


NO_POSES = ()
"""In place of ``keypoints`` where poses are not needed: no key-point file is read, so none can be at fault."""


def open_market(data: Path, keypoints: Path | tuple[()] | None, skip_bad: bool) -> Market1501:
    """The data set that the options name."""
    from reid_aug.data.market1501 import load_market1501

    return load_market1501(data, csv_path(keypoints), skip_bad)


def open_training_set(data: Path, keypoints: Path | tuple[()] | None, skip_bad: bool) -> Samples:
    """The training set that the options name; the other folders need not be there."""
    from reid_aug.data.market1501 import load_training_set

    return load_training_set(data, csv_path(keypoints), skip_bad)


def open_subset(data: Path, keypoints: Path | tuple[()] | None, fraction: float, seed: int, skip_bad: bool) -> Samples:
    """The training subset that the options name."""
    from reid_aug.data.subsets import take_fraction

    return take_fraction(open_training_set(data, keypoints, skip_bad), fraction, seed)


def csv_path(keypoints: Path | tuple[()] | None) -> Path | tuple[()] | None:
    """A key-point file where the user stands, or else, as it is, one in the data folder."""
    return keypoints.absolute() if isinstance(keypoints, Path) and keypoints.exists() else keypoints


def sampling_of(steps: int | None, sampler: str | None) -> dict[str, int | str]:
    """Sampling settings as a generator takes them: those of ``--steps`` and ``--sampler`` that are given."""
    return {name: value for name, value in {"steps": steps, "sampler": sampler}.items() if value is not None}


def overrides_of(settings: list[str] | None, seed: int | None) -> list[str]:
    """``--seed`` as an override of the configuration, then those of ``--set``."""
    return [*([] if seed is None else [f"training.seed={seed}"]), *(settings or ())]
