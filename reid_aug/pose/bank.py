"""The bank of target poses: whose pose a generated image takes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from reid_aug.errors import ConfigError, DataError
from reid_aug.pose.skeleton import HIPS, JOINTS, LEFT_SHOULDER, NOSE, RIGHT_SHOULDER, SHOULDERS, has_trunk
from reid_aug.records import Pose, Sample, Samples

VIEWS = ("front", "side", "back")
STRATEGIES = ("random", "diverse", "other_view", "other_camera")
CLUSTERS = 32  # of poses, for "diverse"

# Shoulder width over trunk length from which a person counts as turned to or from the camera. On Market-1501 the nose
# is visible in 94 % of the images beyond it on the front's side and in 14 % on the back's.
_TURNED = 0.4


def view_of(pose: Pose) -> str:
    """The side of a person that a pose shows: "front", "side" or "back". Both shoulders and hips must be visible.

    The front has the right shoulder on the left of the image and a visible nose, the back neither; everything else,
    profiles and half-turned people, is "side".
    """
    width = pose.xy[LEFT_SHOULDER, 0] - pose.xy[RIGHT_SHOULDER, 0]
    turned = width / _trunk(pose)[1]
    if turned > _TURNED and pose.visible[NOSE]:
        return "front"
    if turned < -_TURNED and not pose.visible[NOSE]:
        return "back"
    return "side"


class PoseBank:
    """The poses of ``samples`` that can be asked for: those with both shoulders and both hips visible.

    Raises:
        DataError: there is no such pose.
    """

    def __init__(self, samples: Samples):
        usable = [
            sample for sample in samples if sample.name in samples.poses and has_trunk(samples.poses[sample.name])
        ]
        if not usable:
            raise DataError(
                f"poses: none of the {len(samples)} images has a pose with both shoulders and both hips visible. "
                "Load the data set with its key points (keypoints=...), or extract them first."
            )
        self.names = tuple(sample.name for sample in usable)
        self._index = {name: index for index, name in enumerate(self.names)}
        self._pids = np.array([sample.pid for sample in usable])
        self._camids = np.array([sample.camid for sample in usable])
        self._seen = np.array([(sample.pid, sample.camid) for sample in samples])  # those without a usable pose, too
        self._poses = [samples.poses[name] for name in self.names]

    def __len__(self) -> int:
        return len(self.names)

    def camid(self, name: str) -> int:
        """The camera of the image ``name``, which has a pose in the bank."""
        return int(self._camids[self._index[name]])

    def draw(
        self, strategy: str, source: Sample, count: int, rng: np.random.Generator, drawn: Sequence[str] = ()
    ) -> list[str]:
        """Choose target poses for images of ``source``'s identity.

        - ``random``: uniformly from the bank, as the papers do.
        - ``diverse``: poses are clustered by shape; a cluster is drawn with probability proportional to 1 / (1 + n),
          n its images of the source's identity and the draws it has had, so what the identity lacks comes first;
          then a pose uniformly from the cluster.
        - ``other_view``: uniformly among the views (front, side, back) in which the identity has no image, or, if it
          has all, among those that differ from the source's; then a pose uniformly from the view.
        - ``other_camera``: the same with cameras, by the images that the poses come from. For a generator that is told
          cameras (``model.cameras``): it shows the identity before one that has not seen it.

        No pose comes twice while its pool has another; the source's own is left out unless it is the bank's only one.

        Args:
            strategy: one of ``STRATEGIES``.
            source: the image that will be shown in the poses; need not be in the bank.
            count: how many poses.
            rng: the only source of randomness.
            drawn: names that the identity was given before, from other sources perhaps; they count as draws.

        Returns:
            ``count`` names of images whose pose to use.

        Raises:
            ConfigError: an unknown strategy.
        """
        labels, pools = self._groups(strategy)
        own = self._own(strategy, source.pid, labels, len(pools))
        itself = [self._index[source.name]] if source.name in self._index and len(self) > 1 else []
        sizes = np.array([len(pool) for pool in pools])
        available = sizes > np.bincount(labels[itself], minlength=len(pools))

        taken = [self._index[name] for name in drawn]
        for _ in range(count):
            if strategy in ("other_view", "other_camera"):
                weight = _others(own, labels[itself], available)
            else:  # one group of all for "random"
                weight = available / (1.0 + own + np.bincount(labels[taken], minlength=len(pools)))
            pool = pools[rng.choice(len(pools), p=weight / weight.sum())]
            pool = pool[pool != itself[0]] if itself else pool
            times = np.bincount(taken, minlength=len(self))[pool]
            taken.append(int(rng.choice(pool[times == times.min()])))
        return [self.names[index] for index in taken[len(drawn) :]]

    def _groups(self, strategy: str) -> tuple[np.ndarray, list[np.ndarray]]:
        """[N] the group of each pose among which the strategy chooses, and the indices of each group."""
        if strategy == "random":
            return self._whole
        if strategy == "diverse":
            return self._clusters
        if strategy == "other_view":
            return self._views
        if strategy == "other_camera":
            return self._cameras
        raise ConfigError(f"poses: unknown strategy {strategy!r}. Use one of: {', '.join(STRATEGIES)}.")

    def _own(self, strategy: str, pid: int, labels: np.ndarray, groups: int) -> np.ndarray:
        """[G] images that the identity has in each group."""
        if strategy == "other_camera":
            return np.bincount(self._seen[self._seen[:, 0] == pid, 1] - 1, minlength=groups)
        return np.bincount(labels[self._pids == pid], minlength=groups)

    @cached_property
    def _whole(self) -> tuple[np.ndarray, list[np.ndarray]]:
        return _pooled(np.zeros(len(self), np.int64), 1)

    @cached_property
    def _views(self) -> tuple[np.ndarray, list[np.ndarray]]:
        return _pooled(np.array([VIEWS.index(view_of(pose)) for pose in self._poses]), len(VIEWS))

    @cached_property
    def _cameras(self) -> tuple[np.ndarray, list[np.ndarray]]:
        return _pooled(self._camids - 1, int(self._seen[:, 1].max()))

    @cached_property
    def _clusters(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """By the cluster of each pose's shape, found with a fixed seed."""
        from sklearn.cluster import KMeans

        shapes = _shapes(self._poses)
        distinct = len(np.unique(shapes.round(3), axis=0))
        clusters = min(CLUSTERS, distinct)
        return _pooled(KMeans(clusters, n_init=1, random_state=0).fit_predict(shapes), clusters)


