"""A synthetic Market-1501 made by drawing: the same folders, names and key points, and exact part maps beside them.

Everything the package does can be tried on it at once, without a download or a licence. The people differ in build,
hair and clothes, and share palettes; six cameras see them in other light, colours and directions, so that the mean
colour of an image does not tell who it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reid_aug.data.keypoints import write_keypoints
from reid_aug.data.market1501 import FOLDERS, KEYPOINT_FILES, PARTS_FOLDER, Market1501, load_market1501
from reid_aug.data.toy_body import Shot, draw_shot
from reid_aug.data.toy_cameras import CAMERAS
from reid_aug.data.toy_people import Person, draw_person
from reid_aug.data.toy_render import Drawing, draw_people
from reid_aug.errors import ConfigError, OutputError
from reid_aug.files import making_folder
from reid_aug.records import Pose

SETTINGS = "toy.json"
_BATCH = 32  # images drawn at once
_TRAIN, _TEST, _DISTRACTOR, _JUNK = range(4)  # kinds of people; part of the key of their random state


@dataclass(frozen=True, eq=False)
class _Planned:
    """One image to draw."""

    folder: str
    name: str
    person: Person
    shot: Shot


def make_toy_market(
    path: str | Path, identities: int = 48, seed: int = 0, test_identities: int | None = None
) -> Market1501:
    """Draw a toy Market-1501 into ``path`` and load it; one that is there already is only loaded.

    A training identity has about 12 images, unequal numbers by three to six cameras. Person k of a seed is the same
    whatever the numbers of identities are. ``parts/`` has the part map of every image, a PNG whose pixels are 0 for the
    background and i + 1 for ``pose.parts.DENSEPOSE_PARTS[i]``.

    Args:
        path: folder to make; written whole or not at all.
        identities: people in the training set.
        seed: of people and images; another seed draws other people.
        test_identities: people in query and gallery, as many as ``identities`` by default.

    Raises:
        ConfigError: a number of identities below 1, or a negative seed.
        OutputError: ``path`` holds something else or cannot be written.
    """
    path = Path(path)
    settings = {
        "identities": identities, "test_identities": identities if test_identities is None else test_identities,
        "seed": seed,
    }  # fmt: skip
    for name, value in settings.items():
        if value < (least := int(name != "seed")):
            raise ConfigError(f"make_toy_market: {name} is {value}. Give {least} or more.")
    if not _holds(path, settings):
        with making_folder(path) as folder:
            _write_market(folder, settings)
    return load_market1501(path)


def _holds(path: Path, settings: dict[str, Any]) -> bool:
    """Whether ``path`` is this data set already; an empty or missing folder is not, anything else is an error."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return False
    file = path / SETTINGS
    if not file.is_file():
        raise OutputError(f"{path}: is not empty and not a toy data set (no {SETTINGS}). Name another folder.")
    there = file.read_text(encoding="utf-8").strip()
    if there != json.dumps(settings):
        raise OutputError(f"{file}: the folder holds another toy data set, {there[:200]}. Name another folder.")
    return True


# --- who is where -------------------------------------------------------------------------------------------------


def _plan(identities: int, test_identities: int, seed: int) -> Iterator[_Planned]:
    """All images of a data set; training identities have even pids, test identities odd ones."""
    for k in range(identities):
        for name, person, shot in _walks(2 * k + 2, np.random.default_rng([seed, _TRAIN, k]), cameras=(3, 6)):
            yield _Planned(FOLDERS["train"], name, person, shot)
    for k in range(test_identities):
        asked: set[int] = set()  # one query for each camera, as in Market-1501
        for name, person, shot in _walks(2 * k + 1, np.random.default_rng([seed, _TEST, k]), cameras=(4, 6)):
            folder = FOLDERS["gallery" if shot.camera in asked else "query"]
            asked.add(shot.camera)
            yield _Planned(folder, name, person, shot)
    for k in range(2 * test_identities):
        yield _passer_by(k, "0000", np.random.default_rng([seed, _DISTRACTOR, k]))
    for k in range(test_identities):
        rng = np.random.default_rng([seed, _JUNK, k])
        planned = _passer_by(k, "-1", rng)
        # A false detection: the box is too tight and beside the person.
        tight, beside = rng.uniform(1.7, 2.6), rng.uniform(0.3, 0.6, 2) * rng.choice([-1, 1], 2)
        yield replace(planned, shot=replace(planned.shot, fill=tight, shift=beside))


def _walks(pid: int, rng: np.random.Generator, cameras: tuple[int, int]) -> Iterator[tuple[str, Person, Shot]]:
    """A person's images: a walk past each of a few cameras, one to five images of it."""
    person = draw_person(rng)
    few, many = cameras
    for camera in rng.permutation(len(CAMERAS))[: rng.integers(few, many + 1)]:
        heading, left = rng.choice(CAMERAS[camera].headings), rng.random()
        frame = int(rng.integers(100, 100_000))
        for box in range(rng.choice([1, 2, 3, 4], p=[0.15, 0.3, 0.35, 0.2])):
            shot = draw_shot(rng, int(camera), heading, left)
            yield f"{pid:04d}_c{camera + 1}s1_{frame + 25 * box:06d}_{box + 1:02d}.jpg", person, shot


def _passer_by(k: int, pid: str, rng: np.random.Generator) -> _Planned:
    camera = int(rng.integers(len(CAMERAS)))
    shot = draw_shot(rng, camera, rng.choice(CAMERAS[camera].headings), rng.random())
    return _Planned(FOLDERS["gallery"], f"{pid}_c{camera + 1}s1_{25 * k:06d}_00.jpg", draw_person(rng), shot)


# --- drawing ------------------------------------------------------------------------------------------------------


def _write_market(root: Path, settings: dict[str, Any]) -> None:
    """Draw a whole data set into the empty folder ``root``."""
    for folder in FOLDERS.values():
        (root / folder).mkdir(parents=True)
        (root / PARTS_FOLDER / folder).mkdir(parents=True)
    poses = _draw_all(root, list(_plan(**settings)))
    train, test = KEYPOINT_FILES
    write_keypoints(root / train, poses[FOLDERS["train"]])
    write_keypoints(root / test, {**poses[FOLDERS["gallery"]], **poses[FOLDERS["query"]]})
    (root / SETTINGS).write_text(json.dumps(settings), encoding="utf-8")


def _draw_all(root: Path, plan: list[_Planned]) -> dict[str, dict[str, Pose]]:
    """Draw and write the planned images; returns the poses by folder and file name."""
    poses: dict[str, dict[str, Pose]] = {folder: {} for folder in FOLDERS.values()}
    with ThreadPoolExecutor() as pool:
        writes = []
        for start in range(0, len(plan), _BATCH):
            batch = plan[start : start + _BATCH]
            drawing = draw_people([image.person for image in batch], [image.shot for image in batch])
            writes.append(pool.submit(_write, root, batch, drawing))
            for image, xy, visible in zip(batch, drawing.poses.xy.numpy(), drawing.poses.visible.numpy()):
                poses[image.folder][image.name] = Pose(xy, visible, drawing.poses.image_size)
        for write in writes:
            write.result()
    return poses


def _write(root: Path, batch: list[_Planned], drawing: Drawing) -> None:
    pixels, parts = drawing.images.permute(0, 2, 3, 1).numpy(), drawing.parts.numpy()
    for image, rgb, part in zip(batch, pixels, parts):
        Image.fromarray(rgb).save(root / image.folder / image.name, quality=95, subsampling=0)
        Image.fromarray(part).save((root / PARTS_FOLDER / image.folder / image.name).with_suffix(".png"))
