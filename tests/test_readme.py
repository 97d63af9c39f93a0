"""The README's Python runs, and its table of commands is that of the program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from test_cli import leaves

from reid_aug.cli import app

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8") if README.exists() else ""
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def test_the_readme_has_python():
    assert BLOCKS


@pytest.mark.slow
def test_the_python_runs(tmp_path, monkeypatch):
    """Blocks run in order in one namespace, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    namespace: dict = {"__name__": "readme"}
    for number, block in enumerate(BLOCKS, start=1):
        exec(compile(block, f"README.md, python block {number}", "exec"), namespace)


def test_the_table_names_every_command():
    """A row of the table begins with the command: | `reid-aug data toy` ... |, with or without ``reid-aug``."""
    commands = set(leaves(typer.main.get_command(app)))
    rows = re.findall(r"^\|\s*`(?:reid-aug )?([a-z][^`]*)`", TEXT, re.MULTILINE)
    named = {max((name for name in commands if f"{row} ".startswith(f"{name} ")), key=len, default=row) for row in rows}
    assert named & commands == commands
    groups = {name.split()[0] for name in commands}
    assert {name for name in named if name.split()[0] in groups} <= commands