def _pooled(labels: np.ndarray, groups: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The labels, and the indices of each group."""
    return labels, [np.flatnonzero(labels == group) for group in range(groups)]


def _others(own: np.ndarray, seen: np.ndarray, available: np.ndarray) -> np.ndarray:
    """[G] 1 for the groups to choose from: those the identity lacks, else those not ``seen``, else all available."""
    for wanted in (own == 0, ~np.isin(np.arange(len(own)), seen)):
        if (wanted & available).any():
            return (wanted & available).astype(float)
    return available.astype(float)


def _shapes(poses: Sequence[Pose]) -> np.ndarray:
    """[N, 36] joints seen from the middle of the hips, in trunk lengths; a missing one is where it is on average."""
    visible = np.stack([pose.visible for pose in poses])
    trunks = [_trunk(pose) for pose in poses]
    xy = np.stack([(pose.xy - middle) / length for pose, (middle, length) in zip(poses, trunks)]) * visible[..., None]
    mean = xy.sum(0) / np.maximum(visible.sum(0), 1)[:, None]
    return np.where(visible[..., None], xy, mean).reshape(len(poses), 2 * len(JOINTS))


def _trunk(pose: Pose) -> tuple[np.ndarray, float]:
    """The middle of the hips, and the distance from there to the middle of the shoulders (at least a pixel)."""
    hips, shoulders = pose.xy[list(HIPS)].mean(0), pose.xy[list(SHOULDERS)].mean(0)
    return hips, max(float(np.linalg.norm(shoulders - hips)), 1.0)
