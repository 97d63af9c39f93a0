from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from reid_aug.errors import CheckpointError, MissingDependencyError
from reid_aug.pose.estimate import COCO_JOINTS, PoseEstimator, to_pose
from reid_aug.pose.skeleton import JOINTS

SIZE = (128, 64)


class Images:
    """Grey images, one a sample; an ImageSource."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def batch(self, indices) -> torch.Tensor:
        return torch.full((len(indices), 3, *SIZE), 127, dtype=torch.uint8)


def coco(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(1, 63, (17, 2)), rng.uniform(0.5, 1.0, 17)


def test_joints_keep_their_names():
    xy, scores = coco()
    pose = to_pose(xy, scores, SIZE)
    assert pose.xy.dtype == np.float32 and pose.visible.all() and pose.image_size == SIZE
    for name, point in zip(JOINTS, pose.xy):
        if name != "neck":
            assert np.allclose(point, xy[COCO_JOINTS.index(name)])
    left, right = (xy[COCO_JOINTS.index(f"{side}_shoulder")] for side in ("left", "right"))
    assert np.allclose(pose.xy[JOINTS.index("neck")], (left + right) / 2)


def test_the_neck_needs_both_shoulders():
    xy, scores = coco()
    scores[COCO_JOINTS.index("left_shoulder")] = 0.1
    hidden = [name for name, visible in zip(JOINTS, to_pose(xy, scores, SIZE).visible) if not visible]
    assert hidden == ["neck", "left_shoulder"]


@pytest.mark.parametrize("point", [(-0.5, 10), (64, 10), (10, 128), (10, -3)])
def test_a_joint_outside_the_image_is_not_visible(point):
    xy, scores = coco()
    xy[COCO_JOINTS.index("nose")] = point
    pose = to_pose(xy, scores, SIZE)
    assert [name for name, visible in zip(JOINTS, pose.visible) if not visible] == ["nose"]
    assert (pose.xy[JOINTS.index("nose")] == 0).all()


def test_without_rtmlib_the_message_has_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "rtmlib", None)
    with pytest.raises(MissingDependencyError, match=r"needs rtmlib: pip install 'reid-aug\[pose\]'"):
        PoseEstimator()


def write_model(path, joints: int = 17, height: int = 64, width: int = 48) -> None:
    """A SimCC head that puts joint k at (2k, 3k) of its input with confidence 0.9, whatever the image shows."""
    onnx = pytest.importorskip("onnx")
    x, y = np.zeros((1, joints, 2 * width), np.float32), np.zeros((1, joints, 2 * height), np.float32)
    for joint in range(joints):
        x[0, joint, 4 * joint] = y[0, joint, 6 * joint] = 0.9
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    constants = [onnx.numpy_helper.from_array(value, name) for name, value in (("x", x), ("y", y))]
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "mean"], ["zero"]),
        helper.make_node("Add", ["x", "zero"], ["simcc_x"]),
        helper.make_node("Add", ["y", "zero"], ["simcc_y"]),
    ]
    shapes = {"image": [1, 3, height, width], "simcc_x": x.shape, "simcc_y": y.shape}
    image, *outputs = [helper.make_tensor_value_info(name, number, shape) for name, shape in shapes.items()]
    graph = helper.make_graph(nodes, "simcc", [image], outputs, constants)
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def test_a_model_file(tmp_path):
    """Joint k of the model's 64x48 input lies where rtmlib's crop, 1.25 times the image, has it."""
    pytest.importorskip("rtmlib")
    write_model(tmp_path / "model.onnx")
    calls = []
    poses = PoseEstimator(tmp_path / "model.onnx")(Images(3), progress=lambda *call: calls.append(call))
    assert len(poses) == 3 and calls == [(0, 3), (3, 3)]
    crop = np.array([160 * 48 / 64, 160])  # of the image around its middle, in the model's proportions
    for joint, name in enumerate(COCO_JOINTS):
        expected = np.array([2 * joint, 3 * joint]) / (48, 64) * crop + (32, 64) - crop / 2
        inside = (expected >= 0).all() and (expected < (64, 128)).all()
        assert poses[0].visible[JOINTS.index(name)] == inside
        if inside:
            assert np.allclose(poses[0].xy[JOINTS.index(name)], expected, atol=0.1)


def test_files_that_are_no_model(tmp_path):
    pytest.importorskip("rtmlib")
    with pytest.raises(CheckpointError, match=r"none\.onnx: no such file"):
        PoseEstimator(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(CheckpointError, match=r"text\.onnx: not an RTMPose model"):
        PoseEstimator(tmp_path / "text.onnx")
    write_model(tmp_path / "hand.onnx", joints=10)
    with pytest.raises(CheckpointError, match=r"hand\.onnx: returns 10 joints"):
        PoseEstimator(tmp_path / "hand.onnx")(Images(1))
