"""The Typer application and how it prints: results on standard output, complaints on standard error."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

import reid_aug
from reid_aug.errors import ReidAugError

app = typer.Typer(no_args_is_help=True, add_completion=False)
data_app = typer.Typer(no_args_is_help=True, help="Make and check data sets.")
evaluate_app = typer.Typer(no_args_is_help=True, help="Score a re-ID model, or a generator.")
pose_app = typer.Typer(no_args_is_help=True, help="Find key points.")
bench_app = typer.Typer(no_args_is_help=True, help="Measure speed against a named alternative, in one run.")
app.add_typer(data_app, name="data")
app.add_typer(pose_app, name="pose")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(bench_app, name="bench")


def _version(wanted: bool) -> None:
    if wanted:
        say(f"reid-aug {reid_aug.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Pose-guided diffusion augmentation for re-ID."""


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
