"""The command that trains a re-ID model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_aug.cli.app import app, say
from reid_aug.cli.options import (
    Data,
    Fraction,
    Out,
    Settings,
    SkipBad,
    TrainingSeed,
    open_subset,
    overrides_of,
)


@app.command("train-reid")
def train_reid_command(
    config: Annotated[Path, typer.Argument(help="Re-ID configuration, e.g. configs/reid/osnet_x0_25.yaml.")],
    data: Data,
    out: Out,
    fraction: Fraction = 1.0,
    seed: TrainingSeed = None,
    store: Annotated[Path | None, typer.Option(help="Generated set to mix in.")] = None,
    schedule: Annotated[str, typer.Option(help="none, concat, fixed_ratio, finetune or auxiliary.")] = "none",
    holdout: Annotated[float | None, typer.Option(help="Share of the identities to hold out and score on.")] = None,
    settings: Settings = None,
    skip_bad: SkipBad = False,
) -> None:
    """Train a BoT re-ID model on real images and, by the schedule, generated ones.

    Example: reid-aug train-reid configs/reid/osnet_x0_25.yaml --data data/market --fraction 0.2 --out runs/standard
    """
    from reid_aug.augment.store import Store
    from reid_aug.config import ReidConfig, load_config
    from reid_aug.progress import Bars
    from reid_aug.study.recipe import train_reid

    resolved = load_config(ReidConfig, config, overrides_of(settings, seed))
    subset = open_subset(data, None, fraction, seed or 0, skip_bad)
    with Bars() as bars:
        trained = train_reid(
            subset,
            None if store is None else Store.open(store),
            schedule=schedule,
            config=resolved,
            holdout=holdout,
            out=out,
            progress=bars,
        )
    if trained.holdout is not None:
        say(f"held-out identities: {trained.holdout}")
    say(f"re-ID model: {out}   score it: reid-aug evaluate reid {out} --data {data}")
