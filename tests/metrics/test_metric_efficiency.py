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
    def allocate(mib):
        return lambda: torch.ones(mib * MIB // 4).sum()

    large = measure(allocate(96), repeats=2)
    small = measure(allocate(32), repeats=2)  # an earlier, higher peak is forgotten
    again = measure(allocate(96), repeats=2)
    for cost, mib in ((large, 96), (small, 32), (again, 96)):
        assert 0.9 * mib * MIB < cost.peak_bytes < 1.5 * mib * MIB


@pytest.mark.gpu
def test_peak_memory_on_cuda():
    cost = measure(lambda: torch.ones(64 * MIB // 4, device="cuda").sum(), device="cuda")
    assert 64 * MIB <= cost.peak_bytes < 80 * MIB
