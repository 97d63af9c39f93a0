"""Key points of the person in each image, by RTMPose (Jiang et al., 2023) through the optional package rtmlib."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from reid_aug.errors import CheckpointError, MissingDependencyError
from reid_aug.pose.skeleton import JOINTS, NECK
from reid_aug.records import ImageSource, Pose

COCO_JOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
"""The joints of COCO, in the order in which RTMPose returns them."""

MIN_SCORE = 0.3  # below it a joint counts as not visible; rtmlib's own default
_BATCH = 256  # images decoded at once


class PoseEstimator:
    """RTMPose, loaded: called with images, it returns the pose of the person in each.

    Args:
        model_file: an RTMPose model of 17 COCO joints as ONNX; None lets rtmlib download its "balanced" one, once.
        min_score: least confidence of a visible joint, 0..1.

    Raises:
        MissingDependencyError: rtmlib is not installed.
        CheckpointError: ``model_file`` is missing or is not such a model.
    """

    def __init__(self, model_file: str | Path | None = None, min_score: float = MIN_SCORE):
        self.model_file, self.min_score = model_file, min_score
        self._model = _load_model(model_file)

    def __call__(
        self, images: ImageSource, progress: Callable[[int, int], None] = lambda done, total: None
    ) -> list[Pose]:
        """Each image is taken as the box of one person, as re-ID images are.

        Args:
            images: of one size, which the poses' pixels count in.
            progress: called with the images done, and all.

        Raises:
            CheckpointError: the model has other joints.
        """
        poses: list[Pose] = []
        progress(0, len(images))
        for start in range(0, len(images), _BATCH):
            for image in images.batch(range(start, min(start + _BATCH, len(images)))):
                # RGB as it is: rtmlib swaps no channels, and the mean it subtracts is in RGB order.
                xy, scores = self._model(image.permute(1, 2, 0).numpy())
                if xy.shape != (1, len(COCO_JOINTS), 2):
                    raise CheckpointError(f"{self.model_file}: returns {xy.shape[1]} joints, expected the 17 of COCO.")
                poses.append(to_pose(xy[0], scores[0], tuple(image.shape[-2:]), self.min_score))
            progress(len(poses), len(images))
        return poses


def to_pose(xy: np.ndarray, scores: np.ndarray, image_size: tuple[int, int], min_score: float = MIN_SCORE) -> Pose:
    """An OpenPose-18 pose from COCO joints: the neck is the middle of the shoulders, as sure as the less sure of them.

    Args:
        xy: [17, 2] x and y in pixels.
        scores: [17] confidence.
        image_size: (height, width); a joint outside is not visible.
        min_score: least confidence of a visible joint.
    """
    index = {name: position for position, name in enumerate(COCO_JOINTS)}
    order = [index[name] for name in JOINTS if name != "neck"]
    shoulders = [index["left_shoulder"], index["right_shoulder"]]
    xy = np.insert(xy[order], NECK, xy[shoulders].mean(0), axis=0).astype(np.float32)
    scores = np.insert(scores[order], NECK, scores[shoulders].min())
    height, width = image_size
    visible = (scores >= min_score) & ((xy >= 0) & (xy < (width, height))).all(1)
    xy[~visible] = 0.0
    return Pose(xy, visible, image_size)


def _load_model(model_file: str | Path | None):
    try:
        import onnxruntime  # noqa: F401 - rtmlib would miss it only later
        from rtmlib import Body, RTMPose
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"pose estimation needs {error.name}: pip install 'reid-aug[pose]'") from None
    with redirect_stdout(sys.stderr):  # it prints what it loads
        if model_file is None:
            return RTMPose(Body.MODE["balanced"]["pose"], Body.MODE["balanced"]["pose_input_size"])
        if not Path(model_file).is_file():
            raise CheckpointError(f"{model_file}: no such file. Name an RTMPose model in ONNX format, or leave it out.")
        try:
            model = RTMPose(str(model_file))
            *_, height, width = model.session.get_inputs()[0].shape
        except Exception as error:  # onnxruntime has its own kinds of error, without a common base
            raise CheckpointError(f"{model_file}: not an RTMPose model in ONNX format ({error}).") from None
    model.model_input_size = (width, height)
    return model
