"""The command line. A command parses its options and makes one call; errors print one message and exit with 2."""

from __future__ import annotations

import os
import sys
import warnings
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reid_aug.errors import OutputError, ReidAugError

if TYPE_CHECKING:
    from reid_aug.data.market1501 import Market1501
    from reid_aug.records import Samples

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Pose-guided diffusion augmentation for re-ID.")
data_app = typer.Typer(no_args_is_help=True, help="Make and check data sets.")
evaluate_app = typer.Typer(no_args_is_help=True, help="Score a re-ID model.")
pose_app = typer.Typer(no_args_is_help=True, help="Find key points.")
bench_app = typer.Typer(no_args_is_help=True, help="Measure speed against a named alternative, in one run.")
app.add_typer(data_app, name="data")
app.add_typer(pose_app, name="pose")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(bench_app, name="bench")

Data = Annotated[Path, typer.Option(help="Market-1501 folder (bounding_box_train, bounding_box_test, query).")]
Keypoints = Annotated[
    Path | None, typer.Option(help="Key-point CSV; by default market-annotation-*.csv in the data folder.")
]
Fraction = Annotated[float, typer.Option(help="Share of the training images, (0, 1].")]
Seed = Annotated[int, typer.Option(help="Seed of the subset and of everything drawn at random.")]
TrainingSeed = Annotated[
    int | None, typer.Option(help="Seed of the subset (0 by default) and of training (the configuration's by default).")
]
Out = Annotated[Path, typer.Option(help="Folder for the output; run the same command again to resume.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Override of the configuration, e.g. training.iterations=800.")
]
Minutes = Annotated[float | None, typer.Option(help="Stop after this long; the next run goes on from there.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be decoded.")]


class Poses(str, Enum):
    """Where target poses come from."""

    random = "random"
    diverse = "diverse"
    other_view = "other_view"


def main() -> None:
    """Entry point: our errors become one message and status 2."""
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")  # it warns of how its own loader is called
    warnings.filterwarnings("ignore", category=FutureWarning, module="diffusers")
    warnings.showwarning = lambda message, *_: complain(f"warning: {message}", "yellow")
    try:
        app()
    except ReidAugError as error:
        complain(f"error: {error}", "bold red")
        sys.exit(2)


