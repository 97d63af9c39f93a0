"""What a generator costs: parameters, operations of one forward pass, seconds and peak memory of a call."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass(frozen=True)
class Cost:
    """Time and memory of a call.

    Attributes:
        seconds: median of the repeats.
        peak_bytes: memory at the highest point of a call beyond what was held before it; None where it cannot be told.
    """

    seconds: float
    peak_bytes: int | None


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def gflops(call: Callable[[], object]) -> float:
    """Floating-point operations of ``call()`` in units of 1e9; a multiplication and an addition are two.

    Convolutions, matrix products and attention are counted, as torch counts them; element-wise work is not.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9


def measure(call: Callable[[], object], device: str | torch.device = "cpu", repeats: int = 3) -> Cost:
    """Seconds and peak memory of ``call()``, after one call that is not counted.

    On CUDA the peak is what torch's allocator has given out at most. On a CPU it is the growth of the process's
    resident memory (Linux only): convolution workspaces count, and pages the C library kept from earlier calls are
    given back first, so that they neither count nor hide anything.
    """
    device = torch.device(device)
    cuda = device.type == "cuda"
    call()
    gc.collect()
    before = _start_cuda(device) if cuda else _start_cpu()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        if cuda:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    after = torch.cuda.max_memory_allocated(device) if cuda else _resident("VmHWM")
    known = before is not None and after is not None
    return Cost(statistics.median(seconds), max(after - before, 0) if known else None)


def _start_cuda(device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _start_cpu() -> int | None:
    """Forget the peak so far; bytes resident now, or None where the system keeps no resettable peak."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if STATUS.exists() else None
    if trim is not None:
        trim(0)
    try:
        CLEAR_REFS.write_text("5")  # see proc(5): resets VmHWM
    except OSError:
        return None
    return _resident("VmRSS")


def _resident(field: str) -> int | None:
    """Bytes of ``VmRSS`` (now) or ``VmHWM`` (at most since the reset)."""
    if not STATUS.exists():
        return None
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(lines[field].split()[0]) * 1024 if field in lines else None
