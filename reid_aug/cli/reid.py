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


@app.command("extract-features")
def extract_features_command(
    model: Annotated[Path, typer.Argument(help="Re-ID model folder.")],
    folder: Annotated[Path, typer.Argument(help="Folder of .jpg and .png images, nested as it may be.")],
    out: Annotated[Path, typer.Option(dir_okay=False, help=".npz or .safetensors file for names and features.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 128,
    skip_bad: SkipBad = False,
) -> None:
    """L2-normalised features of any folder of images, each by its path in the folder.

    Example: reid-aug extract-features runs/standard data/market/query --out query.npz
    """
    from reid_aug.data.folder import load_folder
    from reid_aug.data.images import Images
    from reid_aug.progress import Bars
    from reid_aug.reid.feature_file import feature_writer
    from reid_aug.reid.features import extract_features
    from reid_aug.reid.model import load_model

    write, loaded, samples = feature_writer(out), load_model(model), load_folder(folder, skip_bad)
    images = Images(samples, loaded.config.image_size)
    with Bars() as bars:
        features = extract_features(
            loaded, images, batch_size, progress=lambda done, total: bars("features", done, total)
        )
    write([sample.path.relative_to(folder).as_posix() for sample in samples], features)
    say(f"features: {out}   {len(features):,} images x {features.shape[1]}")


@app.command("export")
def export_command(
    model: Annotated[Path, typer.Argument(help="Re-ID model folder.")],
    out: Annotated[Path, typer.Option(dir_okay=False, help="ONNX file.")],
) -> None:
    """The model as ONNX: uint8 RGB images in, L2-normalised features out; checked against the model in onnxruntime.

    Example: reid-aug export runs/standard --out standard.onnx
    """
    from reid_aug.reid.export import export_onnx
    from reid_aug.reid.model import load_model

    export_onnx(load_model(model), out)
    say(f"ONNX model: {out}")
