"""A study's cells side by side, on the GPUs of one machine or of a Ray cluster whose machines see the same folders."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from types import ModuleType
from typing import Any

from reid_aug.deadline import Deadline
from reid_aug.errors import MissingDependencyError, ReidAugError
from reid_aug.study import sweep
from reid_aug.study.cell import Study
from reid_aug.study.recipe import silent
from reid_aug.study.results import Result
from reid_aug.study.sweep import CellKey, can_draw

Outcome = tuple[Result | None, dict[str, float]]  # of a cell, and the seconds that were spent by stage


def run_cells(study: Study, cells: Sequence[CellKey], deadline: Deadline) -> Iterator[Result]:
    """Results of ``cells`` as they come, the ``run`` of :func:`reid_aug.study.sweep.run_sweep`.

    Each fraction and seed is a Ray task with a GPU of its own (where there are any): its arms go one after another,
    for they share a judge and images. Generators that all subsets share are trained before. Ray connects to the
    cluster that the environment variable ``RAY_ADDRESS`` names, or else uses this machine.

    Raises:
        MissingDependencyError: Ray is not installed.
        ReidAugError: what a task raised.
    """
    ray = _import_ray()
    ray.init(log_to_driver=False)
    try:
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0))
        cpus = int(there["CPU"]) // gpus if gpus else 1
        task = ray.remote(num_gpus=min(gpus, 1), num_cpus=max(cpus, 1))
        shared = ray.put(replace(study, progress=silent, seconds={}))
        end = None if deadline.minutes_left is None else time.time() + 60 * deadline.minutes_left
        for calls in (_shared_generators(study, cells), _subsets(cells)):
            running = [task(call).remote(shared, of, end) for call, of in calls]
            for result, seconds in _as_they_come(ray, running):
                for stage, spent in seconds.items():
                    study.seconds[stage] = study.seconds.get(stage, 0.0) + spent
                if result is not None:
                    yield result
    finally:
        ray.shutdown()


def _shared_generators(study: Study, cells: Sequence[CellKey]) -> list[tuple[Any, Sequence[CellKey]]]:
    """A call for each generator that all subsets share, with the first cell that asks for it."""
    first: dict[str, CellKey] = {}
    for cell in cells:
        name = study.config.arms[cell[0]].generator
        if name is not None and study.config.generators[name].sees == "train":
            first.setdefault(name, cell)
    return [(_train_generator, [cell]) for cell in first.values()]


def _subsets(cells: Sequence[CellKey]) -> list[tuple[Any, Sequence[CellKey]]]:
    """A call for each fraction and seed, with its cells in order."""
    return [(_run_subset, list(of)) for _, of in groupby(cells, key=lambda cell: cell[1:])]


def _train_generator(study: Study, cells: Sequence[CellKey], end: float | None) -> Iterator[Outcome]:
    can_draw(study, *cells[0], _deadline(end))
    yield None, study.seconds


def _run_subset(study: Study, cells: Sequence[CellKey], end: float | None) -> Iterator[Outcome]:
    study = replace(study, seconds={})
    for result in sweep.run_cells(study, cells, _deadline(end)):
        yield result, dict(study.seconds)
        study.seconds.clear()
    yield None, study.seconds


def _deadline(end: float | None) -> Deadline:
    """On another machine, whose monotonic clock began at another time."""
    return Deadline(None if end is None else max(end - time.time(), 0.0) / 60)


def _as_they_come(ray: ModuleType, running: list[Any]) -> Iterator[Outcome]:
    """What the generators of outcomes yield; an error of ours is raised as it was in the task."""
    while running:
        (ready, *_), _ = ray.wait(running, num_returns=1)
        try:
            yield ray.get(next(ready))
        except StopIteration:
            running.remove(ready)
        except ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, ReidAugError) else error from None


def _import_ray() -> ModuleType:
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(f"--ray needs Ray ({error}). Run: pip install 'reid-aug[ray]'") from None
    return ray
