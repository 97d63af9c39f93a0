"""Importing torchreid where it is whole, partly there or absent."""

from __future__ import annotations

import sys
import warnings

import pytest

from reid_aug.errors import MissingDependencyError
from reid_aug.torchreid_library import import_torchreid


@pytest.fixture
def without_torchreid(monkeypatch):
    """As in a fresh process; afterwards the modules are again those the other tests hold."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchreid"]:
        monkeypatch.delitem(sys.modules, name)
    return monkeypatch


def test_torchreid_is_not_installed(without_torchreid):
    without_torchreid.setitem(sys.modules, "torchreid", None)
    with pytest.raises(MissingDependencyError, match=r"Run: pip install torchreid opencv-python-headless gdown h5py"):
        import_torchreid()


@pytest.mark.parametrize("module, package", [("gdown", "gdown"), ("cv2", "opencv-python-headless")])
def test_a_package_torchreid_does_not_declare(without_torchreid, module, package):
    without_torchreid.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"torchreid needs `{module}`.*pip install {package}"):
        import_torchreid()


def test_only_the_cython_warning_is_silenced_and_only_here(without_torchreid):
    with warnings.catch_warnings(record=True) as silenced:
        warnings.simplefilter("always")
        import_torchreid()
    assert not [w for w in silenced if "Cython" in str(w.message)]
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchreid"]:
        without_torchreid.delitem(sys.modules, name)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        import torchreid  # noqa: F401
    assert [w for w in heard if "Cython" in str(w.message)]
