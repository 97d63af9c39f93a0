"""The import direction of the rooms: what may be imported from where, and what only inside a function."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import reid_aug

PACKAGE = Path(reid_aug.__file__).parent
BASE = {"records", "config", "errors", "files", "deadline"}
TRAINERS = {"sampler", "torchreid_library"}  # what our trainer and the torchreid plugin share
ALLOWED = {
    "__init__": set(),
    "__main__": {"cli"},
    "records": set(),
    "errors": set(),
    "files": {"errors"},
    "config": {"errors", "files"},
    "progress": set(),
    "deadline": set(),
    "sampler": {"errors", "records"},
    "torchreid_library": {"errors"},
    "pose": BASE,
    "data": BASE | {"pose"},
    "generators": BASE | {"data", "pose"},
    "augment": BASE | {"data", "pose", "generators"},
    "reid": BASE | TRAINERS,
    "metrics": {"errors"},
    "integrations": BASE | TRAINERS | {"data", "augment"},
    "study": BASE | TRAINERS | {"data", "pose", "generators", "augment", "reid", "metrics", "integrations"},
    "cli": BASE | {"data", "pose", "generators", "augment", "reid", "metrics", "integrations", "study", "progress"},
}
INSIDE_FUNCTIONS = {
    "faiss", "timm", "torchreid", "torchmetrics", "matplotlib", "rtmlib", "onnx", "onnxruntime", "ray", "torch_fidelity"
}  # fmt: skip
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(nodes: list[ast.stmt] | Iterator[ast.AST]) -> set[str]:
    """Dotted names that the import statements among ``nodes`` name."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def run_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that run when the module is imported: not in functions, not under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from run_at_import(node)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_a_module_imports_only_what_its_room_may(module):
    room = room_of(module)
    tree = ast.parse(module.read_text(encoding="utf-8"))
    ours = {name.split(".")[1] for name in imported(ast.walk(tree)) if name.startswith("reid_aug.")}
    assert ours <= ALLOWED[room] | {room}
    at_import = {name.split(".")[0] for name in imported(run_at_import(tree))}
    assert not at_import & INSIDE_FUNCTIONS


def test_every_room_is_in_the_table():
    assert {room_of(module) for module in MODULES} == set(ALLOWED)


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["reid_aug", "reid_aug.cli"])
def test_importing_the_package_imports_no_heavy_library(module):
    loaded = set(run(f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})").split())
    heavy = INSIDE_FUNCTIONS | {"torch", "torchvision", "diffusers", "accelerate", "transformers", "sklearn", "scipy"}
    assert not loaded & heavy


def test_augment_stays_the_function_after_its_room_was_imported():
    code = """
import reid_aug
from reid_aug.augment.store import Store
from reid_aug.augment import plan
import reid_aug.augment.schedule
from reid_aug import augment
assert callable(reid_aug.augment) and reid_aug.augment is augment, reid_aug.augment
assert augment.__module__ == "reid_aug.study.recipe"
assert reid_aug.Store is Store and plan.make_plan
"""
    run(code)
