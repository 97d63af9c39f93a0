"""Where the toy people are seen: six cameras with their scenes, light, colours and optics.

The cameras are the same whatever the seed of a data set, as a real network's are: who walks by changes, they do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F

SCENE_SIZE = (168, 720)  # height and width of a camera's scene, in pixels of the image
HORIZON = 62  # row of the scene where wall and ground meet


@dataclass(frozen=True)
class Camera:
    """One camera.

    Attributes:
        headings: directions in which people walk by, radians; 0 towards the camera, pi/2 to the right of the image.
        pitch: how far it looks down, radians.
        light: direction to the light: right, down, towards the camera.
        ambient, diffuse: strength of the light.
        gain: colour cast, factors on red, green and blue.
        gamma: of the tone curve.
        saturation: 1 keeps colours.
        blur: share of the blurred image in the image, 0 to 1.
        noise: standard deviation, in units of the full range.
        stretch: width of a person over the true one; boxes of a real set are stretched to 1:2.
        wall, ground: what its scene is made of.
    """

    headings: tuple[float, ...]
    pitch: float
    light: tuple[float, float, float]
    ambient: float
    diffuse: float
    gain: tuple[float, float, float]
    gamma: float
    saturation: float
    blur: float
    noise: float
    stretch: float
    wall: str
    ground: str


CAMERAS = (
    Camera((0.2, 3.0, 0.9), 0.16, (-0.6, -0.6, 0.5), 0.52, 0.62, (1.00, 1.00, 1.00), 1.00, 1.00, 0.15, 0.010, 1.22,
           "panels", "paving"),
    Camera((-0.7, 2.5), 0.12, (0.5, -0.7, 0.5), 0.60, 0.48, (1.06, 1.00, 0.90), 1.05, 0.90, 0.35, 0.014, 1.14,
           "bricks", "asphalt"),
    Camera((1.4, -1.5), 0.10, (0.1, -0.8, 0.6), 0.46, 0.62, (0.93, 1.00, 1.07), 1.10, 0.85, 0.25, 0.012, 1.16,
           "glass", "paving"),
    Camera((0.0, 3.1, -2.4), 0.20, (-0.3, -0.9, 0.3), 0.42, 0.55, (1.04, 0.98, 0.94), 1.15, 0.80, 0.50, 0.018, 1.10,
           "hedge", "bricks"),
    Camera((-1.2, 1.8, 0.4), 0.14, (0.8, -0.4, 0.4), 0.58, 0.62, (0.98, 1.03, 0.98), 0.92, 1.05, 0.10, 0.010, 1.20,
           "stalls", "asphalt"),
    Camera((0.6, -2.6), 0.08, (-0.8, -0.3, 0.5), 0.44, 0.50, (0.95, 0.98, 1.06), 1.00, 0.75, 0.75, 0.020, 1.12,
           "trees", "grass"),
)  # fmt: skip


@cache
def scenes() -> torch.Tensor:
    """[6, 3, H, W] float in [0, 1], H and W of ``SCENE_SIZE``: what each camera sees when nobody is there."""
    drawn = [_draw_scene(camera, np.random.default_rng(1501 + index)) for index, camera in enumerate(CAMERAS)]
    return torch.from_numpy(np.stack(drawn).astype(np.float32))


def crop_scenes(camera: torch.Tensor, left: torch.Tensor, top: torch.Tensor, zoom: torch.Tensor, size) -> torch.Tensor:
    """Windows of the scenes.

    Args:
        camera: [B] int64, index into ``CAMERAS``.
        left, top: [B] corner of the window, pixels of the scene.
        zoom: [B] scene pixels per image pixel.
        size: (height, width) of the window in image pixels.

    Returns:
        [B, 3, height, width] float in [0, 1].
    """
    height, width = SCENE_SIZE
    # One atlas of all scenes under each other and one tall grid: nothing is copied per image.
    atlas = scenes().permute(1, 0, 2, 3).reshape(1, 3, -1, width)
    rows = top[:, None] + torch.arange(size[0]) * zoom[:, None]
    columns = left[:, None] + torch.arange(size[1]) * zoom[:, None]
    rows = rows.clamp(0, height - 1) + camera[:, None] * height
    y = (rows + 0.5) / atlas.shape[2] * 2 - 1
    x = (columns.clamp(0, width - 1) + 0.5) / width * 2 - 1
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1)
    window = F.grid_sample(atlas, grid.reshape(1, -1, size[1], 2), mode="bilinear", align_corners=False)
    return window.reshape(3, len(camera), *size).transpose(0, 1)


def develop(image: torch.Tensor, gain, gamma, saturation, blur, grain) -> torch.Tensor:
    """What the camera makes of the light: [B, 3, H, W] float in [0, 1] -> the same, with cast, tone, blur and noise.

    Args:
        image: [B, 3, H, W].
        gain: [B, 3]; gamma, saturation, blur: [B], see :class:`Camera`.
        grain: [B, 3, H, W] noise, added last.
    """
    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * saturation[:, None, None, None]
    image = (image * gain[:, :, None, None]).clamp(1e-4, 1).pow(gamma[:, None, None, None])
    soft = F.pad(image, (2, 2, 2, 2), mode="replicate")
    for box in (3, 2, 2):  # together the kernel 1 3 4 3 1
        soft = F.avg_pool2d(soft, box, stride=1)
    image = torch.lerp(image, soft, blur[:, None, None, None])
    return (image + grain).clamp(0, 1)


def _draw_scene(camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """[3, H, W]: the wall above the horizon, the ground below it, and what stands in front of the wall."""
    height, width = SCENE_SIZE
    y, x = np.mgrid[0:height, 0:width].astype(float)
    scene = _WALLS[camera.wall](x, y, rng)
    ground = _GROUNDS[camera.ground](x, y, rng)
    below = _soft(y - HORIZON)[..., None]
    scene = scene * (1 - below) + ground * below
    kerb = np.exp(-(((y - HORIZON - 3) / 2.2) ** 2))[..., None]
    scene = scene * (1 - 0.35 * kerb)
    for _ in range(7):
        scene = _draw_object(scene, x, y, rng)
    return np.clip(scene, 0.03, 0.97).transpose(2, 0, 1)


def _draw_object(scene: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A post, a bin or a parked bicycle somewhere along the wall."""
    kind, at, foot = rng.choice(["post", "bin", "bicycle"]), rng.uniform(20, 700), HORIZON + rng.uniform(6, 26)
    colour = rng.choice([[0.25, 0.26, 0.28], [0.6, 0.6, 0.6], [0.2, 0.32, 0.26], [0.5, 0.3, 0.2]])
    if kind == "post":
        mask = _soft(2.5 - abs(x - at)) * _soft(foot - y)
    elif kind == "bin":
        mask = _soft(9 - abs(x - at)) * _soft(foot - y) * _soft(y - foot + 26)
    else:
        wheels = [abs(np.hypot(x - at - side, y - foot + 13) - 12) for side in (-17, 17)]
        frame = np.maximum(abs(y - foot + 24 - 0.25 * (x - at)), abs(x - at) - 17)
        mask = _soft(1.6 - np.minimum(np.minimum(*wheels), frame))
    return scene * (1 - mask[..., None]) + np.asarray(colour) * mask[..., None]


