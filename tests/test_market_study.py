"""The study's driver carries a generator from one machine to another."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_configs
import torch
from untrained import untrained_generator

from reid_aug.config import GeneratorConfig, build_config, load_config, save_config
from reid_aug.generators.pipeline import load_generator

SCRIPT = Path(__file__).parents[1] / "experiments" / "market1501" / "run.sh"


def run(out: Path, *arguments: object) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, "RUNS": str(out), "PATH": path}, capture_output=True, text=True)


@pytest.fixture
def trained(tmp_path) -> Path:
    config = build_config(GeneratorConfig, tiny_configs.GENERATOR)
    images = torch.randint(0, 256, (8, 3, *tiny_configs.SIZE), generator=torch.Generator().manual_seed(0))
    folder = tmp_path / "there" / "generators" / "full"
    untrained_generator(config, images.to(torch.uint8)).save_pretrained(folder)
    save_config(config, folder / "train_config.yaml")
    (folder / "train_data.json").write_text('{"digest": "0123"}\n')
    return folder


def test_a_generator_arrives_in_half_precision(trained, tmp_path):
    assert run(tmp_path / "there", "pack", "full", tmp_path / "parts").returncode == 0
    assert run(tmp_path / "here", "unpack", tmp_path / "parts").returncode == 0
    arrived = tmp_path / "here" / "generators" / "full"
    for kind in ("denoiser", "codec"):
        weights, before = (getattr(load_generator(folder), kind).state_dict() for folder in (arrived, trained))
        assert weights.keys() == before.keys()
        for name, value in weights.items():
            expected = before[name].half() if kind == "denoiser" and before[name].is_floating_point() else before[name]
            assert torch.equal(value, expected.to(value.dtype))
    settings = [load_config(GeneratorConfig, folder / "train_config.yaml") for folder in (arrived, trained)]
    assert settings[0] == settings[1]
    assert (arrived / "train_data.json").read_bytes() == (trained / "train_data.json").read_bytes()


def test_several_generators_travel_together(trained, tmp_path):
    shutil.copytree(trained, trained.with_name("strict-20-seed0"))
    for name in ("full", "strict-20-seed0", "full"):
        (tmp_path / "parts").mkdir(exist_ok=True)
        (tmp_path / "parts" / f"{name}.tar.zz").write_bytes(b"of an earlier call")
        assert run(tmp_path / "there", "pack", name, tmp_path / "parts").returncode == 0
    assert run(tmp_path / "here", "unpack", tmp_path / "parts").returncode == 0
    arrived = tmp_path / "here" / "generators"
    assert {folder.name for folder in arrived.iterdir()} == {"full", "strict-20-seed0"}
    assert load_generator(arrived / "strict-20-seed0").digest == load_generator(arrived / "full").digest


def test_a_damaged_part_is_refused(trained, tmp_path):
    assert run(tmp_path / "there", "pack", "full", tmp_path / "parts").returncode == 0
    (part,) = (tmp_path / "parts").glob("full.tar.*")
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    assert run(tmp_path / "here", "unpack", tmp_path / "parts").returncode != 0
    assert not (tmp_path / "here").exists()


def test_an_unfinished_generator_stays(trained, tmp_path):
    (trained / "checkpoint.pt").write_bytes(b"")
    done = run(tmp_path / "there", "pack", "full", tmp_path / "parts")
    assert done.returncode == 2
    assert "not trained to the end" in done.stderr
    assert not (tmp_path / "parts").exists()


def test_an_unknown_stage_is_named(tmp_path):
    done = run(tmp_path, "train")
    assert done.returncode == 2
    assert "train: no such stage; give generator, generate" in done.stderr
