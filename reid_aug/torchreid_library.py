"""torchreid, as PyPI's 0.2.5 and upstream's 1.4.0 both have it: by ``import torchreid`` and attributes of it."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from reid_aug.errors import MissingDependencyError

# torchreid declares no dependencies. These are what importing it and running its engines take, by module name.
UNDECLARED = {
    "cv2": "opencv-python-headless",
    "gdown": "gdown",
    "h5py": "h5py",
    "scipy": "scipy",
    "six": "six",
    "tensorboard": "tensorboard",
}


def import_torchreid() -> ModuleType:
    """``import torchreid`` without its warning that Cython is not compiled, and with a remedy if it cannot be imported.

    Raises:
        MissingDependencyError: torchreid, or a package it needs and does not declare, is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Cython evaluation")
            import torchreid
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in UNDECLARED:
            raise MissingDependencyError(
                f"torchreid needs `{missing}` and does not declare it. Run: pip install {UNDECLARED[missing]}"
            ) from None
        packages = " ".join(["torchreid", *UNDECLARED.values()])
        raise MissingDependencyError(f"torchreid cannot be imported ({error}). Run: pip install {packages}") from None
    return torchreid


def load_tensors(path: str | Path) -> Any:
    """A PyTorch file on the CPU, without running code in it.

    Beyond tensors and plain values only the numpy scalar is let in, as which torchreid's engines save Rank-1 in their
    checkpoints; ``weights_only`` refuses it from torch 2.6 on (upstream issue 592).

    Raises:
        pickle.UnpicklingError: anything else is in the file.
        OSError, RuntimeError, EOFError: it cannot be read, or is damaged.
    """
    import numpy as np
    import torch

    scalar = np.float32(0).__reduce__()[0]  # pickled as scalar(dtype, bytes); numpy 1 has it in another module
    dtypes = [np.dtype, type(np.dtype(np.float32)), type(np.dtype(np.float64))]
    with torch.serialization.safe_globals([scalar, (scalar, "numpy.core.multiarray.scalar"), *dtypes]):
        return torch.load(path, map_location="cpu", weights_only=True)
