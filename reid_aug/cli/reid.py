"""The command that trains a re-ID model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reid_aug.cli.app import app, say
from reid_aug.cli.options import (
    NO_POSES,
    Fraction,
    Out,
    SkipBad,
    TrainingData,
    TrainingSeed,
    open_subset,
    overrides_of,
)
from reid_aug.errors import ConfigError

if TYPE_CHECKING:
    from reid_aug.config import ScheduleConfig

SCHEDULE_HELP = (
    "How generated images enter a batch. none, the default: real ones alone; concat: drawn from both together; "
    "fixed_ratio: so many of each identity; finetune: real ones first, later both; auxiliary: beside a full batch of "
    "real ones. Its settings: --set schedule.synthetic=2; docs/schedules.md has them."
)


@app.command("train-reid")
def train_reid_command(
    config: Annotated[Path, typer.Argument(help="Re-ID configuration, e.g. configs/reid/osnet_x0_25.yaml.")],
    data: TrainingData,
    out: Out,
    fraction: Fraction = 1.0,
    seed: TrainingSeed = None,
    store: Annotated[Path | None, typer.Option(help="Generated set to mix in.")] = None,
    schedule: Annotated[str | None, typer.Option(help=SCHEDULE_HELP)] = None,
    holdout: Annotated[float | None, typer.Option(help="Share of the identities to hold out and score on.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override, e.g. training.iterations=800, or of the schedule: schedule.synthetic=2."),
    ] = None,
    skip_bad: SkipBad = False,
) -> None:
    """Train a BoT re-ID model on real images and, by the schedule, generated ones.

    Example: reid-aug train-reid configs/reid/osnet_x0_25.yaml --data data/market --fraction 0.2 --out runs/standard
    """
    from reid_aug.config import ReidConfig, load_config
    from reid_aug.progress import Bars
    from reid_aug.study.recipe import train_reid

    of_schedule = [setting for setting in settings or () if setting.lstrip().startswith("schedule.") and "=" in setting]
    of_config = [setting for setting in settings or () if setting not in of_schedule]
    resolved = load_config(ReidConfig, config, overrides_of(of_config, seed))
    mixing = _schedule_of(schedule, of_schedule)
    subset = open_subset(data, NO_POSES, fraction, seed or 0, skip_bad)
    with Bars() as bars:
        trained = train_reid(
            subset,
            store,
            schedule=mixing,
            config=resolved,
            holdout=holdout,
            out=out,
            progress=bars,
        )
    if trained.holdout is not None:
        say(f"held-out identities: {trained.holdout}")
    say(f"re-ID model: {out}   score it: reid-aug evaluate reid {out} --data {data}")


def _schedule_of(policy: str | None, overrides: list[str]) -> ScheduleConfig:
    """The schedule of ``--schedule`` and of the ``--set schedule.FIELD=VALUE`` beside it.

    Raises:
        ConfigError: the policy is named twice; an unknown field, or a bad value.
    """
    from reid_aug.config import ScheduleConfig, build_config

    fields = [override.lstrip().removeprefix("schedule.") for override in overrides]
    given = build_config(ScheduleConfig, {}, fields, where="schedule").model_dump(exclude_unset=True)
    if policy is not None and "policy" in given:
        raise ConfigError(
            f"--schedule {policy}: --set schedule.policy={given['policy']} names the policy, too. Give one of them."
        )
    return build_config(ScheduleConfig, given if policy is None else {**given, "policy": policy}, where="schedule")


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
