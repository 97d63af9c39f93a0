"""Commands that run a whole study."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from reid_aug.cli.app import app, say
from reid_aug.cli.options import Data, Keypoints, Out, Settings, SkipBad, open_market
from reid_aug.errors import ConfigError


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


class Stage(str, Enum):
    """How far a sweep goes."""

    generators = "generators"
    images = "images"
    results = "results"


@app.command()
def sweep(
    config: Annotated[Path, typer.Argument(help="Study configuration, e.g. configs/study/toy.yaml.")],
    data: Data,
    out: Out,
    keypoints: Keypoints = None,
    settings: Settings = None,
    until: Annotated[
        Stage, typer.Option(help="Stop once all generators are trained, or all images drawn; both need no re-ID.")
    ] = Stage.results,
    minutes: Annotated[
        float | None, typer.Option(help="Begin no further cell after this long; a generator's work stops, to go on.")
    ] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Run fractions and seeds side by side: on this machine, or RAY_ADDRESS's.")
    ] = False,
    skip_bad: SkipBad = False,
) -> None:
    """Run fractions x arms x seeds; what an earlier run left is not done again.

    Example: reid-aug sweep configs/study/market1501_cpu.yaml --data data/market --out runs/market --minutes 120
    """
    from reid_aug.config import StudyConfig, load_config
    from reid_aug.progress import Bars
    from reid_aug.study import cluster
    from reid_aug.study.results import summarise
    from reid_aug.study.results_table import table
    from reid_aug.study.sweep import announcer, generate_sets, run_cells, run_sweep, train_generators

    if ray and until is not Stage.results:
        raise ConfigError("--ray: runs whole cells. Leave it out, or --until.")
    resolved = load_config(StudyConfig, config, settings or ())
    market = open_market(data, keypoints, skip_bad)
    with Bars() as bars:
        if until is Stage.generators:
            folders = train_generators(resolved, market, out, minutes, bars)
            say(f"trained to the end: {', '.join(map(str, folders)) or 'none yet'}")
        elif until is Stage.images:
            for store in generate_sets(resolved, market, out, minutes, bars):
                say(f"{store.folder}: {len(store)} images")
        else:
            run = cluster.run_cells if ray else run_cells
            results = run_sweep(resolved, market, out, minutes, bars, announcer(say), run)
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

    say(f"report: {report_study(study, open_market(data, keypoints, skip_bad))}")
