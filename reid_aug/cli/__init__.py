"""The command line. A command parses its options and makes one call; errors print one message and exit with 2."""

from reid_aug.cli import study, data, generators, draw, reid, evaluate, bench  # isort: skip - in the order of `reid-aug --help`
from reid_aug.cli.app import app, main

__all__ = ["app", "bench", "data", "draw", "evaluate", "generators", "main", "reid", "study"]