def _soft(distance: np.ndarray) -> np.ndarray:
    """Coverage of a pixel at a signed distance from an edge, positive inside."""
    return np.clip(distance + 0.5, 0, 1)


def _noise(shape: tuple[int, int], cell: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Smooth noise in [-1, 1]; ``cell`` is the (height, width) of its blobs in pixels."""
    coarse = rng.uniform(-1, 1, [max(2, round(extent / step)) for extent, step in zip(shape, cell)])
    fine = F.interpolate(torch.from_numpy(coarse)[None, None], size=shape, mode="bicubic", align_corners=True)
    return fine[0, 0].numpy()


def _lines(value: np.ndarray, period: float, width: float) -> np.ndarray:
    """1 on lines at the multiples of ``period``, 0 between them."""
    distance = abs((value / period + 0.5) % 1 - 0.5) * period
    return np.clip(1 - distance / width, 0, 1)


def _mix(first, second, share: np.ndarray) -> np.ndarray:
    return np.asarray(first) * (1 - share[..., None]) + np.asarray(second) * share[..., None]


def _cells(x: np.ndarray, y: np.ndarray, size: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """One random number in [0, 1] for each cell of a grid of ``size`` (height, width)."""
    table = rng.random((64, 256))
    return table[(y // size[0]).astype(int) % 64, (x // size[1]).astype(int) % 256]


def _panels(x, y, rng):
    tone = 0.5 + 0.06 * _cells(x, y, (31, 60), rng) + 0.03 * _noise(x.shape, (20, 40), rng)
    return _mix([1.0, 0.99, 0.97], [0.2, 0.2, 0.2], np.maximum(_lines(x, 60, 1.5), _lines(y, 31, 1.5)) * 0.6) * (
        tone[..., None]
    )


def _bricks(x, y, rng):
    shifted = x + 8 * ((y // 7) % 2)
    tone = 0.8 + 0.25 * _cells(shifted, y, (7, 16), rng) + 0.08 * _noise(x.shape, (12, 30), rng)
    mortar = np.maximum(_lines(shifted, 16, 1.2), _lines(y, 7, 1.2))
    return _mix([0.55, 0.33, 0.27], [0.62, 0.58, 0.53], mortar * 0.7) * tone[..., None]


def _glass(x, y, rng):
    pane = _cells(x, y, (48, 34), rng)
    inside = 0.12 + 0.16 * pane + 0.1 * np.clip(_noise(x.shape, (18, 14), rng), 0, 1)
    return _mix(np.stack([inside, inside * 1.05, inside * 1.15], -1), [0.5, 0.52, 0.54],
                np.maximum(_lines(x, 34, 2.5), _lines(y + 6, 48, 2.5)))  # fmt: skip


def _hedge(x, y, rng):
    leaves = 0.5 * _noise(x.shape, (5, 5), rng) + 0.5 * _noise(x.shape, (14, 18), rng)
    hedge = _mix([0.1, 0.17, 0.08], [0.34, 0.46, 0.2], np.clip(0.5 + 0.7 * leaves, 0, 1))
    return _mix(hedge, [0.62, 0.66, 0.7], _soft(18 + 4 * _noise(x.shape, (60, 24), rng) - y))


def _stalls(x, y, rng):
    awning = np.stack([_cells(x, y * 0, (1, 90), rng) for _ in range(3)], -1) * 0.55 + 0.25
    awning = _mix(awning, [0.85, 0.83, 0.8], ((x // 11) % 2) * 0.7)
    goods = np.stack([_cells(x, y, (9, 12), rng) for _ in range(3)], -1) * 0.5 + 0.12
    goods = goods * (0.8 + 0.2 * _noise(x.shape, (9, 12), rng))[..., None]
    return _mix(goods, awning, _soft(26 + 3 * np.sin(x / 5.5 * np.pi) - y))


def _trees(x, y, rng):
    leaves = 0.4 * _noise(x.shape, (6, 7), rng) + 0.7 * _noise(x.shape, (26, 34), rng)
    crowns = _mix([0.12, 0.2, 0.12], [0.42, 0.52, 0.3], np.clip(0.5 + 0.6 * leaves, 0, 1))
    field = _mix(crowns, [0.5, 0.56, 0.44], _soft(y - 40 + 5 * _noise(x.shape, (60, 40), rng)) * 0.8)
    return _mix(field, [0.26, 0.2, 0.16], _soft(4.5 - abs((x + 40) % 120 - 60)))


def _paving(x, y, rng):
    depth = 900 / (y - HORIZON + 14).clip(1)
    across = (x - 360) * depth / 30
    tone = 0.58 + 0.07 * _cells(across + 4000, depth * 2.2, (9, 26), rng) + 0.04 * _noise(x.shape, (5, 12), rng)
    seams = np.maximum(_lines(across, 26, 1.0), _lines(depth * 2.2, 9, 0.6))
    return _mix([1.0, 0.98, 0.95], [0.55, 0.54, 0.52], seams * 0.7) * tone[..., None]


def _asphalt(x, y, rng):
    tone = 0.42 + 0.05 * _noise(x.shape, (2, 3), rng) + 0.06 * _noise(x.shape, (20, 60), rng)
    edge = _soft(2.5 - abs(y - HORIZON - 34 - 0.05 * (x % 720 - 360)))
    return _mix([1.0, 1.0, 1.03], [1.9, 1.85, 1.7], edge) * tone[..., None]


def _brick_ground(x, y, rng):
    depth = 900 / (y - HORIZON + 14).clip(1)
    across = (x - 360) * depth / 30
    tone = 0.85 + 0.3 * _cells(across + 4000, depth * 2.2, (4, 10), rng) + 0.06 * _noise(x.shape, (8, 20), rng)
    return _mix([0.52, 0.4, 0.35], [0.5, 0.47, 0.44], _lines(depth * 2.2, 4, 0.5) * 0.6) * tone[..., None]


def _grass(x, y, rng):
    blades = 0.6 * _noise(x.shape, (3, 2), rng) + 0.5 * _noise(x.shape, (24, 50), rng)
    lawn = _mix([0.24, 0.34, 0.16], [0.44, 0.52, 0.28], np.clip(0.5 + 0.5 * blades, 0, 1))
    return _mix(lawn, [0.62, 0.57, 0.48], _soft(y - HORIZON - 30 + 4 * _noise(x.shape, (80, 60), rng)))


_WALLS = {"panels": _panels, "bricks": _bricks, "glass": _glass, "hedge": _hedge, "stalls": _stalls, "trees": _trees}
_GROUNDS = {"paving": _paving, "asphalt": _asphalt, "bricks": _brick_ground, "grass": _grass}
