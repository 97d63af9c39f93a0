"""Which names of torchreid the plugin uses, and reading what its engines saved."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from reid_aug.errors import CheckpointError
from reid_aug.integrations import torchreid as integration
from reid_aug.integrations.torchreid import load_checkpoint


def test_torchreid_is_used_by_attributes_that_both_forms_have():
    """``torchreid.data`` works with PyPI's 0.2.5 and upstream's 1.4.0; ``torchreid.reid`` and submodule imports not."""
    for path in Path(integration.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not [alias.name for alias in node.names if alias.name.startswith("torchreid.")]
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] != "torchreid"
            elif isinstance(node, ast.Attribute):
                assert node.attr != "reid"


def test_importing_the_plugin_does_not_import_torchreid():
    """A data-only import stays fast; torchreid alone takes seconds."""
    code = "import sys, reid_aug.integrations as i; i.torchreid.register; sys.exit('torchreid' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_checkpoint_of_torchreids_engine_is_read(tmp_path):
    state = {"state_dict": {"weight": torch.arange(3.0)}, "epoch": 4, "rank1": np.float32(0.25), "scheduler": {}}
    torch.save(state, tmp_path / "model.pth.tar-4")
    with pytest.raises(pickle.UnpicklingError):  # what torchreid's users meet
        torch.load(tmp_path / "model.pth.tar-4", weights_only=True)
    loaded = load_checkpoint(tmp_path / "model.pth.tar-4")
    assert loaded["epoch"] == 4 and loaded["rank1"] == np.float32(0.25)
    assert torch.equal(loaded["state_dict"]["weight"], torch.arange(3.0))


def test_a_checkpoint_of_numpy_1_is_read(tmp_path):
    path = tmp_path / "model.pth.tar-1"
    torch.save({"rank1": np.float64(0.5)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert load_checkpoint(path)["rank1"] == 0.5


class _RunsCode:
    def __reduce__(self):
        return (print, ("code of the checkpoint was run",))


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path, capsys):
    torch.save({"state_dict": _RunsCode()}, tmp_path / "bad.pth.tar")
    with pytest.raises(CheckpointError, match=r"bad.pth.tar: is damaged or not a checkpoint"):
        load_checkpoint(tmp_path / "bad.pth.tar")
    assert "was run" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_a_damaged_checkpoint(tmp_path, content):
    (tmp_path / "model.pth.tar").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model.pth.tar: is damaged or not a checkpoint"):
        load_checkpoint(tmp_path / "model.pth.tar")


def test_a_missing_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"none: cannot be read \(No such file.*model.pth.tar"):
        load_checkpoint(tmp_path / "none")
