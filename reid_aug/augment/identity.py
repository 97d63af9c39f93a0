"""The identity filter: is a generated image still nearer to its own person than to anybody else?

Its similarity to an identity is the mean cosine to the ``neighbours`` real images of that identity that are nearest to
it (to all of them, where there are fewer). Its score is the similarity to its own identity less that to the nearest
other identity: the one of the nearest real image that shows somebody else. It is kept from ``min_margin`` upwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from reid_aug.augment.store import Store
from reid_aug.config import FilterConfig
from reid_aug.errors import DataError
from reid_aug.records import Samples

VERDICTS = ("keep", "reject", "unfiltered")
_CHUNK = 256  # generated images compared at once


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the filter says of one image: its margin, "keep" or "reject", and why in words."""

    score: float
    verdict: str
    reason: str


def filter_store(
    store: Store, embed: Callable[[Samples], torch.Tensor], real: Samples, config: FilterConfig
) -> dict[str, int]:
    """Judge every image of ``store`` (judged before or not) and write the verdicts into it.

    Args:
        store: the generated set.
        embed: features of samples, [N, D] with rows of length 1; a re-ID model that has not seen query or gallery.
        real: the images that were augmented.
        config: the filter.

    Returns:
        How many images were kept, "keep", and refused, "reject".

    Raises:
        DataError: a generated image's identity is not among the real ones, or ``embed`` returned something else.
    """
    if not len(store):
        return {"keep": 0, "reject": 0}
    generated = store.samples(VERDICTS)
    verdicts = judge(embed(generated), generated.pids, embed(real), real.pids, config)
    store.update(
        image.judged(verdict.score, verdict.verdict, verdict.reason) for image, verdict in zip(store.images, verdicts)
    )
    return {"keep": 0, "reject": 0, **Counter(verdict.verdict for verdict in verdicts)}


def judge(
    features: torch.Tensor,
    pids: Sequence[int] | np.ndarray,
    real_features: torch.Tensor,
    real_pids: Sequence[int] | np.ndarray,
    config: FilterConfig,
) -> list[Verdict]:
    """A verdict for each of N generated images, from M real ones.

    Args:
        features: [N, D] of the generated images, rows of length 1.
        pids: [N] the identities they are labelled with.
        real_features: [M, D], rows of length 1.
        real_pids: [M].
        config: the filter.

    Raises:
        DataError: an identity that is not among ``real_pids``, no second identity there, or features that are not
            what is asked for.
    """
    features, pids = _checked(features, pids, "generated")
    real_features, real_pids = _checked(real_features, real_pids, "real")
    strangers = np.setdiff1d(pids, real_pids)
    if len(strangers):
        raise DataError(
            f"filter: identity {strangers[0]} has generated images but no real one ({len(strangers)} such identities). "
            "Filter against the images that were augmented."
        )
    if len(np.unique(real_pids)) < 2:
        raise DataError("filter: the real images show fewer than two identities. Give it the whole training subset.")
    other = _nearest_other(features, pids, real_features, real_pids)
    to_own = _similarity(features, pids, real_features, real_pids, config.neighbours)
    to_other = _similarity(features, other, real_features, real_pids, config.neighbours)
    return [
        _verdict(float(score), int(pid), int(rival), config)
        for score, pid, rival in zip(to_own - to_other, pids, other)
    ]


def _verdict(score: float, pid: int, rival: int, config: FilterConfig) -> Verdict:
    reason = (
        f"nearest other identity {rival:04d} is {abs(score):.2f} {'closer' if score < 0 else 'farther'} than {pid:04d}"
    )
    if score >= config.min_margin:
        return Verdict(score, "keep", reason)
    return Verdict(score, "reject", f"{reason}, min_margin is {config.min_margin:g}")


def _nearest_other(features: np.ndarray, pids: np.ndarray, real: np.ndarray, real_pids: np.ndarray) -> np.ndarray:
    """[N] identity of the nearest real image that shows another person."""
    import faiss

    index = faiss.IndexFlatIP(real.shape[1])
    index.add(real)
    # An identity's own images may all be nearer: one more than the largest identity has is deep enough.
    depth = int(np.unique(real_pids, return_counts=True)[1].max()) + 1
    found = real_pids[index.search(features, depth)[1]]  # [N, depth]
    first = (found != pids[:, None]).argmax(1)
    return found[np.arange(len(found)), first]


def _similarity(
    features: np.ndarray, pids: np.ndarray, real: np.ndarray, real_pids: np.ndarray, neighbours: int
) -> np.ndarray:
    """[N] mean cosine of each image to its ``neighbours`` nearest real images of the identity in ``pids``."""
    identities, counts = np.unique(real_pids, return_counts=True)
    starts = np.cumsum(counts) - counts
    by_identity = np.argsort(real_pids, kind="stable")
    column = np.arange(counts.max())
    similarity = np.empty(len(features), np.float32)
    for start in range(0, len(features), _CHUNK):
        part = slice(start, start + _CHUNK)
        row = np.searchsorted(identities, pids[part])
        present = column < counts[row, None]  # [n, most images of an identity]
        theirs = by_identity[np.where(present, starts[row, None] + column, 0)]
        cosines = np.where(present, np.einsum("nd,nmd->nm", features[part], real[theirs], optimize=True), -np.inf)
        votes = np.minimum(neighbours, counts[row])
        nearest = -np.sort(-cosines, axis=1)
        counted = column < votes[:, None]
        similarity[part] = np.where(counted, nearest, 0.0).sum(1) / votes
    return similarity


def _checked(features: torch.Tensor, pids: Sequence[int] | np.ndarray, whose: str) -> tuple[np.ndarray, np.ndarray]:
    pids = np.asarray(pids, np.int64)
    array = np.ascontiguousarray(features.detach().cpu().numpy(), np.float32)
    if array.ndim != 2 or len(array) != len(pids):
        raise DataError(f"filter: {whose} features are {list(array.shape)} for {len(pids)} images. Return [N, D].")
    lengths = np.linalg.norm(array, axis=1)
    if not np.allclose(lengths, 1.0, atol=1e-2):
        worst = float(lengths[np.argmax(np.abs(np.nan_to_num(lengths, nan=np.inf) - 1.0))])
        raise DataError(f"filter: a row of the {whose} features has length {worst:.3g}, expected 1. L2-normalise them.")
    return array, pids
