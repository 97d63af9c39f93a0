from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import reid_aug


@pytest.mark.parametrize("name", [name for name in reid_aug.__all__ if name != "__version__"])
def test_every_public_name_is_there_and_says_what_it_is(name):
    assert getattr(reid_aug, name).__doc__


def test_dir_lists_the_public_names():
    assert dir(reid_aug) == sorted(reid_aug.__all__)
    assert len(set(reid_aug.__all__)) == len(reid_aug.__all__)


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="module 'reid_aug' has no attribute 'augmnet'"):
        reid_aug.augmnet  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'augmnet'"):
        from reid_aug import augmnet  # noqa: F401


def test_the_version_is_the_packages():
    assert reid_aug.__version__ == version("reid-aug")
    printed = subprocess.run([sys.executable, "-m", "reid_aug", "--version"], capture_output=True, text=True)
    assert printed.stdout == f"reid-aug {reid_aug.__version__}\n", printed.stderr


def test_the_docstrings_lines_use_public_names():
    code = "".join(line[4:] for line in reid_aug.__doc__.splitlines(True) if line.startswith("    "))
    ast.parse(code)
    used = re.findall(r"reid_aug\.(\w+)", code)
    assert len(used) == 6
    assert set(used) <= set(reid_aug.__all__)


def test_the_docstrings_configuration_is_the_shipped_bot():
    (line,) = [line for line in reid_aug.__doc__.splitlines() if "ReidConfig" in line]
    namespace: dict = {"reid_aug": reid_aug}
    exec(line.strip(), namespace)
    shipped = Path(__file__).parents[1] / "configs" / "reid" / "bot_resnet50.yaml"
    assert namespace["config"] == reid_aug.load_config(reid_aug.ReidConfig, shipped)
