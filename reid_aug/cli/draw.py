"""The command that shows what a generator can do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_aug.cli.app import app, say
from reid_aug.cli.options import Data, Keypoints, Sampler, Steps, open_market, sampling_of

Names = list[str] | None


@app.command("draw")
def draw_command(
    data: Data,
    generator: Annotated[str, typer.Option(help="Generator folder, or pidm_toy.")],
    out: Annotated[Path, typer.Option(dir_okay=False, help="PNG sheet to write.")],
    source: Annotated[Names, typer.Option(help="Image of the person; repeat it for more; none: poses alone.")] = None,
    pose: Annotated[Names, typer.Option(help="Image whose pose to take; repeat it for more.")] = None,
    reference: Annotated[str | None, typer.Option(help="Image to change inside --mask; its pose is taken.")] = None,
    mask: Annotated[str | None, typer.Option(help="head, upper, lower, person, or a PNG, white inside.")] = None,
    towards: Annotated[Names, typer.Option(help="Image of a second person, to interpolate to.")] = None,
    frames: Annotated[int, typer.Option(help="Images from --source to --towards, both ends included.")] = 5,
    images: Annotated[Path | None, typer.Option(file_okay=False, help="Folder for the images made, too.")] = None,
    keypoints: Keypoints = None,
    seed: Annotated[int, typer.Option(help="Of the first image; the others count on from it.")] = 0,
    steps: Steps = None,
    sampler: Sampler = None,
) -> None:
    """Draw people in other poses, in other clothes, or between two people; images are named by their files.

    Example: reid-aug draw --data data/toy --generator pidm_toy --source 0002_c1s1_098385_03.jpg --pose 0004_c4s1_047792_02.jpg --out sheet.png
    """  # noqa: E501
    from reid_aug.generators.pipeline import load_generator
    from reid_aug.study.draw import draw

    drawing = draw(
        load_generator(generator), open_market(data, keypoints, skip_bad=False),
        sources=source or (), poses=pose or (), reference=reference, mask=mask, towards=towards or (),
        frames=frames, seed=seed, **sampling_of(steps, sampler),
    )  # fmt: skip
    drawing.write(out, images)
    say(f"sheet: {out}" if images is None else f"sheet: {out}   images: {images}")
