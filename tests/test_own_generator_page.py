"""The Python and the commands of docs/own_generator.md run, and its generator keeps the contract stated there."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch

from reid_aug.augment.store import Store
from reid_aug.cli import main
from reid_aug.data.images import Images

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "own_generator.md").read_text(encoding="utf-8")
CLASS, PATH = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
(COMMANDS,) = re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
SMALLER = {"(128, 64)": "(64, 32)", '"iterations": 20': '"iterations": 1'}
SMALLEST = ["training.iterations=1", "training.identities=4", "model.image_size=[64,32]"]


def test_the_page_runs_from_top_to_bottom(toy_root, tmp_path, monkeypatch, capsys):
    shutil.copytree(toy_root, tmp_path / "data" / "toy")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    exec(CLASS, namespace)
    path = PATH
    for full, small in SMALLER.items():
        assert full in path
        path = path.replace(full, small)
    exec(path, namespace)
    store = Store.open("runs/tinted")
    assert len(store) == 2 * len(set(namespace["subset"].pids.tolist()))
    for image in store.images:
        assert (image.generator, image.sampler, image.guidance_scale) == (
            "tinted-warp-1", "TintedWarp", {"strength": 0.3},
        )  # fmt: skip
        assert image.verdict in ("keep", "reject")

    for line in COMMANDS.replace("\\\n", " ").splitlines():
        words = shlex.split(line)
        changes = [word for setting in SMALLEST for word in ("--set", setting)] if words[1] == "train-reid" else []
        monkeypatch.setattr(sys, "argv", words + changes)
        with pytest.raises(SystemExit) as exit:
            main()
        assert not exit.value.code, capsys.readouterr().err
    assert (tmp_path / "runs" / "augmented" / "model.safetensors").is_file()


def test_the_pages_image_depends_on_its_own_inputs_and_seed(toy_market):
    namespace: dict = {}
    exec(CLASS, namespace)
    samples = toy_market.train[:3]
    poses = [samples.poses[sample.name] for sample in samples]
    pixels = Images(samples).batch(range(3))

    def draw(order, seeds):
        chosen = [poses[k] for k in order]
        return namespace["TintedWarp"]()(pixels[order], chosen, chosen[::-1][: len(order)], seeds).images

    together = draw([0, 1, 0], [7, 8, 9])
    assert together.dtype == torch.uint8 and together.shape == (3, 3, 128, 64)
    alone = draw([1], [8])
    assert torch.equal(alone[0], together[1])
    assert not torch.equal(together[0], together[2])  # another seed


def test_the_class_is_short():
    lines = [line for line in CLASS[CLASS.index("class ") :].splitlines() if line.strip()]
    assert len(lines) <= 15
