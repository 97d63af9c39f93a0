"""Drawing the toy people: solids into a depth buffer, cloth and light onto what it shows, people into scenes.

The renderer is pure: people and shots in, images, key points and part maps out, any number of them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from reid_aug.data.toy_body import HEAD, SOLIDS, TORSO, Shot, face_points, joints, solids, view_matrix
from reid_aug.data.toy_cameras import CAMERAS, crop_scenes, develop
from reid_aug.data.toy_people import BAG, HAIR, LOWER, SKIN, UPPER, Person
from reid_aug.data.toy_raster import rasterise
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.parts import DENSEPOSE_PARTS
from reid_aug.pose.skeleton import LEFT_EAR, LEFT_EYE, NOSE, RIGHT_EAR, RIGHT_EYE

IMAGE_SIZE = (128, 64)
_FINE = 2  # samples a pixel, each way
_TAIL = next(index for index, solid in enumerate(SOLIDS) if solid[0] == "tail")
_MATERIAL = torch.tensor([[first, beyond] for _, first, beyond in SOLIDS])
_LEFT_HEAD = DENSEPOSE_PARTS.index("left_head") + 1
_PHOTO = torch.tensor([[*camera.light, camera.ambient, camera.diffuse, *camera.gain, camera.gamma, camera.saturation,
                        camera.noise] for camera in CAMERAS])  # fmt: skip


def _part_of(name: str) -> tuple[int, int]:
    """Index in a part map of a solid's front and its back, or of the right and the left of what belongs to the head.

    A skirt, a coat's tail and bags count as torso.
    """
    if name in ("neck", "head", "hair"):
        sides = "right_head", "left_head"
    elif name in DENSEPOSE_PARTS:  # hands and feet have one index
        sides = name, name
    else:
        limb = name if f"{name}_front" in DENSEPOSE_PARTS else "torso"
        sides = f"{limb}_front", f"{limb}_back"
    first, second = (DENSEPOSE_PARTS.index(side) + 1 for side in sides)
    return first, second


_PART = torch.tensor([_part_of(name) for name, _, _ in SOLIDS], dtype=torch.uint8)


@dataclass(frozen=True, eq=False)
class Drawing:
    """What :func:`draw_people` returns.

    Attributes:
        images: uint8 [B, 3, 128, 64], RGB.
        poses: the 18 joints; not visible where outside the image, or on the side of the face that is turned away.
        parts: uint8 [B, 128, 64], index of the body part at each pixel: 0 background, i + 1 for DENSEPOSE_PARTS[i].
    """

    images: torch.Tensor
    poses: PoseBatch
    parts: torch.Tensor


@torch.inference_mode()
def draw_people(people: Sequence[Person], shots: Sequence[Shot]) -> Drawing:
    """Draw ``people[i]`` as caught in ``shots[i]``."""
    person, shot = _stack(people), _stack(shots)
    shot.camera = shot.camera.long()
    photo = _PHOTO[shot.camera]
    light, ambient, diffuse, gain, gamma, saturation, noise = photo.split([3, 1, 1, 3, 1, 1, 1], 1)
    body = joints(person, shot)
    made = solids(person, shot, body)
    points, shown = _keypoints(person, shot, body)
    origin, scale = _frame(made, shot)
    x = (torch.arange(IMAGE_SIZE[1] * _FINE) + 0.5) / _FINE / scale[:, :1] + origin[:, :1]
    y = (torch.arange(IMAGE_SIZE[0] * _FINE) + 0.5) / _FINE / scale[:, 1:] + origin[:, 1:]
    hit = rasterise(made, x, y)
    painted = _paint(hit, made, person, shot, F.normalize(light), ambient, diffuse)
    figure, coverage = _average(painted, hit)
    scene = crop_scenes(shot.camera, shot.left, shot.top, shot.zoom, IMAGE_SIZE)
    scene = scene * _shadow(made, light, origin, scale)[:, None]
    image = (scene * (1 - coverage) + figure) * shot.exposure[:, None, None, None]
    grain = torch.stack([_grain(seed.grain) for seed in shots]) * noise[:, :, None, None]
    image = develop(image, gain * shot.cast, gamma[:, 0], saturation[:, 0], shot.blur, grain)
    pixels = (points[..., :2] - origin[:, None]) * scale[:, None] - 0.5  # pixel k is centred on k
    limits = torch.tensor(IMAGE_SIZE[::-1])
    visible = shown & ((pixels >= 0) & (pixels <= limits - 1)).all(-1)
    poses = PoseBatch(pixels * visible[..., None], visible, IMAGE_SIZE, camids=shot.camera + 1)
    return Drawing((image * 255).round().to(torch.uint8), poses, _parts(hit, made))


def _stack(items: Sequence) -> SimpleNamespace:
    """The fields of equal dataclasses as float tensors [B, ...]."""
    names = [field.name for field in fields(items[0])]
    return SimpleNamespace(**{
        name: torch.from_numpy(np.array([getattr(item, name) for item in items], np.float32)) for name in names
    })  # fmt: skip


def _grain(seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((3, *IMAGE_SIZE), np.float32))


def _keypoints(person, shot, body) -> tuple[torch.Tensor, torch.Tensor]:
    """Joints [B, 18, 3] in the camera frame, and [B, 18] whether they face the camera."""
    sides = [torch.cat([body.shoulder[:, s, None], body.elbow[:, s, None], body.wrist[:, s, None]], 1) for s in (0, 1)]
    legs = [torch.cat([body.hip[:, s, None], body.knee[:, s, None], body.ankle[:, s, None]], 1) for s in (0, 1)]
    face = face_points(person, body)
    points = torch.cat([face[:, :1], body.neck[:, None], *sides, *legs, face[:, 1:]], 1) @ view_matrix(shot)
    towards = shot.heading + shot.turn
    # A point of the face is found until its side of the head is well turned away; ears are seen from behind too.
    seen = torch.ones(points.shape[:2], dtype=torch.bool)
    for joint, azimuth, limit in (
        (NOSE, 0.0, -0.1), (RIGHT_EYE, -0.42, 0.0), (LEFT_EYE, 0.42, 0.0), (RIGHT_EAR, -1.75, -0.3),
        (LEFT_EAR, 1.75, -0.3),
    ):  # fmt: skip
        seen[:, joint] = (towards + azimuth).cos() > limit
    return points, seen


def _frame(made, shot) -> tuple[torch.Tensor, torch.Tensor]:
    """The image in the camera frame: its corner [B, 2] and its pixels per body height [B, 2], x and y."""
    ends = torch.cat([made.start[..., :2], made.end[..., :2]], 1)
    radius = torch.cat([made.width[..., 0], made.width[..., 2]], 1)
    there = torch.cat([made.present, made.present], 1) > 0
    top = torch.where(there, ends[..., 1] - radius, 9.0).amin(1)
    bottom = torch.where(there, ends[..., 1] + 0.5 * radius, -9.0).amax(1)
    size = torch.tensor([float(IMAGE_SIZE[1]), float(IMAGE_SIZE[0])])
    scale = (shot.fill * size[1] / (bottom - top))[:, None] * torch.stack([shot.stretch, shot.stretch * 0 + 1], -1)
    limbs = ends[:, :17, 0]
    middle = torch.stack([(limbs.amin(1) + limbs.amax(1)) / 2, (top + bottom) / 2], -1)
    middle[:, 1] -= (shot.fill - 1).clamp(0) * 0.4 * (bottom - top)  # a crop too tight loses the feet
    return middle - (0.5 + shot.shift) * size / scale, scale


def _average(painted: torch.Tensor, hit: SimpleNamespace) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples [N, 3] into pixels: colour [B, 3, H, W] on black, and the covered share [B, 1, H, W]."""
    height, width = IMAGE_SIZE
    column = hit.sample % (width * _FINE) // _FINE
    pixel = hit.sample // (width * _FINE * _FINE) * width + column  # rows of all images under each other
    canvas = torch.zeros(len(hit.solid) * height * width, 4)
    canvas.index_add_(0, pixel, F.pad(painted, (0, 1), value=1.0) / _FINE**2)
    return canvas.view(-1, height, width, 4).permute(0, 3, 1, 2).contiguous().split([3, 1], 1)


