"""Commands that make and check data sets, and find key points."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_aug.cli.app import data_app, pose_app, say
from reid_aug.cli.options import Data, Fraction, Keypoints, SkipBad, csv_path, open_market, open_training_set
from reid_aug.errors import OutputError


@data_app.command()
def toy(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    identities: Annotated[int, typer.Option(help="Training identities; as many others are for testing.")] = 48,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the people and their images.")] = 0,
) -> None:
    """Draw a synthetic Market-1501 with exact key points and part maps.

    Example: reid-aug data toy data/toy --identities 48
    """
    from reid_aug.data.toy import make_toy_market

    market = make_toy_market(out, identities=identities, seed=seed)
    say(f"{out}: {len(market.train)} train, {len(market.query)} query, {len(market.gallery)} gallery images")


@data_app.command()
def check(data: Annotated[Path, typer.Argument(help="Market-1501 folder.")], keypoints: Keypoints = None) -> None:
    """Read every image and key point of a data set and say what is there.

    Example: reid-aug data check data/Market-1501-v15.09.15
    """
    from reid_aug.data.check import check_market1501

    report = check_market1501(data, csv_path(keypoints))
    say(report.table())
    if report.undecodable:
        raise typer.Exit(2)


@data_app.command()
def holdout(
    data: Annotated[Path, typer.Argument(help="Market-1501 folder, whose training identities are split.")],
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    share: Annotated[float, typer.Option(help="Share of the identities that become query and gallery.")] = 0.2,
    keypoints: Keypoints = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    skip_bad: SkipBad = False,
) -> None:
    """Make a data set of the training identities alone, to tune on without looking at query and gallery.

    Example: reid-aug data holdout data/market data/tune
    """
    from reid_aug.data.holdout import make_holdout_market

    market = make_holdout_market(open_training_set(data, keypoints, skip_bad), out, share, seed)
    say(f"{out}: {len(market.train)} train, {len(market.query)} query, {len(market.gallery)} gallery images")


@data_app.command()
def merge(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    data: Data,
    fraction: Fraction = 1.0,
    store: Annotated[Path | None, typer.Option(help="Generated set of this subset; its kept images join it.")] = None,
    keypoints: Keypoints = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the subset.")] = 0,
    skip_bad: SkipBad = False,
) -> None:
    """Make a data set of a training subset and its generated images, with query and gallery, for other re-ID libraries.

    Example: reid-aug data merge data/augmented --data data/market --fraction 0.2 --store runs/aug
    """
    from reid_aug.augment.merge import write_merged
    from reid_aug.augment.store import Store
    from reid_aug.data.subsets import take_fraction

    market = open_market(data, keypoints, skip_bad)
    subset = take_fraction(market.train, fraction, seed)
    made = write_merged(out, market, subset, None if store is None else Store.open(store))
    say(
        f"{out}: {len(subset)} real and {len(made.train) - len(subset)} generated training images, "
        f"{len(made.query)} query, {len(made.gallery)} gallery images"
    )


@pose_app.command()
def extract(
    images: Annotated[Path, typer.Argument(help="Folder of person images, e.g. bounding_box_train.")],
    out: Annotated[Path, typer.Option(help="Key-point CSV to write.")],
    model: Annotated[
        Path | None, typer.Option(help="RTMPose model as ONNX; by default rtmlib downloads its own, once.")
    ] = None,
    skip_bad: SkipBad = False,
) -> None:
    """Find the 18 key points of every image by RTMPose, and write them as the field's CSV.

    Example: reid-aug pose extract data/market/bounding_box_train --out data/market/market-annotation-train.csv
    """
    from reid_aug.data.images import Images
    from reid_aug.data.keypoints import write_keypoints
    from reid_aug.data.market1501 import leave_out_undecodable, list_images
    from reid_aug.files import check_place
    from reid_aug.pose.estimate import PoseEstimator
    from reid_aug.progress import Bars
    from reid_aug.records import Samples

    if out.exists():
        raise OutputError(f"{out}: is there already. Name another file, or remove it.")
    check_place(out)
    found = list_images(images)
    samples = Samples(leave_out_undecodable(found) if skip_bad else found)
    estimate = PoseEstimator(model)
    with Bars() as bars:
        poses = estimate(Images(samples), progress=lambda done, total: bars("poses", done, total))
    seen = {sample.name: pose for sample, pose in zip(samples, poses) if pose.visible.any()}
    write_keypoints(out, seen)
    say(f"{out}: key points of {len(seen):,} images; no joint found in {len(samples) - len(seen):,}")
