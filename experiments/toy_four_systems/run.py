"""The four systems, each trained for the same wall-clock time on drawn people; see README.md.

    python experiments/toy_four_systems/run.py train --out runs/four --minutes 10
    python experiments/toy_four_systems/run.py report --out runs/four

A run that stopped goes on where it was: a variant that has its line in results.jsonl is not trained again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torchvision.utils import make_grid, save_image

from reid_aug.config import GeneratorConfig, ReidModelConfig, load_config
from reid_aug.data.images import Images
from reid_aug.data.market1501 import Market1501
from reid_aug.data.pairs import make_pairs, sample_pairs
from reid_aug.data.toy import make_toy_market
from reid_aug.files import append_line, replacing, write_text
from reid_aug.generators.pipeline import load_generator
from reid_aug.generators.training import train_generator
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.render import limb_picture
from reid_aug.reid.model import ReidModel, build_model
from reid_aug.study.evaluate_generator import evaluate_generator
from reid_aug.study.recipe import open_augmenter

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SYSTEMS = ("pidm", "pocold", "cfld", "imagpose")
IDENTITIES, SEED, PAIRS, SHOWN = 100, 0, 200, 8
# All: a constant rate, as nobody knows how many iterations the time is good for, and eight steps of the same sampler.
SAME = ["training.iterations=1000000", "training.schedule=constant", "training.checkpoint_every=1000000",
        "training.sample_every=1000000", "training.ema_decay=0.99", "sampling.steps=8"]  # fmt: skip


def config_of(system: str, warp_prior: bool) -> GeneratorConfig:
    """A system for a CPU, with or without the part-wise warp of the source as a further input."""
    path = ROOT / "configs" / "generator" / f"{system}_toy.yaml"
    return load_config(GeneratorConfig, path, [*SAME, f"model.warp_prior={warp_prior}"])


def train(out: Path, minutes: float) -> None:
    """Train and score each variant; then the baselines that need no training."""
    market = make_toy_market(out / "toy", IDENTITIES, SEED)
    done = {line["variant"] for line in lines()}
    for warp_prior in (True, False):
        for system in SYSTEMS:
            variant = f"{system}{'+warp' if warp_prior else ''}"
            if variant in done:
                continue
            folder, seen = out / variant, []
            config = config_of(system, warp_prior)
            pairs, images = make_pairs(market.train), Images(market.train)
            started = time.process_time()
            train_generator(
                market.train, images, pairs, config, folder, minutes=minutes,
                progress=lambda iterations, loss, seen=seen: seen.append((iterations, loss)),
            )  # fmt: skip
            cpu_seconds = round(time.process_time() - started)  # how much of the core the run had
            iterations, loss = seen[-1]
            record(market, variant, folder, minutes=minutes, cpu_seconds=cpu_seconds, iterations=iterations, loss=loss)
    for name in ("warp", "copies"):
        if name not in done:
            record(market, name, name)


def record(market: Market1501, variant: str, generator: str | Path, **training: float) -> None:
    """Score a generator on drawn people it has not seen, and note it."""
    pipe = open_augmenter(str(generator))
    parameters = sum(value.numel() for value in pipe.denoiser.parameters()) if training else 0
    pairs = sample_pairs(market.gallery, PAIRS, SEED)
    scores = evaluate_generator(
        pipe, market, pairs, name=variant, seed=SEED, judge=judge(), judge_name="osnet_x0_25_toy"
    )
    line = {"variant": variant, "parameters": parameters, **training, **scores.model_dump(mode="json")}
    append_line(HERE / "results.jsonl", json.dumps(line))
    print(f"{variant}: {training}, SSIM {scores.ssim:.3f}, Rank-1 {scores.rank1:.1f}", flush=True)


def judge() -> ReidModel:
    """The shipped network of drawn people, who are none of these."""
    weights = ROOT / "reid_aug" / "weights" / "osnet_x0_25_toy.safetensors"
    config = ReidModelConfig(backbone="osnet_x0_25", weights=str(weights), image_size=(128, 64))
    return build_model(config, num_classes=2).eval()


def report(out: Path) -> None:
    """Write table.md, and a sheet with and one without the warp prior: the same sources and poses in every line.

    A sheet shows all four systems, so it waits until all are trained.
    """
    market = make_toy_market(out / "toy", IDENTITIES, SEED)
    test = market.gallery
    of_name = {sample.name: position for position, sample in enumerate(test)}
    chosen = sample_pairs(test, PAIRS, SEED)[:: PAIRS // SHOWN][:SHOWN]
    source, target = (test.at([of_name[pair[side]] for pair in chosen]) for side in (0, 1))
    poses = [[samples.poses[sample.name] for sample in samples] for samples in (source, target)]
    pixels = [Images(samples).batch(range(SHOWN)) for samples in (source, target)]
    limbs = limb_picture(PoseBatch.stack(poses[1]), (128, 64))
    trained = {line["variant"] for line in lines()}
    for name, ending in (("with", "+warp"), ("without", "")):
        if not all(f"{system}{ending}" in trained for system in SYSTEMS):
            continue
        made = [
            load_generator(out / f"{system}{ending}")(pixels[0], *poses, seeds=range(SHOWN), output_type="uint8").images
            for system in SYSTEMS
        ]
        rows = torch.cat([pixels[0], limbs, *made, pixels[1]])
        with replacing(HERE / f"sheet-{name}-warp-prior.png") as path:
            save_image(make_grid(rows, nrow=SHOWN, padding=2, pad_value=255).float() / 255, path, format="png")
    write_text(HERE / "table.md", table())


def table() -> str:
    """The lines of results.jsonl in Markdown."""
    columns = {
        "variant": "", "parameters": ",", "cpu_seconds": "", "iterations": ",", "ssim": ".3f", "ssim_uniform": ".3f",
        "psnr": ".2f", "masked_ssim": ".3f", "masked_psnr": ".2f", "rank1": ".1f", "mAP": ".1f",
    }  # fmt: skip
    heads = (
        "variant", "parameters", "CPU s", "iterations", "SSIM", "SSIM-51", "PSNR", "M-SSIM", "M-PSNR", "Rank-1", "mAP",
        "s an image",
    )  # fmt: skip
    rows = [heads, ["---"] * len(heads)]
    for line in lines():
        cells = [format(line[name], style) if line.get(name) else "" for name, style in columns.items()]
        rows.append([*cells, f"{line['seconds'] / line['pairs']:.3f}"])
    source = next(iter(lines()))
    marks = f"The sources themselves: Rank-1 {source['source_rank1']:.1f}, mAP {source['source_mAP']:.1f}."
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n\n{marks}\n"


def lines() -> list[dict]:
    path = HERE / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "report"])
    parser.add_argument("--out", type=Path, required=True, help="folder of the data and the generators")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, each variant")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.command == "train":
        train(given.out, given.minutes)
    else:
        report(given.out)


if __name__ == "__main__":
    main()
