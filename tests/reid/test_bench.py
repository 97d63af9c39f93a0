"""The measurement is of equal results."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from reid_aug.reid.bench import bench_evaluation


def test_evaluation_is_measured_against_equal_numbers():
    result = bench_evaluation(queries=40, gallery=500, dim=64, seed=1)
    assert result["max_difference"] < 1e-6
    assert result["ratio"] == pytest.approx(result["torchreid_rank_seconds"] / result["seconds"])
    assert 0 < result["torchreid_rank_seconds"] < result["torchreid_seconds"]
    assert 0 < result["features_mb"] < result["peak_memory_mb"]
    assert result["scores"].startswith("Rank-1 ")


def test_without_the_resource_module_the_peak_memory_is_unknown():
    """As on Windows."""
    code = "import sys; sys.modules['resource'] = None; from reid_aug.reid import bench; print(bench._peak_memory_mb())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert math.isnan(float(said.stdout))