def _azimuth(hit, made) -> torch.Tensor:
    """Where on the body each sample that shows a solid lies, [N] radians: 0 front, pi/2 the person's left."""
    return torch.asin(hit.across) - made.azimuth.flatten().index_select(0, hit.image * len(SOLIDS) + hit.row)


def _parts(hit, made) -> torch.Tensor:
    """uint8 [B, H, W], the part at the first sample of each pixel."""
    azimuth, sides = _azimuth(hit, made), _PART.index_select(0, hit.row)
    far = torch.where(sides[:, 1] == _LEFT_HEAD, azimuth.sin() > 0, azimuth.cos() <= 0)
    parts = torch.zeros(hit.solid.numel(), dtype=torch.uint8)
    parts[hit.sample] = torch.where(far, sides[:, 1], sides[:, 0])
    return parts.view(hit.solid.shape)[:, ::_FINE, ::_FINE].contiguous()


def _paint(hit, made, person, shot, light, ambient, diffuse) -> torch.Tensor:
    """Colour [N, 3] of the samples that show a solid."""
    solid = hit.image * len(SOLIDS) + hit.row
    of_solid = lambda values: values.flatten().index_select(0, solid)  # noqa: E731
    down = hit.along * of_solid(made.length)
    beyond = hit.along >= of_solid(made.cut)
    material = _MATERIAL.flatten().index_select(0, 2 * hit.row + beyond)
    skirt = (hit.row == _TAIL) & (person.tail_upper < 0.5)[hit.image]
    material = torch.where(skirt, LOWER, material)
    azimuth = _azimuth(hit, made)
    around = azimuth * of_solid(made.width[..., 1])

    of_material = hit.image * len(person.colours[0]) + material
    weights = person.pattern.flatten(0, 1).index_select(0, of_material)
    frequency = person.frequency.flatten(0, 1).index_select(0, of_material)
    share = _pattern(down, around, hit.row == TORSO, weights, frequency)
    first, second = person.colours.flatten(0, 1).index_select(0, of_material).unbind(1)
    colour = torch.lerp(first, second, share[:, None])
    for row, add in ((TORSO, _add_prints), (HEAD, _add_face)):
        here = (hit.row == row).nonzero()[:, 0]
        place = hit.along[here] if row == HEAD else down[here]
        colour[here] = add(colour[here], place, azimuth[here], hit.image[here], person)

    bone = F.normalize(made.end[..., :2] - made.start[..., :2], dim=-1)
    sideways = bone[..., 1] * light[:, :1] - bone[..., 0] * light[:, 1:2]
    light_z, ambient, diffuse, phase = torch.stack(
        [light[:, 2], ambient[:, 0], diffuse[:, 0], shot.phase], 1
    ).index_select(0, hit.image).unbind(1)  # fmt: skip
    lit = hit.across * of_solid(sideways) + hit.facing * light_z + 0.15
    shade = ambient + diffuse * lit.clamp(min=0)
    shade = shade * (0.78 + 0.22 * hit.facing)  # a rim, so that an arm stands out before the torso
    cloth = (material == UPPER) | (material == LOWER)
    folds = torch.sin(down * 70 + hit.across * 4 + (hit.row + 1) * 1.7 + phase)
    folds = folds * torch.sin(down * 31 - hit.across * 5 + phase)
    return colour * (shade * (1 + 0.07 * folds * cloth))[:, None]


