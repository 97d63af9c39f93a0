"""Pairs: two images of one person, and the ``from,to`` CSV in which the field exchanges them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from reid_aug.errors import DataError
from reid_aug.files import read_lines, write_lines
from reid_aug.pose.skeleton import has_trunk
from reid_aug.records import Samples

HEADER = "from,to"


def make_pairs(samples: Samples) -> list[tuple[str, str]]:
    """All ordered pairs of different images of one identity in which both images show the torso.

    The torso shows where both shoulders and both hips are visible; an image without a pose has no pair. Distractors
    (pid 0) and junk (pid -1) are no identities. 263,632 pairs on the Market-1501 training set.

    Identities that end up without a pair are counted in one warning: they still train a re-ID model, not a generator.

    Returns:
        (source name, target name), by identity, then in the order of ``samples``.
    """
    pairs, unpaired, identities = _all_pairs(samples)
    if unpaired:
        warnings.warn(
            f"{len(unpaired)} of {identities} identities (pid {unpaired[0]}{', ...' * (len(unpaired) > 1)}) have "
            "fewer than two images with both shoulders and both hips visible: no pair, so they are used for re-ID "
            "alone. Add images or key points of them, or take a larger fraction.",
            stacklevel=2,
        )
    return pairs


def sample_pairs(samples: Samples, count: int, seed: int) -> list[tuple[str, str]]:
    """``count`` different pairs out of those of :func:`make_pairs`, or all where there are fewer; for an evaluation.

    A larger ``count`` begins with the pairs of a smaller one.

    Raises:
        DataError: no identity has a pair.
    """
    pairs, _, _ = _all_pairs(samples)
    if not pairs:
        raise DataError(
            f"pairs: none of the {len(samples)} images has another of its identity with both shoulders and both hips "
            "visible in both. Load the data set with the key points of these images."
        )
    order = np.random.default_rng(seed).permutation(len(pairs))
    return [pairs[index] for index in order[:count]]


def _all_pairs(samples: Samples) -> tuple[list[tuple[str, str]], list[int], int]:
    """The pairs, the identities without one, and how many identities there are."""
    pids = samples.pids
    names = np.array([sample.name for sample in samples], dtype=object)
    usable = usable_in_pairs(samples)
    pairs: list[tuple[str, str]] = []
    identities = np.unique(pids[pids > 0])
    unpaired = []
    for pid in identities:
        own = names[(pids == pid) & usable]
        if len(own) < 2:
            unpaired.append(int(pid))
            continue
        source, target = np.nonzero(~np.eye(len(own), dtype=bool))
        pairs += zip(own[source], own[target])
    return pairs, unpaired, len(identities)


def usable_in_pairs(samples: Samples) -> np.ndarray:
    """[N] bool: whether each image has a pose with both shoulders and both hips visible."""
    poses = [samples.poses.get(sample.name) for sample in samples]
    return np.array([pose is not None and has_trunk(pose) for pose in poses], dtype=bool)


def read_pairs(csv: str | Path, samples: Samples | None = None) -> list[tuple[str, str]]:
    """Read a ``from,to`` file; with ``samples``, both images of every pair must be there and have a pose.

    Raises:
        DataError: no such file or header, a row that is not two names, or an image without a pose in ``samples``.
            Names the line.
    """
    csv = Path(csv)
    lines = read_lines(csv, f"Name a pair file with the header `{HEADER}`.")
    if lines[0].strip() != HEADER:
        raise DataError(f"{csv}, line 1: {lines[0][:80]!r} is not the header. Put `{HEADER}` there.")
    known = None if samples is None else {s.name for s in samples if s.name in samples.poses}
    pairs = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        names = [name.strip() for name in line.split(",")]
        if len(names) != 2 or not all(names):
            raise DataError(f"{csv}, line {number}: {line[:80]!r} is not two names. Write `source.jpg,target.jpg`.")
        for name in names:
            if known is not None and name not in known:
                raise DataError(
                    f"{csv}, line {number}: {name} is no image with key points of this data set. "
                    "Remove the row, or add the image and its key points."
                )
        pairs.append((names[0], names[1]))
    return pairs


def write_pairs(csv: str | Path, pairs: Iterable[tuple[str, str]]) -> None:
    """Write ``pairs`` as a ``from,to`` file, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    write_lines(Path(csv), [HEADER, *(f"{source},{target}" for source, target in pairs)])
