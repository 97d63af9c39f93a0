"""Commands that score a re-ID model, and a generator."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reid_aug.cli.app import evaluate_app, say
from reid_aug.cli.options import NO_POSES, Data, Keypoints, Sampler, SkipBad, Steps, open_market, sampling_of

if TYPE_CHECKING:
    from reid_aug.data.market1501 import Market1501


class AveragePrecision(str, Enum):
    """How a query's average precision is taken."""

    mean = "mean"
    trapezoidal = "trapezoidal"


@evaluate_app.command("reid")
def evaluate_reid_command(
    model: Annotated[Path, typer.Argument(help="Re-ID model folder.")],
    data: Annotated[
        list[Path],
        typer.Option(help="Market-1501 folder, or another set under Market-1501's file names; several: a row each."),
    ],
    rerank: Annotated[bool, typer.Option("--rerank", help="Also score with k-reciprocal re-ranking.")] = False,
    average_precision: Annotated[
        AveragePrecision, typer.Option(help="trapezoidal is the official code's.")
    ] = AveragePrecision.mean,
    single_shot: Annotated[
        int, typer.Option(min=0, help="Trials of single-gallery-shot Rank-k; 0 is Market-1501's.")
    ] = 0,
    skip_bad: SkipBad = False,
) -> None:
    """Rank-1, 5, 10, mAP and mINP on query and gallery of one data set or, cross-domain, of several.

    Example: reid-aug evaluate reid runs/standard --data data/market --data data/toy
    """
    from reid_aug.reid.model import load_model
    from reid_aug.study.evaluate_reid import evaluate_reid
    from reid_aug.study.tables import scores_table

    loaded = load_model(model)
    names = [folder.resolve().name for folder in data]
    names = names if len(set(names)) == len(names) else data
    markets = {str(name): open_market(folder, NO_POSES, skip_bad) for name, folder in zip(names, data, strict=True)}
    rows = evaluate_reid(
        loaded, markets, rerank, average_precision=average_precision.value, single_shot_trials=single_shot
    )
    say(scores_table(rows))
    if (average_precision, single_shot) != (AveragePrecision.mean, 0):
        for name, scores in rows.items():
            say(f"{name}: {scores}")


@evaluate_app.command("generator")
def evaluate_generator_command(
    generator: Annotated[str, typer.Argument(help="Generator folder, inpaint:FOLDER, pidm_toy, warp, copies.")],
    data: Data,
    keypoints: Keypoints = None,
    pairs: Annotated[Path | None, typer.Option(help="CSV of from,to test pairs; by default some are drawn.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Pairs of gallery images to draw where no CSV is given.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the drawn pairs and of the images.")] = 0,
    steps: Steps = None,
    sampler: Sampler = None,
    judge: Annotated[Path | None, typer.Option(help="Re-ID model folder, for the identity measure.")] = None,
    pose_model: Annotated[Path | None, typer.Option(help="RTMPose model as ONNX, for the pose measure.")] = None,
    lpips_weights: Annotated[Path | None, typer.Option(help="File of torchvision's AlexNet, or its folder.")] = None,
    fid_weights: Annotated[Path | None, typer.Option(help="File of torch-fidelity's Inception, or its folder.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 64,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="JSON-lines file to add the scores to.")] = None,
    skip_bad: SkipBad = False,
) -> None:
    """Image quality, identity and pose of generated images of test people, against the real ones.

    Example: reid-aug evaluate generator runs/pidm --data data/market --judge runs/standard --out runs/generators.jsonl
    """
    import torch

    from reid_aug.metrics.fid import load_inception
    from reid_aug.metrics.image import Lpips
    from reid_aug.pose.estimate import PoseEstimator
    from reid_aug.progress import Bars
    from reid_aug.reid.model import load_model
    from reid_aug.study.evaluate_generator import evaluate_generator
    from reid_aug.study.recipe import open_augmenter
    from reid_aug.study.tables import generator_table

    device = "cuda" if torch.cuda.is_available() else "cpu"
    networks = {
        "judge": None if judge is None else load_model(judge),
        "estimate": None if pose_model is None else PoseEstimator(pose_model),
        "lpips": None if lpips_weights is None else Lpips(lpips_weights, device=device),
        "inception": None if fid_weights is None else load_inception(fid_weights, device),
    }
    market = open_market(data, keypoints, skip_bad)
    with Bars() as bars:
        scores = evaluate_generator(
            open_augmenter(generator),
            market,
            _test_pairs(market, pairs, count, seed),
            name=generator,
            seed=seed,
            sampling=sampling_of(steps, sampler),
            batch_size=batch_size,
            judge_name=str(judge),
            progress=bars,
            **networks,
        )
    say(generator_table([scores]))
    needed = ("identity (--judge)", "pose (--pose-model)", "LPIPS (--lpips-weights)", "FID (--fid-weights)")
    left_out = [measure for measure, network in zip(needed, networks.values(), strict=True) if network is None]
    if left_out:
        say(f"not scored, for no model was given: {', '.join(left_out)}")
    if out is not None:
        scores.append_to(out)
        say(f"line added to {out}")


def _test_pairs(market: Market1501, csv: Path | None, count: int, seed: int) -> list[tuple[str, str]]:
    from reid_aug.data.pairs import read_pairs, sample_pairs

    if csv is not None:
        return read_pairs(csv, market.gallery + market.query)
    return sample_pairs(market.gallery, count, seed)