def _pattern(down, around, torso, weights, frequency) -> torch.Tensor:
    """Share of a material's second colour, [N] in [0, 1]."""
    wave = lambda turns: (4 * torch.sin(2 * torch.pi * turns)).clamp(-1, 1) * 0.5 + 0.5  # noqa: E731
    rings, stripes = wave(down * frequency[:, 0]), wave(around * frequency[:, 1])
    step = ((down > 0.11) & torso).float()
    return (weights * torch.stack([rings, stripes, rings * stripes, step], 1)).sum(1)


def _add_prints(colour, down, azimuth, image, person) -> torch.Tensor:
    """Front and back prints, the straps of a backpack and the strap of a shoulder bag, on samples of the torso."""
    left = torch.sin(azimuth) * (person.shoulder * 0.95)[image]  # towards the person's left
    front = azimuth.cos() > 0
    face = (~front).long()
    wide, high, centre, power, hole = person.prints[image, face].unbind(1)
    reach = (left.abs() / wide.clamp(min=1e-3)) ** power + ((down - centre).abs() / high.clamp(min=1e-3)) ** power
    printed = (wide > 0) & (reach < 1) & (reach >= hole**power)
    colour = torch.where(printed[:, None], person.print_colours[image, face], colour)
    strap = (person.backpack > 0)[image] & front & ((left.abs() - 0.058).abs() < 0.011) & (down < 0.2)
    side = person.bag_side[image]
    strap |= (side != 0) & ((left * side - (down - 0.13) * 0.75).abs() < 0.011)
    return torch.where(strap[:, None], person.colours[image, BAG, 0] * 0.8, colour)


