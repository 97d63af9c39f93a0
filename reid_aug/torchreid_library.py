"""torchreid, as PyPI's 0.2.5 and upstream's 1.4.0 both have it: by ``import torchreid`` and attributes of it."""

from __future__ import annotations

import warnings
from types import ModuleType

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