def complain(text: str, style: str) -> None:
    """Print on the error stream."""
    from rich.console import Console

    Console(stderr=True).print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def say(text: object) -> None:
    """Print for the user."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120)  # of a table in a file or a pipe
    console.print(text, highlight=False, soft_wrap=isinstance(text, str), markup=not isinstance(text, str))


# --- data ---------------------------------------------------------------------------------------------------------


@app.command()
def demo(
    out: Out = Path("runs/demo"),
    from_scratch: Annotated[bool, typer.Option("--from-scratch", help="Train the generator first.")] = False,
) -> None:
    """Run the whole path on the built-in data set.

    Example: reid-aug demo --out runs/demo
    """
    from reid_aug.progress import Bars
    from reid_aug.study.demo import plan_of, run_demo

    say(plan_of(from_scratch))
    with Bars() as bars:
        outcome = run_demo(out, from_scratch, bars, say)
    say(outcome)


@data_app.command()
def toy(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    identities: Annotated[int, typer.Option(help="Training identities; as many others are for testing.")] = 48,
    seed: Seed = 0,
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

    report = check_market1501(data, _csv(keypoints))
    say(report.table())
    if report.undecodable:
        raise typer.Exit(2)


@pose_app.command()
def extract(
    images: Annotated[Path, typer.Argument(help="Folder of person images, e.g. bounding_box_train.")],
    out: Annotated[Path, typer.Option(help="Key-point CSV to write.")],
    model: Annotated[
        Path | None, typer.Option(help="RTMPose model as ONNX; by default rtmlib downloads its own, once.")
    ] = None,
) -> None:
    """Find the 18 key points of every image by RTMPose, and write them as the field's CSV.

    Example: reid-aug pose extract data/market/bounding_box_train --out data/market/market-annotation-train.csv
    """
    from reid_aug.data.images import Images
    from reid_aug.data.keypoints import write_keypoints
    from reid_aug.data.market1501 import list_images
    from reid_aug.pose.estimate import estimate_poses
    from reid_aug.progress import Bars
    from reid_aug.records import Samples

    if out.exists():
        raise OutputError(f"{out}: is there already. Name another file, or remove it.")
    samples = Samples(list_images(images))
    with Bars() as bars:
        poses = estimate_poses(Images(samples), model, progress=lambda done, total: bars("poses", done, total))
    found = {sample.name: pose for sample, pose in zip(samples, poses) if pose.visible.any()}
    write_keypoints(out, found)
    say(f"{out}: key points of {len(found):,} images; no joint found in {len(samples) - len(found):,}")


# --- generators ---------------------------------------------------------------------------------------------------


@app.command("train-generator")
def train_generator_command(
    config: Annotated[Path, typer.Argument(help="Generator configuration, e.g. configs/generator/pidm_market.yaml.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the run, which --resume continues; then the generator's.")],
    keypoints: Keypoints = None,
    fraction: Fraction = 1.0,
    seed: TrainingSeed = None,
    pairs: Annotated[Path | None, typer.Option(help="CSV of from,to pairs instead of all usable ones.")] = None,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out exactly.")] = False,
    minutes: Minutes = None,
    skip_bad: SkipBad = False,
) -> None:
    """Train a pose-guided diffusion generator on same-identity pairs.

    Example: reid-aug train-generator configs/generator/pidm_market.yaml --data data/market --out runs/pidm
    """
    from reid_aug.config import GeneratorConfig, load_config
    from reid_aug.data.images import Images
    from reid_aug.data.pairs import make_pairs, read_pairs
    from reid_aug.generators.training import train_generator
    from reid_aug.progress import Bars

    resolved = load_config(GeneratorConfig, config, _overrides(settings, seed))
    subset = _subset(data, keypoints, fraction, seed or 0, skip_bad)
    chosen = make_pairs(subset) if pairs is None else read_pairs(pairs, subset)
    total = resolved.training.iterations
    with Bars() as bars:
        train_generator(
            subset,
            Images(subset, resolved.model.image_size),
            chosen,
            resolved,
            out,
            resume=resume,
            minutes=minutes,
            progress=lambda done, loss: bars("train generator", done, total, f"loss {loss:.4f}"),
        )
    say(f"generator: {out}   sample sheets: {out / 'samples'}   logs: tensorboard --logdir {out / 'logs'}")


@app.command("generate")
def generate_command(
    data: Data,
    out: Out,
    generator: Annotated[str, typer.Option(help="Generator folder, pidm_toy, warp or copies.")] = "warp",
    keypoints: Keypoints = None,
    fraction: Fraction = 1.0,
    seed: Seed = 0,
    per_identity: Annotated[int, typer.Option(help="Images for each identity.")] = 8,
    poses: Annotated[Poses, typer.Option(help="How target poses are chosen.")] = Poses.random,
    steps: Annotated[int | None, typer.Option(help="Sampling steps; the generator's own by default.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Any diffusers scheduler class.")] = None,
    batch_size: Annotated[int, typer.Option(help="Images at once.")] = 64,
    skip_bad: SkipBad = False,
) -> None:
    """Synthesise images of the subset's people in other poses.

    Example: reid-aug generate --generator runs/pidm --data data/market --fraction 0.2 --out runs/aug
    """
    from reid_aug.progress import Bars
    from reid_aug.study.recipe import augment, open_augmenter

    subset = _subset(data, keypoints, fraction, seed, skip_bad)
    pipe = open_augmenter(generator)
    sampling = {key: value for key, value in {"steps": steps, "sampler": sampler}.items() if value is not None}
    with Bars() as bars:
        store = augment(
            subset, pipe, out, sampling=sampling, progress=bars,
            per_identity=per_identity, poses=poses.value, seed=seed, batch_size=batch_size,
        )  # fmt: skip
    say(f"{out}: {len(store)} images, manifest {out / 'manifest.jsonl'}")


@app.command("filter")
def filter_command(
    store: Annotated[Path, typer.Argument(help="Generated set, as `reid-aug generate` wrote it.")],
    judge: Annotated[Path, typer.Option(help="Re-ID model folder, as `reid-aug train-reid` wrote it.")],
    data: Data,
    keypoints: Keypoints = None,
    fraction: Fraction = 1.0,
    seed: Seed = 0,
    min_margin: Annotated[float, typer.Option(help="Least similarity to the own identity less that to another.")] = 0.0,
    skip_bad: SkipBad = False,
) -> None:
    """Keep the generated images that are still the same person; write why into the manifest.

    Example: reid-aug filter runs/aug --judge runs/standard --data data/market --fraction 0.2
    """
    from reid_aug.augment.store import Store
    from reid_aug.config import FilterConfig
    from reid_aug.reid.model import load_model
    from reid_aug.study.recipe import filter_generated

    subset = _subset(data, keypoints, fraction, seed, skip_bad)
    counts = filter_generated(Store.open(store), load_model(judge), subset, FilterConfig(min_margin=min_margin))
    say(f"{store}: kept {counts['keep']}, refused {counts['reject']}; reasons in {store / 'manifest.jsonl'}")


# --- re-ID --------------------------------------------------------------------------------------------------------


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

    resolved = load_config(ReidConfig, config, _overrides(settings, seed))
    subset = _subset(data, None, fraction, seed or 0, skip_bad)
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


@evaluate_app.command("reid")
def evaluate_reid(
    model: Annotated[Path, typer.Argument(help="Re-ID model folder.")],
    data: Data,
    rerank: Annotated[bool, typer.Option("--rerank", help="Also score with k-reciprocal re-ranking.")] = False,
    skip_bad: SkipBad = False,
) -> None:
    """Rank-1, 5, 10, mAP and mINP on query and gallery.

    Example: reid-aug evaluate reid runs/standard --data data/market
    """
    from reid_aug.reid.model import load_model
    from reid_aug.study.recipe import Evaluation
    from reid_aug.study.tables import scores_table

    loaded = load_model(model)
    evaluation = Evaluation(_market(data, None, skip_bad), loaded.config.image_size)
    rows = {"cosine": evaluation.scores(loaded)}
    if rerank:
        rows["re-ranked"] = evaluation.reranked_scores(loaded)
    say(scores_table(rows))


# --- studies ------------------------------------------------------------------------------------------------------


@app.command()
def sweep(
    config: Annotated[Path, typer.Argument(help="Study configuration, e.g. configs/study/toy.yaml.")],
    data: Data,
    out: Out,
    keypoints: Keypoints = None,
    settings: Settings = None,
    minutes: Annotated[float | None, typer.Option(help="Begin no further cell after this long.")] = None,
    skip_bad: SkipBad = False,
) -> None:
    """Run fractions x arms x seeds; cells already in results.jsonl are not run again.

    Example: reid-aug sweep configs/study/market1501_cpu.yaml --data data/market --out runs/market --minutes 120
    """
    from reid_aug.config import StudyConfig, load_config
    from reid_aug.progress import Bars
    from reid_aug.study.results import summarise, table
    from reid_aug.study.sweep import announcer, run_sweep

    resolved = load_config(StudyConfig, config, settings or ())
    market = _market(data, keypoints, skip_bad)
    with Bars() as bars:
        results = run_sweep(resolved, market, out, minutes, bars, announcer(say))
    if len(results):
        say(table(summarise(results)))
    say(f"results: {results.path} ({len(results)} cells)   page: reid-aug report {out} --data {data}")


@app.command()
def report(
    study: Annotated[Path, typer.Argument(help="Folder of a study, as `reid-aug sweep` wrote it.")],
    data: Data,
    keypoints: Keypoints = None,
    skip_bad: SkipBad = False,
) -> None:
    """Write the HTML page of a study: table, plot, generated images, ranked lists.

    Example: reid-aug report runs/market --data data/market
    """
    from reid_aug.study.pages import report_study

    say(f"report: {report_study(study, _market(data, keypoints, skip_bad))}")


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


# --- options ------------------------------------------------------------------------------------------------------


def _market(data: Path, keypoints: Path | None, skip_bad: bool) -> Market1501:
    """The data set that the options name."""
    from reid_aug.data.market1501 import load_market1501

    return load_market1501(data, _csv(keypoints), skip_bad)


def _subset(data: Path, keypoints: Path | None, fraction: float, seed: int, skip_bad: bool) -> Samples:
    """The training subset that the options name."""
    from reid_aug.data.subsets import take_fraction

    return take_fraction(_market(data, keypoints, skip_bad).train, fraction, seed)


def _csv(keypoints: Path | None) -> Path | None:
    """A key-point file where the user stands, or else, as it is, one in the data folder."""
    return keypoints.absolute() if keypoints is not None and keypoints.exists() else keypoints


def _overrides(settings: list[str] | None, seed: int | None) -> list[str]:
    """``--seed`` as an override of the configuration, then those of ``--set``."""
    return [*([] if seed is None else [f"training.seed={seed}"]), *(settings or ())]