def _add_face(colour, height, azimuth, image, person) -> torch.Tensor:
    """Nose, mouth, brows, eyes, glasses and hair on samples of the head; ``height`` is 0 at its top, 1 at the jaw."""
    front = azimuth.cos()
    azimuth = torch.atan2(azimuth.sin(), front)
    sideways = (azimuth.abs() - 0.42).abs()  # from the middle of an eye
    skin, hair = person.colours[image, SKIN, 0], person.colours[image, HAIR, 0]
    hairline = -0.28 + person.fringe[image] + 1.36 * ((1 - front) / 2) ** 0.75
    glasses = (person.glasses > 0)[image]
    for mask, paint in (
        ((azimuth.abs() < 0.12) & ((height - 0.78).abs() < 0.1), skin * 0.8),
        ((azimuth.abs() < 0.3) & ((height - 1.22).abs() < 0.1), skin * torch.tensor([0.72, 0.45, 0.45])),
        ((sideways < 0.25) & ((height - 0.12).abs() < 0.07), (skin * 0.4 + hair) / 2),
        ((sideways < 0.17) & ((height - 0.37).abs() < 0.11), skin * 0.22),
        ((azimuth.abs() < 1.4) & ((height - 0.37).abs() < 0.13) & glasses, skin * 0.1 + 0.03),
        (height < hairline, hair),
    ):
        colour = torch.where(mask[:, None], paint, colour)
    return colour


def _shadow(made, light, origin, scale) -> torch.Tensor:
    """[B, H, W] factor on the scene: the shadow on the ground, away from the light, darkest at the feet."""
    feet = torch.stack([made.start[:, 15, :2], made.start[:, 16, :2]], 1)
    feet = (feet - origin[:, None]) * scale[:, None]
    columns, rows = torch.arange(IMAGE_SIZE[1]), torch.arange(IMAGE_SIZE[0])
    shadow = torch.ones(len(feet), *IMAGE_SIZE)
    ground = feet[..., 1].amax(1)
    for x, y, wide, high, dark in (
        *((feet[:, s, 0], feet[:, s, 1] + 3, 6.0, 2.2, 0.4) for s in (0, 1)),
        (feet[..., 0].mean(1) - 16 * light[:, 0], ground - 2, 20.0, 5.0, 0.35),
    ):
        across = ((columns - x[:, None]) / wide).square()[:, None, :]
        shadow = shadow * (1 - dark * torch.exp(-across - ((rows - y[:, None]) / high).square()[:, :, None]))
    return shadow
