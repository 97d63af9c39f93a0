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
from reid_aug.pose.batch import PoseBatch

IMAGE_SIZE = (128, 64)
_FINE = 2  # samples a pixel, each way
_TAIL = next(index for index, solid in enumerate(SOLIDS) if solid[0] == "tail")
_PART = torch.tensor([0, *(part for _, part, _, _ in SOLIDS)], dtype=torch.uint8)  # background first
_MATERIAL = torch.tensor([[first, beyond] for _, _, first, beyond in SOLIDS])
_PHOTO = torch.tensor([[*camera.light, camera.ambient, camera.diffuse, *camera.gain, camera.gamma, camera.saturation,
                        camera.noise] for camera in CAMERAS])  # fmt: skip


@dataclass(frozen=True, eq=False)
class Drawing:
    """What :func:`draw_people` returns.

    Attributes:
        images: uint8 [B, 3, 128, 64], RGB.
        poses: the 18 joints; not visible where outside the image, or on the side of the face that is turned away.
        parts: uint8 [B, 128, 64], index of the body part at each pixel: 0 background, i + 1 for pose.skeleton.PARTS[i].
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
    hit = _rasterise(made, x, y)
    colour = _paint(hit, made, person, shot, F.normalize(light), ambient, diffuse)
    covered = (hit.solid > 0)[:, None].float()
    figure, coverage = F.avg_pool2d(colour * covered, _FINE), F.avg_pool2d(covered, _FINE)
    scene = crop_scenes(shot.camera, shot.left, shot.top, shot.zoom, IMAGE_SIZE)
    scene = scene * _shadow(made, light, origin, scale)[:, None]
    image = (scene * (1 - coverage) + figure) * shot.exposure[:, None, None, None]
    grain = torch.stack([_grain(seed.grain) for seed in shots]) * noise[:, :, None, None]
    image = develop(image, gain * shot.cast, gamma[:, 0], saturation[:, 0], shot.blur, grain)
    pixels = (points[..., :2] - origin[:, None]) * scale[:, None] - 0.5  # pixel k is centred on k
    limits = torch.tensor(IMAGE_SIZE[::-1])
    visible = shown & ((pixels >= 0) & (pixels <= limits - 1)).all(-1)
    parts = _PART[hit.solid[:, ::_FINE, ::_FINE]]
    poses = PoseBatch(pixels * visible[..., None], visible, IMAGE_SIZE)
    return Drawing((image * 255).round().to(torch.uint8), poses, parts)


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
    for joint, azimuth, limit in ((0, 0.0, -0.1), (14, -0.42, 0.0), (15, 0.42, 0.0), (16, -1.75, -0.3), (17, 1.75, -0.3)):
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


def _rasterise(made, x: torch.Tensor, y: torch.Tensor) -> SimpleNamespace:
    """The nearest solid at each sample.

    Args:
        x: [B, w]; y: [B, h], places of the samples in the camera frame.

    Returns:
        solid [B, h, w] int64, 0 where there is none, else its row in ``SOLIDS`` plus one; along, across, facing
        [B, h, w]: place along the bone (0 start, 1 end), across it (-1 to 1), and the normal's part towards the camera.
    """
    shape = (len(x), y.shape[1], x.shape[1])
    depth = torch.full(shape, -100.0)
    solid = torch.zeros(shape, dtype=torch.int64)
    along, across, facing = torch.zeros(shape), torch.zeros(shape), torch.ones(shape)
    for index in range(len(SOLIDS)):
        rows = _rows(made, index, y)
        if rows.start >= rows.stop:
            continue
        inside, z, t, s, nz = _solid_at(made, index, x, y[:, rows])
        inside &= z > depth[:, rows]
        for buffer, value in ((depth, z), (along, t), (across, s), (facing, nz)):
            buffer[:, rows] = torch.where(inside, value, buffer[:, rows])
        solid[:, rows].masked_fill_(inside, index + 1)
    return SimpleNamespace(solid=solid, along=along, across=across, facing=facing)


def _rows(made, index: int, y: torch.Tensor) -> slice:
    """Rows of the samples that the solid can reach in any image."""
    there = made.present[:, index] > 0
    reach = (made.width[:, index].amax(1) + made.fit[:, index])[:, None]
    low, high = torch.stack([made.start[:, index, 1], made.end[:, index, 1]], -1).aminmax(dim=1, keepdim=True)
    touched = ((y > low - reach) & (y < high + reach) & there[:, None]).any(0).nonzero()
    return slice(int(touched[0]), int(touched[-1]) + 1) if len(touched) else slice(0, 0)


def _solid_at(made, index: int, x: torch.Tensor, y: torch.Tensor):
    """Whether the samples are inside one solid; the depth there, along, across, and the normal towards the camera."""
    column = lambda values: values[:, index, None, None]  # noqa: E731
    start, end = made.start[:, index], made.end[:, index]
    bone = end - start
    length = bone[:, :2].norm(dim=-1, keepdim=True).clamp(min=1e-4)
    ex, ey = (bone[:, :2] / length).split(1, 1)
    dx, dy = x - start[:, :1], y - start[:, 1:2]
    t = (dx * ex / length)[:, None, :] + (dy * ey / length)[:, :, None]
    u = (dx * ey)[:, None, :] - (dy * ex)[:, :, None]
    held = t.clamp(0, 1)
    over = (t - held) * length[..., None]
    w0, w1, w2 = (column(made.width[..., k]) for k in range(3))
    # The parabola through w0 at 0, w1 at 1/2 and w2 at 1, and the cloth on it.
    width = ((2 * w0 - 4 * w1 + 2 * w2) * held + (4 * w1 - 3 * w0 - w2)) * held + w0
    width = width + column(made.fit) * (held < column(made.cut))
    cap = torch.lerp(column(made.cap[..., 0]), column(made.cap[..., 1]), held).minimum(width)
    corner = (u.abs() - width + cap).clamp(min=0)
    inside = corner.square() + over.square() < cap.square()
    s = (u / width).clamp(-1, 1)
    nz = (1 - s.square() - (over / cap).square()).clamp(min=0).sqrt()
    z = torch.lerp(start[:, 2, None, None], end[:, 2, None, None], held) + column(made.bulge) * width * nz
    return inside, z, t, s, nz


def _paint(hit, made, person, shot, light, ambient, diffuse) -> torch.Tensor:
    """Colour [B, 3, h, w] of what the samples show."""
    batch, shape = len(hit.solid), hit.solid.shape
    index = (hit.solid - 1).clamp(min=0).flatten(1)
    of_solid = lambda values: values.gather(1, index).view(shape)  # noqa: E731
    cut, length = of_solid(made.cut), of_solid(made.length)
    material = torch.where(hit.along < cut, of_solid(_MATERIAL[:, 0].expand(batch, -1)),
                           of_solid(_MATERIAL[:, 1].expand(batch, -1)))  # fmt: skip
    skirt = (index == _TAIL).view(shape) & (person.tail_upper < 0.5)[:, None, None]
    material = torch.where(skirt, LOWER, material)
    of_material = lambda values: values.gather(1, material.flatten(1)).view(shape)  # noqa: E731

    azimuth = torch.asin(hit.across) - of_solid(made.azimuth)  # on the body: 0 front, pi/2 the person's left
    down = hit.along * length
    around = azimuth * of_solid(made.width[..., 1])
    share = _pattern(down, around, hit.solid == TORSO + 1, person, of_material)
    colour = [torch.lerp(of_material(person.colours[:, :, 0, c]), of_material(person.colours[:, :, 1, c]), share)
              for c in range(3)]  # fmt: skip
    _add_prints(colour, down, azimuth, hit.solid == TORSO + 1, made, person)
    _add_face(colour, hit, azimuth, person)

    bone = F.normalize(made.end[..., :2] - made.start[..., :2], dim=-1)
    sideways = bone[..., 1] * light[:, :1] - bone[..., 0] * light[:, 1:2]
    lit = hit.across * of_solid(sideways) + hit.facing * light[:, 2, None, None] + 0.15
    shade = ambient[..., None] + diffuse[..., None] * lit.clamp(min=0)
    shade = shade * (0.78 + 0.22 * hit.facing)  # a rim, so that an arm stands out before the torso
    cloth = (material == UPPER) | (material == LOWER)
    folds = torch.sin(down * 70 + hit.across * 4 + hit.solid * 1.7 + shot.phase[:, None, None]) * torch.sin(
        down * 31 - hit.across * 5 + shot.phase[:, None, None]
    )
    shade = shade * (1 + 0.07 * folds * cloth)
    return torch.stack(colour, 1) * shade[:, None]


def _pattern(down, around, torso, person, of_material) -> torch.Tensor:
    """Share of a material's second colour, [B, h, w] in [0, 1]."""
    wave = lambda phase: (4 * torch.sin(2 * torch.pi * phase)).clamp(-1, 1) * 0.5 + 0.5  # noqa: E731
    rings = wave(down * of_material(person.frequency[..., 0]))
    stripes = wave(around * of_material(person.frequency[..., 1]))
    weights = [of_material(person.pattern[..., k]) for k in range(4)]
    step = (down > 0.11) & torso
    return weights[0] * rings + weights[1] * stripes + weights[2] * rings * stripes + weights[3] * step


