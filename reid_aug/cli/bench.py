"""Commands that measure speed against a named alternative, in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_aug.cli.app import bench_app, say


@bench_app.command("reid")
def bench_reid() -> None:
    """Evaluation and training speed beside torchreid's.

    Example: reid-aug bench reid
    """
    from reid_aug.reid.bench import bench_evaluation
    from reid_aug.reid.bench_training import bench_training
    from reid_aug.study.tables import facts_table

    say(facts_table("Evaluation, 3,368 queries x 15,913 gallery images", bench_evaluation()))
    say(facts_table("Training, one machine, same model, size and batch", bench_training()))


@bench_app.command("generators")
def bench_generators_command(
    configs: Annotated[list[Path] | None, typer.Argument(help="Generator configurations to measure.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Of the batch measured beside one image.")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps; each configuration's own by default.")] = None,
) -> None:
    """Parameters, operations, seconds and memory of each system at its Market-1501 configuration.

    Example: reid-aug bench generators configs/generator/pidm_market.yaml --steps 2
    """
    from reid_aug.study.bench_generators import bench_generators
    from reid_aug.study.tables import facts_table

    for row in bench_generators(configs or None, batch_size, steps):
        say(facts_table(row["system"], row))


@bench_app.command("pose")
def bench_pose() -> None:
    """Part-wise warp and toy drawing, in images a second.

    Example: reid-aug bench pose
    """
    from reid_aug.study.bench import bench_drawing, bench_warp
    from reid_aug.study.tables import facts_table

    say(facts_table("Part-wise warp, 128x64", bench_warp()))
    say(facts_table("Toy Market-1501, drawn and written", bench_drawing()))
