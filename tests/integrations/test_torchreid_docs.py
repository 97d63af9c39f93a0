"""The scripts of docs/torchreid.md run from start to end, training and evaluation included, on a tiny data set."""

from __future__ import annotations

import difflib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_market import write_market, write_store

from reid_aug.data.market1501 import load_market1501
from reid_aug.data.subsets import take_fraction

PAGE = Path(__file__).parents[2] / "docs" / "torchreid.md"
SMALLER = {  # all that is changed in the page's scripts
    "height=256": "height=64",
    "width=128": "width=32",
    "batch_size_train=64": "batch_size_train=8, batch_size_test=100, workers=0",
    "identities=16": "identities=4",
    "max_epoch=60": "max_epoch=1",
    "60 * epoch_length": "1 * epoch_length",
    "tar-60": "tar-1",
}


def scripts() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def folders(tmp_path):
    """The relative paths that the page names."""
    root = write_market(tmp_path / "reid-data" / "market1501" / "Market-1501-v15.09.15")
    train = load_market1501(root).train
    write_store(tmp_path / "runs" / "aug", [sample.name for sample in train])
    write_store(tmp_path / "runs" / "aug_20", [sample.name for sample in take_fraction(train, 0.2, seed=0)])
    return tmp_path


def test_the_existing_script_is_changed_in_two_lines():
    before, after = scripts()[:2]
    changed = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
    assert [line.split()[0] for line in changed].count("+") == 2
    assert len(changed) == 3  # one line added, one changed


def test_the_page_runs_from_start_to_end(folders):
    """In a process of its own, like a user's: torchreid cannot forget the names that the page registers."""
    page = "\n".join(scripts())
    for full, small in SMALLER.items():
        page = page.replace(full, small)
    (folders / "page.py").write_text(page, encoding="utf-8")
    run = subprocess.run([sys.executable, "page.py"], cwd=folders, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert [run.stdout.count(text) for text in ("=> Final test", "mAP: ", "Rank-20 : ")] == [4, 4, 4]
    log = folders / "log"
    saved = {path.parts[-3] for path in log.glob("*/model/model.pth.tar-1")}
    assert saved == {"market1501", "market1501_ratio", "market1501_auxiliary"}


@pytest.mark.parametrize("full", SMALLER)
def test_every_replacement_still_meets_something(full):
    assert any(full in script for script in scripts())