def _blend(colour: list[torch.Tensor], paint: torch.Tensor, mask: torch.Tensor) -> None:
    """Lay ``paint`` [B, 3] over ``colour`` where ``mask`` [B, h, w]."""
    for channel in range(3):
        colour[channel] = torch.where(mask, paint[:, channel, None, None], colour[channel])


def _add_prints(colour, down, azimuth, torso, made, person) -> None:
    """Front and back prints, the straps of a backpack and the strap of a shoulder bag, all on the torso."""
    front = azimuth.cos() > 0
    left = torch.sin(azimuth) * (person.shoulder * 0.95)[:, None, None]  # towards the person's left
    for face, here in ((0, torso & front), (1, torso & ~front)):
        wide, high, centre, power, hole = (v[:, None, None] for v in person.prints[:, face].unbind(1))
        reach = (left.abs() / wide.clamp(min=1e-3)) ** power + ((down - centre).abs() / high.clamp(min=1e-3)) ** power
        _blend(colour, person.print_colours[:, face], here & (wide > 0) & (reach < 1) & (reach >= hole**power))
    backpack = (person.backpack > 0)[:, None, None]
    strap = torso & front & backpack & ((left.abs() - 0.058).abs() < 0.011) & (down < 0.2)
    side = person.bag_side[:, None, None]
    strap |= torso & (side != 0) & ((left * side - (down - 0.13) * 0.75).abs() < 0.011)
    _blend(colour, person.colours[:, BAG, 0] * 0.8, strap)


