"""The commands and the Python of docs/tasks.md run, and make the same images; its pictures are there."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_configs
from PIL import Image
from untrained import untrained_generator

from reid_aug.cli import main
from reid_aug.config import GeneratorConfig, build_config
from reid_aug.data.images import Images

PAGE = Path(__file__).parents[1] / "docs" / "tasks.md"
TEXT = PAGE.read_text(encoding="utf-8")
PREPARATION, *SECTIONS = re.split(r"^## ", TEXT, flags=re.MULTILINE)
TASKS = {section.splitlines()[0]: section for section in SECTIONS if "```sh" in section}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(toy_market, tmp_path_factory) -> Path:
    """The data set that the page names, and a tiny untrained generator to stand in for the one that it names."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(toy_market.root, folder / "data" / "toy")
    config = build_config(GeneratorConfig, tiny_configs.GENERATOR)
    pipe = untrained_generator(config, Images(toy_market.train, tiny_configs.SIZE).batch(range(8)))
    pipe.save_pretrained(folder / "tiny")
    return folder


def test_the_page_has_the_six_tasks():
    assert list(TASKS) == [
        "Pose transfer", "Pose-only generation", "Masked appearance transfer", "Style interpolation",
        "Several sources", "Several poses",
    ]  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_the_command_and_the_python_make_the_same_images(task, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    (command,), (code,) = blocks(TASKS[task], "sh"), blocks(TASKS[task], "python")
    words = shlex.split(command.replace("\\\n", " ").replace("pidm_toy", "tiny"))
    sheet = Path(words[words.index("--out") + 1])
    monkeypatch.setattr(sys, "argv", [*words, "--images", str(tmp_path / "made")])
    with pytest.raises(SystemExit) as exit:
        main()
    assert not exit.value.code
    assert Image.open(sheet).format == "PNG"

    namespace: dict = {}
    exec("".join(blocks(PREPARATION, "python")).replace("pidm_toy", "tiny"), namespace)
    exec(code, namespace)
    written = sorted((tmp_path / "made").iterdir())
    assert [path.name for path in written] == [f"{number}.png" for number in range(1, len(namespace["images"]) + 1)]
    for image, path in zip(namespace["images"], written):
        assert np.array_equal(np.array(image), np.array(Image.open(path)))
    assert (PAGE.parent / "pictures" / sheet.name).is_file()


def test_the_toy_data_set_is_made_by_the_pages_command(tmp_path, monkeypatch):
    (command,) = blocks(PREPARATION, "sh")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [*shlex.split(command), "--identities", "1"])
    with pytest.raises(SystemExit) as exit:
        main()
    assert not exit.value.code


@pytest.mark.parametrize("picture", re.findall(r"!\[[^\]]+\]\((.*?)\)", TEXT))
def test_pictures_are_small(picture):
    path = PAGE.parent / picture
    assert Image.open(path).format == "PNG"
    assert path.stat().st_size < 150_000
