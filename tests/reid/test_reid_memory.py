"""Freed tensors' memory is reused: allocating the same sizes again touches no new page."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reid_aug.reid.memory import keep_freed_memory

_FAULTS = """
import resource, torch
from reid_aug.reid.memory import keep_freed_memory
keep_freed_memory()
for _ in range(10):  # as the activations of an iteration: all held, then all freed
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.ones(4 * 2**20) for _ in range(8)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_memory_of_freed_tensors_is_reused():
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, check=True, text=True)
    assert int(done.stdout) < 1000  # of 8 x 4,096 pages; by default glibc mostly touches all of them every time


def test_other_platforms_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("asked for the C library"))
    keep_freed_memory()
