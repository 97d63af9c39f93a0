"""Who the toy people are: body, hair, skin, clothes and what they carry, drawn at random from shared palettes.

A person is what stays the same from camera to camera. Lengths are in body heights, colours are RGB in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SKIN, UPPER, LOWER, SHOES, HAIR, BAG = range(6)  # materials, the rows of Person.colours

# Few colours, and the dull ones often: two people in black and blue are told apart by cut, pattern and print.
_CLOTH = np.array([
    [34, 34, 38], [34, 34, 38], [226, 224, 220], [226, 224, 220], [126, 128, 132], [38, 48, 86], [58, 98, 164],
    [134, 172, 206], [172, 46, 50], [102, 36, 50], [56, 112, 78], [104, 108, 70], [214, 176, 72], [206, 116, 62],
    [216, 150, 168], [106, 78, 142], [196, 176, 146], [46, 122, 126],
]) / 255  # fmt: skip
_TROUSERS = np.array([
    [30, 30, 34], [30, 30, 34], [66, 68, 74], [36, 44, 74], [36, 44, 74], [62, 88, 130], [128, 154, 186],
    [174, 154, 116], [98, 76, 58], [92, 98, 72], [206, 202, 194],
]) / 255  # fmt: skip
_SHOES = np.array([[24, 24, 26], [232, 232, 232], [96, 70, 50], [120, 122, 126], [170, 44, 46], [52, 74, 124]]) / 255
_SKIN = np.array([[244, 208, 180], [230, 184, 150], [206, 156, 118], [160, 110, 78], [108, 72, 52]]) / 255
_HAIR = np.array([[24, 20, 20], [24, 20, 20], [52, 36, 28], [96, 64, 40], [184, 146, 88], [150, 150, 152]]) / 255

# Weights of (stripes along the bone, stripes around it, their product, one step) in the pattern of a garment.
_PATTERNS = {
    "plain": (0, 0, 0, 0),
    "rings": (1, 0, 0, 0),
    "pinstripes": (0, 1, 0, 0),
    "checks": (0.5, 0.5, 0, 0),
    "dots": (0, 0, 1, 0),
    "two-tone": (0, 0, 0, 1),
}


@dataclass(frozen=True, eq=False)
class Person:
    """One identity.

    Attributes:
        build: factor on every width of the body, about 1.
        shoulder, hip: half the distance between the joints.
        leg: factor on the length of the legs, about 1.
        head: height of the head.
        sleeve, trouser: how far cloth reaches down the limb, in segments (1 elbow or knee, 2 wrist or ankle).
        fit_upper, fit_lower: how far cloth stands off the body.
        hem: how far the upper garment reaches below the hip joints.
        tail: length below the hip of a skirt, a dress or a coat, 0 for none.
        tail_upper: 1 where that is made of the upper garment's cloth, else 0.
        flare: half the width of its hem, beyond the hip.
        hair_length, hair_width: of the hair that falls behind the head; fringe: how low it comes at the front.
        glasses: 1 with, 0 without.
        backpack: 1 with, 0 without.
        bag_side: side of the shoulder bag, -1 right, 1 left, 0 none.
        colours: [6, 2, 3] first and second colour of each material.
        pattern: [6, 4] weights, see ``_PATTERNS``.
        frequency: [6, 2] stripes per body height, along and around.
        prints: [2, 5] of the front and the back: half width, half height, distance from the shoulder line, exponent
            of the super-ellipse (2 round, 8 square), radius of the hole in it.
        print_colours: [2, 3].
    """

    build: float
    shoulder: float
    hip: float
    leg: float
    head: float
    sleeve: float
    trouser: float
    fit_upper: float
    fit_lower: float
    hem: float
    tail: float
    tail_upper: float
    flare: float
    hair_length: float
    hair_width: float
    fringe: float
    glasses: float
    backpack: float
    bag_side: float
    colours: np.ndarray
    pattern: np.ndarray
    frequency: np.ndarray
    prints: np.ndarray
    print_colours: np.ndarray


def draw_person(rng: np.random.Generator) -> Person:
    """A person at random: the same generator state is the same person."""
    outfit = rng.choice(["trousers", "shorts", "skirt", "dress", "coat"], p=[0.5, 0.2, 0.1, 0.08, 0.12])
    long_hair = rng.random() < (0.85 if outfit in ("skirt", "dress") else 0.3)
    covered = rng.random() < 0.35  # leggings under a skirt or a dress
    tail = {"skirt": rng.uniform(0.13, 0.24), "dress": rng.uniform(0.14, 0.28), "coat": rng.uniform(0.1, 0.24)}
    trouser = {"shorts": rng.uniform(0.5, 1.05), "skirt": 1.9 * covered, "dress": 1.9 * covered}
    colours, pattern, frequency = _draw_clothes(rng)
    prints, print_colours = _draw_prints(rng, outfit == "coat", colours[UPPER, 0])
    backpack, bag = rng.random() < 0.22, rng.random() < 0.22
    return Person(
        build=rng.uniform(0.88, 1.16),
        shoulder=rng.uniform(0.094, 0.112),
        hip=rng.uniform(0.052, 0.064),
        leg=rng.uniform(0.95, 1.05),
        head=rng.uniform(0.132, 0.146),
        sleeve=1.93 if outfit == "coat" else rng.choice([0.1, 0.55, 0.7, 1.1, 1.93], p=[0.1, 0.3, 0.2, 0.08, 0.32]),
        trouser=trouser.get(outfit, rng.choice([1.9, 1.55], p=[0.9, 0.1])),
        fit_upper=rng.uniform(0.002, 0.011),
        fit_lower=rng.uniform(0.001, 0.011),
        hem=rng.uniform(-0.02, 0.03),
        tail=tail.get(outfit, 0.0),
        tail_upper=float(outfit != "skirt"),
        flare=rng.uniform(0.0, 0.03) if outfit == "coat" else rng.uniform(0.01, 0.06),
        hair_length=rng.uniform(0.11, 0.24) if long_hair else rng.uniform(0.02, 0.05),
        hair_width=rng.choice([0.03, 0.062]) if long_hair else 0.05,
        fringe=rng.uniform(0.0, 0.16),
        glasses=float(rng.random() < 0.2),
        backpack=float(backpack),
        bag_side=float(rng.choice([-1, 1])) if bag and not backpack else 0.0,
        colours=colours,
        pattern=pattern,
        frequency=frequency,
        prints=prints,
        print_colours=print_colours,
    )


def _draw_clothes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colours [6, 2, 3], pattern weights [6, 4] and stripe frequencies [6, 2] by material."""
    colours = np.zeros((6, 2, 3))
    for material, palette in ((SKIN, _SKIN), (LOWER, _TROUSERS), (SHOES, _SHOES), (HAIR, _HAIR), (BAG, _CLOTH)):
        colours[material] = rng.choice(palette)
    colours[UPPER] = _two_unlike(rng, _CLOTH)
    colours = np.clip(colours + rng.normal(0, 0.015, (6, 1, 3)), 0.06, 0.95)
    colours[LOWER, 1] = 0.55 * colours[LOWER, 0] + 0.3
    pattern = np.zeros((6, 4))
    names = list(_PATTERNS)
    pattern[UPPER] = _PATTERNS[rng.choice(names, p=[0.42, 0.2, 0.08, 0.1, 0.08, 0.12])]
    pattern[LOWER] = _PATTERNS[rng.choice(names, p=[0.8, 0.0, 0.06, 0.08, 0.06, 0.0])]
    frequency = rng.uniform((12, 12), (26, 26), (6, 2))
    return colours, pattern, frequency


def _draw_prints(rng: np.random.Generator, coat: bool, cloth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Front and back print [2, 5] and their colours [2, 3]; an open coat shows the shirt under it."""
    prints, colours = np.zeros((2, 5)), np.zeros((2, 3))
    for face, chance in enumerate((0.4, 0.4)):
        half_width, half_height = rng.uniform(0.03, 0.06), rng.uniform(0.02, 0.06)
        hole = rng.choice([0.0, 0.55])
        print_ = (half_width, half_height, rng.uniform(0.09, 0.13), rng.choice([2.0, 8.0]), hole)
        colours[face] = _unlike(rng, _CLOTH, cloth)
        if rng.random() < chance:
            prints[face] = print_
    if coat and rng.random() < 0.7:
        prints[0] = (rng.uniform(0.02, 0.035), 0.4, 0.2, 8.0, 0.0)
    return prints, colours


def _two_unlike(rng: np.random.Generator, palette: np.ndarray) -> np.ndarray:
    """[2, 3] two colours that the eye can tell apart."""
    first = rng.choice(palette)
    return np.stack([first, _unlike(rng, palette, first)])


def _unlike(rng: np.random.Generator, palette: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return rng.choice(palette[np.linalg.norm(palette - colour, axis=1) > 0.4])
