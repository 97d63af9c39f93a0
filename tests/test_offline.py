"""Generators are trained and used on a machine that has only the wheels that docs/offline.md lists."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import tiny_configs
import yaml

PAGE = Path(__file__).parents[1] / "docs" / "offline.md"

# Loaded where they are installed, by libraries that do without them as well.
ELSEWHERE = {"cuda-bindings", "cuda-pathfinder", "onnxruntime", "pysocks", "tokenizers", "transformers", "triton"}

# Loads nothing of the libraries that only other stages need, runs the two stages, and prints what was loaded.
STAGES = """
import sys
from importlib.machinery import PathFinder

ABSENT = {"torchreid", "faiss", "timm", "torchmetrics", "sklearn", "scipy", "matplotlib", "jinja2", "cv2", "gdown"}

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in ABSENT else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
from reid_aug.cli import app

for stage in ("generators", "images"):
    app(["sweep", sys.argv[1], "--data", sys.argv[2], "--out", sys.argv[3], "--until", stage], standalone_mode=False)
print("loaded:", *{name.split(".")[0] for name in sys.modules})
"""


def test_generator_stages_need_only_the_listed_wheels(toy_root, tmp_path):
    arms = {name: tiny_configs.ARMS[name] for name in ("standard", "own")}
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(tiny_configs.study(arms=arms).model_dump(mode="json")))
    command = [sys.executable, "-c", STAGES, str(study), str(toy_root), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "out" / "generated").glob("own-*/manifest.jsonl"))

    (loaded,) = re.findall(r"^loaded: (.*)$", done.stdout, re.MULTILINE)
    needed = {name for module in loaded.split() for name in packages_distributions().get(module, [])}
    listed = set(re.findall(r"[a-z0-9_-]+", re.search(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]))
    assert {_normal(name) for name in needed} - {"reid-aug"} - ELSEWHERE <= {_normal(name) for name in listed}


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")
