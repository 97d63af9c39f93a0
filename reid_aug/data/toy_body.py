"""How the toy people move and what they are made of: joints in three dimensions, and the solids around them.

Body frame: x to the person's left, y down, z forward, origin between the hip joints. Camera frame: x right, y down, z
towards the camera. Both in body heights. Every function works on a batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch

from reid_aug.data.toy_cameras import CAMERAS, HORIZON, SCENE_SIZE
from reid_aug.data.toy_people import BAG, HAIR, LOWER, SHOES, SKIN, UPPER

# The solids, in the order of the tensors of `solids`: name, material, material beyond the cut.
SOLIDS = (
    ("pelvis", LOWER, LOWER), ("torso", UPPER, UPPER), ("neck", SKIN, UPPER), ("head", SKIN, SKIN),
    ("hair", HAIR, HAIR),
    ("right_upper_arm", UPPER, SKIN), ("left_upper_arm", UPPER, SKIN),
    ("right_lower_arm", UPPER, SKIN), ("left_lower_arm", UPPER, SKIN),
    ("right_hand", SKIN, SKIN), ("left_hand", SKIN, SKIN),
    ("right_upper_leg", LOWER, SKIN), ("left_upper_leg", LOWER, SKIN),
    ("right_lower_leg", LOWER, SKIN), ("left_lower_leg", LOWER, SKIN),
    ("right_foot", SHOES, SHOES), ("left_foot", SHOES, SHOES),
    ("tail", UPPER, UPPER), ("backpack", BAG, BAG), ("bag", BAG, BAG),
)  # fmt: skip
TORSO, HEAD = 1, 3
_COLUMNS = {"start": 3, "end": 3, "width": 3, "cap": 2, "cut": 1, "fit": 1, "bulge": 1, "present": 1}


@dataclass(frozen=True, eq=False)
class Shot:
    """One image of somebody: the pose, and where and how the camera caught it. Angles in radians.

    Attributes:
        camera: index into ``CAMERAS``.
        heading: direction of the body, 0 towards the camera, pi/2 to the right of the image.
        turn: of the head relative to the body.
        phase, stride: of the gait; stride is the swing of the thigh.
        swing: of the arms; raise_: [2] added to the right and left upper arm; bend: [2] of the elbows.
        spread: of the arms from the body; lean: of the trunk.
        pitch: how far the camera looks down.
        fill: height of the person over that of the image; above 1 the feet or the head are cut off.
        shift: [2] of the person in the image, x and y, over the image's size.
        stretch: width over the true one.
        left, top, zoom: window of the camera's scene.
        exposure: factor on the light; cast: [3] factors on red, green and blue; blur: see ``Camera``.
        grain: seed of the sensor noise.
    """

    camera: int
    heading: float
    turn: float
    phase: float
    stride: float
    swing: float
    raise_: np.ndarray
    bend: np.ndarray
    spread: float
    lean: float
    pitch: float
    fill: float
    shift: np.ndarray
    stretch: float
    left: float
    top: float
    zoom: float
    exposure: float
    cast: np.ndarray
    blur: float
    grain: int


def draw_shot(rng: np.random.Generator, camera: int, heading: float, left: float) -> Shot:
    """A moment of a walk past a camera.

    Args:
        camera: index into ``CAMERAS``.
        heading: where the walk goes, radians.
        left: where along the scene it is, 0 to 1.
    """
    view = CAMERAS[camera]
    standing = rng.random() < 0.15
    stride = rng.uniform(0.02, 0.1) if standing else rng.uniform(0.3, 0.58)
    raise_, bend = rng.normal(0, 0.08, 2), rng.uniform(0.12, 0.6, 2)
    busy = rng.random()
    side = int(rng.random() < 0.5)
    if busy < 0.1:  # on the phone
        raise_[side], bend[side] = 0.75, 2.25
    elif busy < 0.25:  # carries or reads something
        raise_[side], bend[side] = rng.uniform(0.1, 0.4), rng.uniform(1.1, 1.7)
    cut = rng.random() < 0.1
    return Shot(
        camera=camera,
        heading=heading + rng.normal(0, 0.16),
        turn=rng.normal(0, 0.28),
        phase=rng.uniform(0, 2 * math.pi),
        stride=stride,
        swing=stride * rng.uniform(0.5, 1.2),
        raise_=raise_,
        bend=bend,
        spread=rng.uniform(0.06, 0.2),
        lean=rng.uniform(0.0, 0.09),
        pitch=view.pitch + rng.normal(0, 0.02),
        fill=rng.uniform(1.05, 1.25) if cut else rng.uniform(0.84, 0.96),
        shift=rng.normal(0, (0.035, 0.012)),
        stretch=view.stretch * rng.uniform(0.95, 1.06),
        left=float(np.clip(left + rng.normal(0, 0.03), 0, 1)) * (SCENE_SIZE[1] - 84),
        top=HORIZON - rng.uniform(38, 56),
        zoom=rng.uniform(0.8, 1.1),
        exposure=float(np.exp(rng.normal(0, 0.12))),
        cast=np.exp(rng.normal(0, 0.03, 3)),
        blur=float(np.clip(view.blur + rng.normal(0, 0.12), 0, 0.9)),
        grain=int(rng.integers(2**62)),
    )


def joints(person: SimpleNamespace, shot: SimpleNamespace) -> SimpleNamespace:
    """Joints in the body frame: [B, 2, 3] (right, left) for those in pairs, [B, 3] for the neck and the head.

    ``person`` and ``shot`` hold the fields of ``Person`` and ``Shot`` as tensors [B, ...]. ``facing`` [B, 3, 3] rows
    are the axes of the head in the body frame.
    """
    side = torch.tensor([-1.0, 1.0])
    phase = shot.phase[:, None] + torch.tensor([0.0, math.pi])
    thigh = 0.04 + shot.stride[:, None] * phase.sin()
    flex = 0.1 + 1.7 * shot.stride[:, None] * phase.cos().clamp(0) ** 1.5  # the knee bends while the leg comes forward
    segment = 0.245 * person.leg[:, None, None]
    zero = torch.zeros_like(thigh)
    hip = torch.stack([side * person.hip[:, None], zero, zero], -1)
    knee = hip + segment * _sagittal(thigh, side * 0.03)
    ankle = knee + segment * _sagittal(thigh - flex, side * 0.0)
    tilt = 0.2 + 0.8 * (flex - thigh).clamp(0) - 0.35 * thigh.clamp(0)  # heels rise behind, toes in front
    toe = ankle + 0.105 * torch.stack([side * 0.2 + zero, tilt.sin() * 0.8 + 0.12, tilt.cos()], -1)

    twist = 0.2 * shot.swing * shot.phase.sin()
    lean = shot.lean[:, None].expand_as(zero)
    reach = side * person.shoulder[:, None]
    shoulder = torch.stack([
        reach * twist.cos()[:, None], -0.29 * lean.cos(), 0.29 * lean.sin() + reach * twist.sin()[:, None]
    ], -1)  # fmt: skip
    arm = -shot.swing[:, None] * phase.sin() + shot.raise_
    elbow = shoulder + 0.172 * _sagittal(arm, side * shot.spread[:, None])
    forearm = _sagittal(arm + shot.bend, side * (shot.spread[:, None] - 0.35 * shot.bend))
    wrist = elbow + 0.142 * forearm
    neck = shoulder.mean(1)
    sine, cosine, none = shot.turn.sin(), shot.turn.cos(), torch.zeros_like(shot.turn)
    facing = torch.stack([cosine, none, -sine, none, none + 1, none, sine, none, cosine], -1).view(-1, 3, 3)
    up = torch.stack([none, -(0.052 + 0.52 * person.head), 0.018 + 0.06 * shot.lean.sin()], -1)
    return SimpleNamespace(hip=hip, knee=knee, ankle=ankle, toe=toe, shoulder=shoulder, elbow=elbow, wrist=wrist,
                           hand=wrist + 0.06 * forearm, neck=neck, head=neck + up, facing=facing)  # fmt: skip


def _sagittal(forward: torch.Tensor, outward: torch.Tensor) -> torch.Tensor:
    """Unit vectors [..., 3] that hang down, swung forward and outward by these angles."""
    outward = outward.expand_as(forward)
    return torch.stack([outward.sin(), outward.cos() * forward.cos(), outward.cos() * forward.sin()], -1)


def face_points(person: SimpleNamespace, body: SimpleNamespace) -> torch.Tensor:
    """[B, 5, 3] in the body frame: nose, right eye, left eye, right ear, left ear."""
    radius = 0.37 * person.head[:, None]
    azimuth = torch.tensor([0.0, -0.42, 0.42, -1.5, 1.5])
    height = torch.tensor([0.1, -0.03, -0.03, 0.02, 0.02]) * person.head[:, None]
    local = torch.stack([radius * azimuth.sin(), height, radius * azimuth.cos() * 1.1], -1)
    return body.head[:, None] + local @ body.facing


def view_matrix(shot: SimpleNamespace) -> torch.Tensor:
    """[B, 3, 3] that takes row vectors of the body frame to the camera frame: heading, then pitch."""
    sine, cosine, none = shot.heading.sin(), shot.heading.cos(), torch.zeros_like(shot.heading)
    heading = torch.stack([cosine, none, -sine, none, none + 1, none, sine, none, cosine], -1).view(-1, 3, 3)
    sine, cosine = shot.pitch.sin(), shot.pitch.cos()
    pitch = torch.stack([none + 1, none, none, none, cosine, -sine, none, sine, cosine], -1).view(-1, 3, 3)
    return heading @ pitch


def solids(person: SimpleNamespace, shot: SimpleNamespace, body: SimpleNamespace) -> SimpleNamespace:
    """The solids of ``SOLIDS`` in the camera frame.

    Each is a bone with a half width that runs through three values along it, rounded at the ends.

    Returns:
        start, end [B, S, 3]; width [B, S, 3] at start, middle and end; cap [B, S, 2] radius of the rounding at each
        end; cut [B, S] share of the bone up to which the first material reaches; fit [B, S] extra half width up to
        there; bulge [B, S] depth over width; present [B, S] 1 where the person has it, else 0; azimuth [B, S] its
        heading; length [B, S] of the bone.
    """
    rows = [
        *_trunk(person, shot, body), *_limbs(person, body), _tail(person, shot, body), *_bags(person, shot, body)
    ]  # fmt: skip
    batch = len(person.build)
    columns = {}
    for name, shape in _COLUMNS.items():
        values = [torch.as_tensor(row[name], dtype=torch.float32).expand(batch, shape) for row in rows]
        columns[name] = torch.stack(values, 1) if shape > 1 else torch.cat(values, 1)
    made = SimpleNamespace(**columns)
    made.length = (made.end - made.start).norm(dim=-1)
    view = view_matrix(shot)
    made.start, made.end = made.start @ view, made.end @ view
    made.azimuth = shot.heading[:, None].repeat(1, len(SOLIDS))
    made.azimuth[:, HEAD] += shot.turn
    return made


def _solid(start, end, width, cap, cut=2.0, fit=0.0, bulge=1.0, present=1.0) -> dict:
    """One row of `solids`; widths and caps are [B] tensors or numbers, the rest numbers or [B, 1]."""
    width = torch.stack(torch.broadcast_tensors(*map(torch.as_tensor, width)), -1)
    cap = torch.stack(torch.broadcast_tensors(*map(torch.as_tensor, cap)), -1)
    scalars = {"cut": cut, "fit": fit, "bulge": bulge, "present": present}
    scalars = {name: value[:, None] if isinstance(value, torch.Tensor) else value for name, value in scalars.items()}
    return {"start": start, "end": end, "width": width, "cap": cap, **scalars}


def _seen(lateral: torch.Tensor, sagittal: torch.Tensor, heading: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Half width and half depth, as the camera sees them, of an ellipse with these half axes at that heading."""
    width = ((lateral * heading.cos()) ** 2 + (sagittal * heading.sin()) ** 2).sqrt()
    depth = ((lateral * heading.sin()) ** 2 + (sagittal * heading.cos()) ** 2).sqrt()
    return width, depth


