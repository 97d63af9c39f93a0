"""A generated set on disk: a folder any re-ID library can load, and a manifest that is the truth about it.

    folder/
      bounding_box_train/   images, named as in Market-1501; rejected ones are not among them
      rejected/             images that the identity filter refused
      manifest.jsonl        one GeneratedImage a line
      target_poses.csv      key points by pose name, in the field's format
      store.json            what the set was made with; a run with other settings is refused

An image is written under a temporary name and renamed; only then is its line appended to the manifest. So after a
kill at any moment a line is whole or is the last one, and :meth:`Store.repair` finds what is without its counterpart.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from reid_aug.data.keypoints import read_keypoints, write_keypoints
from reid_aug.errors import DataError, OutputError
from reid_aug.files import replacing, write_json, write_lines
from reid_aug.records import GeneratedImage, Pose, Sample, Samples

FORMAT = 1
HEADER = {"format", "pose_image_size", "settings"}
KEPT, REJECTED = "bounding_box_train", "rejected"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
GENERATED_NAME = re.compile(r"_g\d+\.(jpg|png)$")
MANIFEST, SETTINGS, POSES = "manifest.jsonl", "store.json", "target_poses.csv"


class Store:
    """A generated set; :meth:`create` makes one or continues it, :meth:`open` reads one. One writer at a time."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._header = _read_header(self.folder)
        self._images = {image.name: image for image in _read_manifest(self.folder / MANIFEST)[0]}

    @classmethod
    def create(cls, folder: str | Path, settings: Mapping[str, Any], poses: Mapping[str, Pose]) -> Store:
        """Start a set made with ``settings``, or continue (and repair) the one that is there.

        Args:
            folder: an empty or new folder, or a store made with equal ``settings``.
            settings: what determines the images; anything JSON can hold.
            poses: target poses by name, all of one image size; added to those there.

        Raises:
            OutputError: the folder holds something else, or a set made with other settings; or no poses, or poses of
                several image sizes.
        """
        folder = Path(folder)
        poses = dict(poses)
        sizes = {tuple(pose.image_size) for pose in poses.values()}
        if not sizes:
            raise OutputError(f"{folder}: no target poses to start a set with. Plan at least one image.")
        if len(sizes) > 1:
            raise OutputError(f"{folder}: target poses of image sizes {sorted(sizes)}. Scale them to one.")
        header = {"format": FORMAT, "pose_image_size": list(sizes.pop()), "settings": _as_json(settings)}
        if (folder / SETTINGS).exists():
            _check_same(folder, _read_header(folder), header)
        else:
            _claim(folder)
            write_json(folder / SETTINGS, header)
        if (folder / POSES).exists():
            poses = {**_read_poses(folder, header), **poses}
        write_keypoints(folder / POSES, poses)
        store = cls(folder)
        store.repair()
        return store

    @classmethod
    def open(cls, folder: str | Path) -> Store:
        """Read the set in ``folder``; changes nothing, so it may be called while another process generates.

        Raises:
            OutputError: not a generated set, or its manifest is damaged.
        """
        return cls(folder)

    @property
    def settings(self) -> dict[str, Any]:
        """What the set was made with."""
        return self._header["settings"]

    @property
    def images(self) -> list[GeneratedImage]:
        """The manifest's lines, in the order of generation."""
        return list(self._images.values())

    def __len__(self) -> int:
        return len(self._images)

    def __contains__(self, name: str) -> bool:
        return name in self._images

    def path(self, image: GeneratedImage) -> Path:
        """Where the file of ``image`` is."""
        return self.folder / (REJECTED if image.verdict == "reject" else KEPT) / image.name

    def samples(self, verdicts: Sequence[str] = ("keep", "unfiltered")) -> Samples:
        """The images with one of ``verdicts``, each with its target pose.

        Raises:
            DataError: the file of target poses is missing or damaged.
            OutputError: it lacks a pose.
        """
        poses = _read_poses(self.folder, self._header)
        chosen = [image for image in self._images.values() if image.verdict in verdicts]
        for image in chosen:
            if image.target_pose not in poses:
                raise OutputError(
                    f"{self.folder / POSES}: has no row for {image.target_pose}, the pose of {image.name}. Run "
                    "`reid-aug generate` again with the same settings: it writes the file anew."
                )
        return Samples(
            (Sample(self.path(image), image.pid, image.camid) for image in chosen),
            {image.name: poses[image.target_pose] for image in chosen},
        )

    def check_origin(self, real: Samples, verdicts: Sequence[str] = ("keep", "unfiltered")) -> None:
        """Refuse images made from others than ``real``: trained with these, they would show more than the subset.

        Raises:
            DataError: an image with one of ``verdicts`` whose source, target pose or identity is not among ``real``.
        """
        names, pids = {sample.name for sample in real}, set(real.pids.tolist())
        chosen = [image for image in self._images.values() if image.verdict in verdicts]
        outside = [
            image for image in chosen if not {image.source, image.target_pose} <= names or image.pid not in pids
        ]
        if outside:
            first = outside[0]
            raise DataError(
                f"{self.folder / MANIFEST}: {len(outside)} of {len(chosen)} images have a source, target pose or "
                f"identity that is not among the {len(real)} real images (first: {first.name}, source {first.source}, "
                f"target pose {first.target_pose}). Give the data, fraction and seed that the set was generated with."
            )

    def warn_unjudged(self) -> None:
        """Warn where the identity filter has judged only a part of the images: the rest count as kept."""
        unjudged = sum(image.verdict == "unfiltered" for image in self._images.values())
        if 0 < unjudged < len(self):
            warnings.warn(
                f"{self.folder}: {unjudged} of {len(self)} images came after the identity filter and were not judged, "
                "but count as kept. Filter the set again (`reid-aug filter`).",
                stacklevel=3,
            )

    def append(self, pixels: torch.Tensor, images: Sequence[GeneratedImage]) -> None:
        """Add ``pixels`` (uint8 [B, 3, H, W]) described by ``images``: all files first, then all lines at once.

        Raises:
            OutputError: the folder cannot be written, for instance because the disk is full.
        """
        try:
            files = list(zip(pixels.cpu(), map(self.path, images), strict=True))
            with ThreadPoolExecutor() as pool:  # for each file waits until it is on the disk
                list(pool.map(lambda file: _write_image(*file), files))
            with open(self.folder / MANIFEST, "a", encoding="utf-8") as manifest:
                manifest.writelines(f"{_line(image)}\n" for image in images)
                manifest.flush()
                os.fsync(manifest.fileno())
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot be written ({error}). Make room, then run it again.") from error
        self._images.update((image.name, image) for image in images)

    def update(self, images: Iterable[GeneratedImage]) -> None:
        """Replace the lines of ``images`` (their verdicts); the manifest is rewritten whole, then files move."""
        self._images.update((image.name, image) for image in images)
        self._write_manifest()
        self.repair()

    def repair(self) -> None:
        """Bring files and manifest together after a kill.

        A torn last line is cut, a generated image without a line is removed, a line without an image is dropped, an
        image moves to the folder of its verdict, unfinished temporary files go.

        Raises:
            OutputError: there are images of another origin among those of the set; nothing is changed.
        """
        for part in (KEPT, REJECTED):
            (self.folder / part).mkdir(exist_ok=True)
        self._refuse_foreign_images()
        images, torn = _read_manifest(self.folder / MANIFEST)
        whole = {image.name: image for image in images if self._settle(image)}
        self._images = whole
        if torn or len(whole) < len(images):
            self._write_manifest()
        for part in (KEPT, REJECTED):
            for file in (self.folder / part).iterdir():
                ours = file.suffix == ".tmp" or GENERATED_NAME.search(file.name)  # what a kill may have left behind
                if ours and (file.name not in whole or self.path(whole[file.name]) != file):
                    file.unlink()
        for file in self.folder.glob(".*.tmp"):
            file.unlink()

    def _refuse_foreign_images(self) -> None:
        """Images that no generator named are somebody's: a real training set put beside the generated one, say."""
        for part in (KEPT, REJECTED):
            for file in sorted((self.folder / part).iterdir()):
                if file.suffix.lower() in IMAGE_SUFFIXES and not GENERATED_NAME.search(file.name):
                    raise OutputError(
                        f"{file}: not an image of this generated set. Move it and its like out; `reid-aug data merge` "
                        "puts real and generated images into one folder."
                    )

    def _settle(self, image: GeneratedImage) -> bool:
        """Whether the file of ``image`` exists, after moving it to where it belongs."""
        place = self.path(image)
        if not place.exists():
            for part in (KEPT, REJECTED):
                if (self.folder / part / image.name).exists():
                    os.replace(self.folder / part / image.name, place)
        return place.exists()

    def _write_manifest(self) -> None:
        write_lines(self.folder / MANIFEST, [_line(image) for image in self._images.values()])