def _add_face(colour, hit, azimuth, person) -> None:
    """Hair, eyes, brows, glasses and mouth on the head."""
    head = hit.solid == HEAD + 1
    front = azimuth.cos()
    azimuth = torch.atan2(azimuth.sin(), front)
    hairline = -0.28 + person.fringe[:, None, None] + 0.85 * ((1 - front) / 2) ** 0.75 * 1.6
    height = hit.along
    eye = head & ((azimuth.abs() - 0.42).abs() < 0.17) & ((height - 0.37).abs() < 0.11)
    brow = head & ((azimuth.abs() - 0.42).abs() < 0.25) & ((height - 0.12).abs() < 0.07)
    mouth = head & (azimuth.abs() < 0.3) & ((height - 1.22).abs() < 0.1)
    nose = head & (azimuth.abs() < 0.12) & ((height - 0.78).abs() < 0.1)
    skin, hair = person.colours[:, SKIN, 0], person.colours[:, HAIR, 0]
    _blend(colour, skin * 0.8, nose)
    _blend(colour, skin * torch.tensor([0.72, 0.45, 0.45]), mouth)
    _blend(colour, (skin * 0.4 + hair) / 2, brow)
    _blend(colour, skin * 0.22, eye)
    rims = head & (azimuth.abs() < 1.4) & ((height - 0.37).abs() < 0.13) & (person.glasses > 0)[:, None, None]
    _blend(colour, skin * 0.1 + 0.03, rims)
    _blend(colour, hair, head & (height < hairline))


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