def _offset(y=0.0, z=0.0, x=0.0) -> torch.Tensor:
    """[B or 1, 3]."""
    return torch.stack(torch.broadcast_tensors(*(torch.atleast_1d(torch.as_tensor(v)) for v in (x, y, z))), -1)


def _trunk(person, shot, body):
    """Pelvis, torso, neck, head and hair."""
    build, fit, heading = person.build, person.fit_upper, shot.heading
    origin = torch.zeros_like(body.neck)
    hips, hips_deep = _seen((person.hip + 0.044) * build, 0.074 * build, heading)
    shoulders = (person.shoulder + 0.02) * (0.5 + 0.5 * build)
    chest, _ = _seen(shoulders, 0.068 * build, heading)
    _, chest_deep = _seen(0.72 * shoulders, 0.068 * build, heading)  # seen from the side, the arm lies before the chest
    waist, _ = _seen(0.084 * build, 0.066 * build, heading)
    yield _solid(origin + _offset(-0.05), origin + _offset(0.025), (hips * 0.92, hips, hips), (0.03, 0.05),
                 bulge=hips_deep / hips)  # fmt: skip
    yield _solid(body.neck + _offset(0.012), origin + _offset(person.hem),
                 (chest + fit, waist + 1.6 * fit, hips + 1.3 * fit + 0.004), (0.055, 0.016),
                 bulge=torch.maximum(chest_deep / chest, 1.03 * hips_deep / hips))  # fmt: skip
    yield _solid(body.head + _offset(0.25 * person.head), body.neck + _offset(-0.012),
                 (0.036, 0.03, 0.085), (0.03, 0.032), cut=0.66 + 0 * build)  # fmt: skip
    size = person.head
    yield _solid(body.head + _offset(-0.16 * size), body.head + _offset(0.2 * size, 0.012),
                 (0.37 * size, 0.385 * size, 0.3 * size), (0.36 * size, 0.29 * size), bulge=1.12)  # fmt: skip
    # Long hair falls behind the neck; short hair only rounds the back of the head.
    loose = person.hair_width
    yield _solid(body.head + _offset(-0.13 * size, -0.014), body.head + _offset(person.hair_length, -0.045 + 0 * size),
                 (0.385 * size, torch.minimum(0.4 * size, loose + 0.01), torch.minimum(loose, 0.5 * size)),
                 (0.38 * size, 0.6 * loose), bulge=1.0)  # fmt: skip


