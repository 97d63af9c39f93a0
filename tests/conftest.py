from __future__ import annotations

import os

# The networks of the tests are tiny: on shared cores their threads would wait for each other. Also for subprocesses.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Results are compared to the last bit, and with tensors of the CPU: a machine that has a GPU runs them there, too, but
# for `CUDA_VISIBLE_DEVICES=0 pytest -m gpu`.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from reid_aug.data.market1501 import Market1501, load_market1501
from reid_aug.data.toy import make_toy_market

# How fast a machine draws examples is no property of the code.
settings.register_profile("reid-aug", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("reid-aug")


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory) -> Path:
    """A toy data set of six training and four test identities; tests that change it copy it first."""
    root = tmp_path_factory.mktemp("toy") / "market"
    make_toy_market(root, identities=6, seed=0, test_identities=4)
    return root


@pytest.fixture(scope="session")
def toy_market(toy_root) -> Market1501:
    return load_market1501(toy_root)