# --- files --------------------------------------------------------------------------------------------------------


_LINE = TypeAdapter(GeneratedImage)


def _line(image: GeneratedImage) -> str:
    return json.dumps(asdict(image), ensure_ascii=False)


def _read_manifest(path: Path) -> tuple[list[GeneratedImage], bool]:
    """The whole lines, and whether a torn one follows them."""
    if not path.exists():
        return [], False
    *lines, torn = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [_parse(path, number, line) for number, line in enumerate(lines, start=1)], bool(torn)


def _parse(path: Path, number: int, line: str) -> GeneratedImage:
    try:
        return _LINE.validate_json(line)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(str(part) for part in problem["loc"]) or "the line"
        raise OutputError(
            f"{path}, line {number}: {field}: {problem['msg']}. Restore the line, or delete it: its image is then "
            "generated again."
        ) from None


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise OutputError(
            f"{folder}: is not a generated set (no {SETTINGS}). Make one with `reid-aug generate`."
        ) from None
    except ValueError as error:
        raise OutputError(f"{path}: is not JSON ({error}). Restore it, or generate into another folder.") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT or header.keys() != HEADER:
        raise OutputError(
            f"{path}: is not {', '.join(sorted(HEADER))} with `format` {FORMAT}. Restore it, or generate into another "
            "folder."
        )
    return header