def _limbs(person, body):
    """Upper arms, lower arms, hands, upper legs, lower legs and feet, right before left in each pair."""
    build, sleeve, trouser = person.build, person.sleeve, person.trouser
    fit, loose = person.fit_upper, person.fit_lower
    pairs = (
        (body.shoulder + _offset(0.008), body.elbow, (0.033, 0.034, 0.027), {"cut": sleeve, "fit": fit}),
        (body.elbow, body.wrist, (0.027, 0.027, 0.018), {"cut": sleeve - 1, "fit": fit}),
        (body.wrist, body.hand, (0.015, 0.021, 0.013), {}),
        (body.hip, body.knee, (0.049, 0.053, 0.038), {"cut": trouser, "fit": loose}),
        (body.knee, body.ankle, (0.038, 0.039, 0.023), {"cut": trouser - 1, "fit": loose * 1.2}),
    )
    for start, end, width, cloth in pairs:
        scaled = tuple(value * build for value in width)
        for side in (0, 1):
            yield _solid(start[:, side], end[:, side], scaled, (scaled[0], scaled[2]), **cloth)
    for side in (0, 1):
        heel = body.ankle[:, side] - 0.18 * (body.toe - body.ankle)[:, side] * torch.tensor([1.0, 0.0, 1.0])
        yield _solid(heel + _offset(0.018), body.toe[:, side], (0.028, 0.027, 0.021), (0.027, 0.02), bulge=1.1)


