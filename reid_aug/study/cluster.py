"""A study's cells side by side, on the GPUs of one machine or of a Ray cluster whose machines see the same folders."""

from __future__ import annotations

import math
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
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
Work = Callable[[Study, Sequence[CellKey], Deadline], Iterator[Result]]


def run_cells(study: Study, cells: Sequence[CellKey], deadline: Deadline) -> Iterator[Result]:
    """Results of ``cells`` as they come, the ``run`` of :func:`reid_aug.study.sweep.run_sweep`.

    Each fraction and seed is a Ray task with a GPU of its own, or its share of the cores where there is no GPU: its
    arms go one after another, for they share a judge and images. Generators that all subsets share are trained before.
    Ray is the caller's, the cluster's that the environment variable ``RAY_ADDRESS`` names, one that runs on this
    machine, or a new one.

    Raises:
        MissingDependencyError: Ray is not installed.
        ReidAugError: what a task raised.
    """
    ray = _import_ray()
    ours = not ray.is_initialized()
    if ours:
        ray.init()
    try:
        shared = ray.put(replace(study, progress=silent))
        end = None if deadline.minutes_left is None else time.time() + 60 * deadline.minutes_left
        for work, groups in ((_train_generator, _by_generator(study, cells)), (sweep.run_cells, _by_subset(cells))):
            task = ray.remote(**_share(ray, len(groups)))(_outcomes)
            running = [task.remote(work, shared, group, end, os.getcwd()) for group in groups]
            for result, seconds in _as_they_come(ray, running):
                for stage, spent in seconds.items():
                    study.spent(stage, spent)
                if result is not None:
                    yield result
    finally:
        if ours:
            ray.shutdown()


def _by_generator(study: Study, cells: Sequence[CellKey]) -> list[list[CellKey]]:
    """The cells of each generator that all subsets share."""
    groups = defaultdict(list)
    for cell in cells:
        name = study.config.arms[cell[0]].generator
        if name is not None and study.config.generators[name].sees == "train":
            groups[name].append(cell)
    return list(groups.values())


def _by_subset(cells: Sequence[CellKey]) -> list[list[CellKey]]:
    """The cells of each fraction and seed, in order."""
    return [list(group) for _, group in groupby(cells, key=lambda cell: cell[1:])]


def _share(ray: ModuleType, tasks: int) -> dict[str, int]:
    """What a task asks for, so that as many run at a time as there is room for: a GPU, or cores of one machine."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    with_gpus = [machine for machine in machines if machine.get("GPU")]
    if with_gpus:
        return {"num_gpus": 1, "num_cpus": min(int(one.get("CPU", 0) // one["GPU"]) for one in with_gpus)}
    on_each = max(math.ceil(tasks / len(machines)), 1)
    return {"num_cpus": max(min(int(machine.get("CPU", 0)) for machine in machines) // on_each, 1)}


def _outcomes(
    work: Work, study: Study, cells: Sequence[CellKey], end: float | None, folder: str
) -> Iterator[Outcome]:
    """The task: results of ``work`` with the time that went into each; paths are as in the caller's ``folder``."""
    os.chdir(folder)
    seconds: Counter[str] = Counter()
    study = replace(study, spent=lambda stage, spent: seconds.update({stage: spent}))
    # The end by the calendar: on another machine the monotonic clock began at another time.
    deadline = Deadline(None if end is None else max(end - time.time(), 0.0) / 60)
    for result in work(study, cells, deadline):
        yield result, dict(seconds)
        seconds.clear()
    yield None, dict(seconds)


def _train_generator(study: Study, cells: Sequence[CellKey], deadline: Deadline) -> Iterator[Result]:
    """No result: what the cells need of their generator, which is nothing where all their images are drawn."""
    for cell in cells:
        if deadline.passed or not can_draw(study, *cell, deadline):
            break
    return iter(())


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
