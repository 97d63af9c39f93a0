import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from reid_aug.metrics.efficiency import count_parameters, gflops, measure

MIB = 2**20


def test_parameters_are_counted_once():
    layer = nn.Linear(5, 7)
    assert count_parameters(nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(7, 2, bias=False))) == 5 * 7 + 7 + 14


def test_gflops_of_known_layers():
    convolution, linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(10, 20)
    image, row = torch.zeros(2, 3, 16, 8), torch.zeros(4, 10)
    expected = 2 * (2 * 8 * 16 * 8) * (3 * 3 * 3) + 2 * 4 * 10 * 20  # two for each multiplication and its addition
    assert gflops(lambda: (convolution(image), linear(row))) == pytest.approx(expected / 1e9)


def test_seconds_are_those_of_one_call():
    calls = []
    cost = measure(lambda: (calls.append(0), time.sleep(0.05)), repeats=5)
    assert len(calls) == 6  # one is not counted
    assert 0.05 <= cost.seconds < 0.2


@pytest.mark.skipif(sys.platform != "linux", reason="the system keeps no resettable peak")
def test_peak_memory_is_that_of_the_call_whatever_came_before():
    # In a process of its own: training tells the allocator to keep freed memory, which hides a later peak.
    code = (
        "import torch; from reid_aug.metrics.efficiency import measure\n"
        "for mib in (96, 32, 96):\n"  # an earlier, higher peak is forgotten
        f"    print(measure(lambda: torch.ones(mib * {MIB} // 4).sum(), repeats=2).peak_bytes)\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for peak, mib in zip(map(int, printed.split()), (96, 32, 96), strict=True):
        assert 0.9 * mib * MIB < peak < 1.5 * mib * MIB


@pytest.mark.gpu
def test_peak_memory_on_cuda():
    cost = measure(lambda: torch.ones(64 * MIB // 4, device="cuda").sum(), device="cuda")
    assert 64 * MIB <= cost.peak_bytes < 80 * MIB
