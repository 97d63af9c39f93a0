import subprocess
import sys

import pytest
import torch
from torch import nn

from reid_aug.metrics.efficiency import MemoryMeter, count_parameters, gflops

MIB = 2**20


def test_parameters_are_counted_once():
    layer = nn.Linear(5, 7)
    assert count_parameters(nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(7, 2, bias=False))) == 5 * 7 + 7 + 14


def test_gflops_of_known_layers():
    convolution, linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(10, 20)
    image, row = torch.zeros(2, 3, 16, 8), torch.zeros(4, 10)
    expected = 2 * (2 * 8 * 16 * 8) * (3 * 3 * 3) + 2 * 4 * 10 * 20  # two for each multiplication and its addition
    assert gflops(lambda: (convolution(image), linear(row))) == pytest.approx(expected / 1e9)


@pytest.mark.skipif(sys.platform != "linux", reason="the system keeps no resettable peak")
def test_peak_memory_is_that_of_the_call_whatever_came_before():
    # In a process of its own: training tells the allocator to keep freed memory, which hides a later peak.
    code = (
        "import torch; from reid_aug.metrics.efficiency import MemoryMeter\n"
        f"held = torch.ones(50 * {MIB} // 4)\n"
        "for mib in (96, 32, 96):\n"  # an earlier, higher peak is forgotten
        "    meter = MemoryMeter()\n"
        f"    torch.ones(mib * {MIB} // 4).sum()\n"
        "    print(meter.peak())\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for peak, mib in zip(map(int, printed.split()), (96, 32, 96), strict=True):
        assert 0.9 * mib * MIB < peak < 1.3 * mib * MIB


@pytest.mark.gpu
def test_peak_memory_on_cuda():
    held = torch.ones(32 * MIB // 4, device="cuda")
    meter = MemoryMeter("cuda")
    (held[: 16 * MIB // 4] + torch.ones(64 * MIB // 4, device="cuda")[: 16 * MIB // 4]).sum()
    assert 64 * MIB <= meter.peak() < 112 * MIB