def _tail(person, shot, body):
    """A skirt, or what of a dress or a coat hangs below the hip; it covers both thighs wherever they are."""
    knees = body.knee.mean(1)
    share = (person.tail / 0.245)[:, None]
    end = knees * share * torch.tensor([1.0, 0.0, 0.8]) + _offset(person.tail)
    spread = (body.knee[:, 0] - body.knee[:, 1]).abs() / 2 * share
    widest = (person.hip + 0.05) * person.build + 1.3 * person.fit_lower + 0.01  # of the legs beneath
    lateral = widest + person.flare
    sagittal = torch.maximum(0.075 * person.build + 0.6 * person.flare, spread[:, 2] + 0.06 * person.build)
    width, depth = _seen(lateral, sagittal, shot.heading)
    top, top_deep = _seen(widest, 0.08 * person.build, shot.heading)
    return _solid(_offset(-0.02 + 0 * person.tail), end, (top, (top + width) / 2, width), (0.03, 0.01),
                  bulge=torch.maximum(depth / width, top_deep / top) * 1.12,
                  present=(person.tail > 0).float())  # fmt: skip


def _bags(person, shot, body):
    """Backpack and shoulder bag."""
    width, depth = _seen(torch.tensor(0.082), torch.tensor(0.05), shot.heading)
    back = body.neck + _offset(0.0, -0.088)
    yield _solid(back + _offset(0.035), back + _offset(0.215), (width * 0.86, width * 1.04, width), (0.04, 0.025),
                 bulge=depth / width, present=person.backpack)  # fmt: skip
    width, depth = _seen(torch.tensor(0.028), torch.tensor(0.068), shot.heading)
    side = person.bag_side * ((person.hip + 0.044) * person.build + 0.028)
    yield _solid(_offset(-0.045, -0.02, side), _offset(0.055, -0.02, side * 1.04), (width, width * 1.04, width),
                 (0.018, 0.018), bulge=depth / width, present=person.bag_side.abs())  # fmt: skip
