from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_configs

from reid_aug.study.sweep import run_sweep


@pytest.fixture(scope="session")
def finished(toy_market, tmp_path_factory) -> SimpleNamespace:
    """A study with a cell of every kind of arm, its folder, and what it announced; not to be changed."""
    folder: Path = tmp_path_factory.mktemp("studies") / "finished"
    announced = []
    config = tiny_configs.study()
    results = run_sweep(
        config, toy_market, folder, announce=lambda done, total, result: announced.append((done, total, result.arm))
    )
    return SimpleNamespace(folder=folder, config=config, results=results, announced=announced)