def _check_same(folder: Path, there: dict[str, Any], asked: dict[str, Any]) -> None:
    old, new = ({**header["settings"], "pose_image_size": header["pose_image_size"]} for header in (there, asked))
    changed = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    if changed:
        shown = "; ".join(f"`{key}` is {old.get(key)!r} there, {new.get(key)!r} now" for key in changed)
        raise OutputError(
            f"{folder / SETTINGS}: the folder holds another run: {shown}. Name another folder, or give the settings of "
            "that run to continue it."
        )


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they come back from a file, so that both compare equal."""
    return json.loads(json.dumps(dict(settings)))


def _read_poses(folder: Path, header: dict[str, Any]) -> dict[str, Pose]:
    return read_keypoints(folder / POSES, image_size=tuple(header["pose_image_size"]))


def _claim(folder: Path) -> None:
    """Make sure that ``folder`` exists and holds nothing but what a killed :meth:`Store.create` may have left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror}). Name another folder.") from None
    if any(not file.name.endswith(".tmp") for file in folder.iterdir()):
        raise OutputError(f"{folder}: is not empty and not a generated set (no {SETTINGS}). Name another folder.")


def _write_image(chw: torch.Tensor, path: Path) -> None:
    image = Image.fromarray(chw.permute(1, 2, 0).contiguous().numpy())
    with replacing(path) as temporary:
        if path.suffix == ".png":
            image.save(temporary, format="PNG")
        else:
            image.save(temporary, format="JPEG", quality=95, subsampling=0)
