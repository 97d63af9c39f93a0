"""Commands that measure speed against a named alternative, in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid_aug.cli.app import bench_app, say
from reid_aug.cli.options import NO_POSES, Keypoints, Settings, SkipBad, TrainingData, open_market, open_training_set


@bench_app.command("reid")
def bench_reid(
    model: Annotated[Path | None, typer.Option(help="Re-ID model folder whose features of --data to evaluate.")] = None,
    data: Annotated[Path | None, typer.Option(help="Market-1501 folder; drawn features of its size without.")] = None,
) -> None:
    """Evaluation and training speed beside torchreid's, and re-ranking's.

    Example: reid-aug bench reid --model runs/standard --data data/market
    """
    from reid_aug.errors import ConfigError
    from reid_aug.reid.model import load_model
    from reid_aug.study.bench_evaluation import bench_evaluation, bench_reranking, clustered, extracted
    from reid_aug.study.bench_training import bench_training
    from reid_aug.study.tables import facts_table

    if (model is None) != (data is None):
        raise ConfigError("--model and --data: the features are the model's of the data. Give both, or neither.")
    source = None if model is None else (load_model(model), open_market(data, NO_POSES, False))
    # First: the other two keep freed memory, which would speed up torchreid's training too.
    say(facts_table("Training, one machine, same model, size and batch", bench_training()))
    query, gallery = clustered() if source is None else extracted(*source)
    size = f"{len(query.features):,} queries x {len(gallery.features):,} gallery images"
    say(facts_table(f"Evaluation, {size}", bench_evaluation(query, gallery)))
    say(facts_table(f"k-reciprocal re-ranking, {size}", bench_reranking(query, gallery)))


@bench_app.command("generators")
def bench_generators_command(
    configs: Annotated[list[Path] | None, typer.Argument(help="Generator configurations to measure.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Of the batch measured beside one image.")] = 64,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Sampling steps to measure; all on a GPU, 3 on a CPU by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="JSON file to write the rows to.")] = None,
) -> None:
    """Parameters, operations, seconds and memory of each system at its Market-1501 configuration.

    Example: reid-aug bench generators configs/generator/pidm_market.yaml --batch-size 16
    """
    from reid_aug.files import check_place, write_json
    from reid_aug.progress import Bars
    from reid_aug.study.bench_generators import bench_generators
    from reid_aug.study.tables import comparisons_table, costs_table

    if out is not None:
        check_place(out)
    with Bars() as bars:
        rows = bench_generators(
            configs or None, batch_size, steps, progress=lambda done, total, note: bars("bench", done, total, note)
        )
    say(costs_table(rows))
    say(comparisons_table(rows))
    if out is not None:
        write_json(out, {"rows": rows})
        say(f"rows: {out}")


@bench_app.command("train-generator")
def bench_train_generator(
    config: Annotated[Path, typer.Argument(help="Generator configuration, e.g. configs/generator/pidm_market.yaml.")],
    data: TrainingData,
    keypoints: Keypoints = None,
    settings: Settings = None,
    skip_bad: SkipBad = False,
) -> None:
    """A generator's training loop beside its bare forward and backward step, in images a second.

    Example: reid-aug bench train-generator configs/generator/pidm_market.yaml --data data/market
    """
    from reid_aug.config import GeneratorConfig, load_config
    from reid_aug.data.images import Images
    from reid_aug.data.pairs import make_pairs
    from reid_aug.study.bench_loop import bench_loop
    from reid_aug.study.tables import facts_table

    resolved = load_config(GeneratorConfig, config, settings or ())
    train = open_training_set(data, keypoints, skip_bad)
    images = Images(train, resolved.model.image_size)
    say(facts_table("Generator training", bench_loop(train, images, make_pairs(train), resolved)))


@bench_app.command("pose")
def bench_pose() -> None:
    """Part-wise warp and toy drawing, in images a second.

    Example: reid-aug bench pose
    """
    from reid_aug.study.bench import bench_drawing, bench_warp
    from reid_aug.study.tables import facts_table

    say(facts_table("Part-wise warp, 128x64", bench_warp()))
    say(facts_table("Toy Market-1501, drawn and written", bench_drawing()))
