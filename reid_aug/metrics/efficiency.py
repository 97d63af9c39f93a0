"""What a generator costs: parameters, operations of one forward pass, peak memory."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


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


class MemoryMeter:
    """The memory of this process at its highest since this was made, beyond what was held then.

    On CUDA it is what torch's allocator has given out. On a CPU it is the process's resident memory (Linux only):
    convolution workspaces count, and pages the C library kept from earlier calls are given back first, so that they
    neither count nor hide anything.
    """

    def __init__(self, device: str | torch.device = "cpu"):
        self._device = torch.device(device)
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before: int | None = torch.cuda.memory_allocated(self._device)
        else:
            self._before = _forget_peak()

    def peak(self) -> int | None:
        """Bytes; None where the system keeps no peak that can be reset."""
        on_cuda = self._device.type == "cuda"
        highest = torch.cuda.max_memory_allocated(self._device) if on_cuda else _resident("VmHWM")
        return None if self._before is None or highest is None else max(highest - self._before, 0)


def _forget_peak() -> int | None:
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
