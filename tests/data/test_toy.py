from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reid_aug.data.images import Images
from reid_aug.data.toy import make_toy_market
from reid_aug.data.toy_body import SOLIDS, Shot, draw_shot, joints, solids
from reid_aug.data.toy_cameras import CAMERAS, SCENE_SIZE, crop_scenes, scenes
from reid_aug.data.toy_people import Person, draw_person
from reid_aug.data.toy_raster import rasterise
from reid_aug.data.toy_render import _stack, draw_people
from reid_aug.errors import ConfigError, OutputError
from reid_aug.pose import skeleton
from reid_aug.pose.parts import DENSEPOSE_PARTS
from reid_aug.pose.skeleton import LEFT_EAR, LEFT_EYE, NECK, NOSE, PARTS, RIGHT_EAR, RIGHT_EYE
from reid_aug.records import Samples

COARSE = torch.tensor([0, 1, 1, 4, 6, 10, 8, 7, 9, 7, 9, 8, 10, 8, 10, 5, 3, 5, 3, 6, 4, 6, 4, 2, 2])
"""DensePose's parts as those of ``PARTS``: hands count as lower arms, feet as lower legs."""


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    return make_toy_market(tmp_path_factory.mktemp("toy") / "small", identities=4, test_identities=3, seed=5)


def person(seed: int, **changes) -> Person:
    return replace(draw_person(np.random.default_rng([1, seed])), **changes)


def shot(seed: int, **changes) -> Shot:
    """A whole person somewhere in the image."""
    rng = np.random.default_rng([2, seed])
    plain = draw_shot(rng, seed % len(CAMERAS), rng.uniform(-math.pi, math.pi), 0.5)
    return replace(plain, **{"fill": 0.9, "shift": np.zeros(2), "turn": 0.0, **changes})


def standing(seed: int, heading: float) -> Shot:
    """Upright, arms down and a little apart."""
    return shot(seed, heading=heading, stride=0.02, swing=0.02, raise_=np.zeros(2), bend=np.full(2, 0.1), spread=0.15)


# --- the data set -------------------------------------------------------------------------------------------------


def test_market_has_market1501s_shape(market):
    train, query, gallery = (set(samples.pids.tolist()) for samples in (market.train, market.query, market.gallery))
    assert train == {2, 4, 6, 8}
    assert query == {1, 3, 5}
    assert gallery == {0, 1, 3, 5}
    assert len(list((market.root / "bounding_box_test").glob("-1_c*.jpg"))) == 3
    for samples in (market.train, market.query, market.gallery):
        assert set(samples.poses) == {sample.name for sample in samples}
        assert samples.camids.min() >= 1 and samples.camids.max() <= 6
    asked = list(zip(market.query.pids.tolist(), market.query.camids.tolist()))
    assert len(asked) == len(set(asked)), "one query for an identity and a camera"


def test_images_and_part_maps_have_one_size(market):
    images = sorted(market.root.glob("[bq]*/*.jpg"))
    assert len(images) == len(list(market.root.glob("parts/*/*.png")))
    for image in images[::10]:
        parts = Image.open((market.root / "parts" / image.parent.name / image.name).with_suffix(".png"))
        assert Image.open(image).size == parts.size == (64, 128)
        assert parts.mode == "L"
        assert np.asarray(parts).max() <= len(DENSEPOSE_PARTS)
    for sample in market.train:
        assert market.train.poses[sample.name].part_file == market.root / "parts" / "bounding_box_train" / (
            sample.path.stem + ".png"
        )


def test_numbers_of_images_are_unequal_and_about_twelve(tmp_path):
    counts = np.bincount(make_toy_market(tmp_path / "toy", identities=24, test_identities=1).train.pids)[2::2]
    assert len(set(counts.tolist())) > 4
    assert counts.min() >= 3 and counts.max() <= 24
    assert 9 < counts.mean() < 15


def test_a_person_does_not_depend_on_how_many_there_are(market, tmp_path):
    fewer = make_toy_market(tmp_path / "fewer", identities=2, test_identities=2, seed=5)
    for split in ("train", "query"):
        few, many = getattr(fewer, split), getattr(market, split)
        many = many.where(lambda sample: sample.pid in set(few.pids.tolist()))  # noqa: B023
        assert [sample.name for sample in few] == [sample.name for sample in many]
        one, other = (Images(samples).batch(range(len(samples))).int() for samples in (few, many))
        assert ((one - other).abs() > 2).float().mean() < 1e-3  # not 0: where a batch ends, the last bit may differ
        for sample in few:
            np.testing.assert_array_equal(few.poses[sample.name].xy, many.poses[sample.name].xy)


def test_same_seed_same_files_other_seed_other_people(market, tmp_path):
    again = make_toy_market(tmp_path / "again", identities=4, test_identities=3, seed=5)
    other = make_toy_market(tmp_path / "other", identities=4, test_identities=3, seed=6)
    names = [path.relative_to(market.root) for path in sorted(market.root.rglob("*")) if path.is_file()]
    assert names == [path.relative_to(again.root) for path in sorted(again.root.rglob("*")) if path.is_file()]
    for name in names:
        assert (market.root / name).read_bytes() == (again.root / name).read_bytes(), name
    assert not {sample.name for sample in other.train} & {sample.name for sample in market.train}


def nearest_rank1(features: dict[str, np.ndarray], query: Samples, gallery: Samples) -> float:
    """Rank-1 in percent by the plainest loop: nearest gallery image that is not of the same person and camera."""
    hits = []
    for feature, wanted in zip(features["query"], query):
        best, found = math.inf, None
        for candidate, sample in zip(features["gallery"], gallery):
            if (sample.pid, sample.camid) != (wanted.pid, wanted.camid):
                distance = float(((feature - candidate) ** 2).sum())
                if distance < best:
                    best, found = distance, sample.pid
        hits.append(found == wanted.pid)
    return 100 * float(np.mean(hits))


def test_mean_colours_do_not_tell_who_it_is(tmp_path):
    """On the query and gallery of the default data set; the training set has no part in it."""
    toy = make_toy_market(tmp_path / "toy", identities=1, test_identities=48)
    pixels = {name: Images(samples).batch(range(len(samples))).numpy().astype(np.float32) / 255
              for name, samples in (("query", toy.query), ("gallery", toy.gallery))}  # fmt: skip
    whole = {name: images.mean((2, 3)) for name, images in pixels.items()}
    thirds = {name: np.concatenate([third.mean((2, 3)) for third in np.array_split(images, 3, axis=2)], 1)
              for name, images in pixels.items()}  # fmt: skip
    for features in (whole, thirds):
        assert nearest_rank1(features, toy.query, toy.gallery) < 60


# --- the drawing --------------------------------------------------------------------------------------------------


def test_rasteriser_equals_one_sample_at_a_time():
    people, shots = _stack([person(3), person(4, backpack=1.0)]), _stack([shot(3), shot(4)])
    made = solids(people, shots, joints(people, shots))
    x, y = torch.linspace(-0.28, 0.28, 15).expand(2, -1), torch.linspace(-0.5, 0.55, 31).expand(2, -1)
    hit = rasterise(made, x, y)
    for image in range(2):
        for row in range(y.shape[1]):
            for column in range(x.shape[1]):
                expected = nearest_solid(made, image, float(x[image, column]), float(y[image, row]))
                assert hit.solid[image, row, column] == expected, (image, row, column)
    assert len(hit.row) == (hit.solid > 0).sum()


def nearest_solid(made, image: int, x: float, y: float) -> int:
    """0, or 1 + the solid nearest to the camera at (x, y), by the definition in plain numbers."""
    best, found = -math.inf, 0
    for index in range(len(SOLIDS)):
        if not made.present[image, index]:
            continue
        (ax, ay, az), (bx, by, bz) = made.start[image, index].tolist(), made.end[image, index].tolist()
        length = max(math.hypot(bx - ax, by - ay), 1e-4)
        ex, ey = (bx - ax) / length, (by - ay) / length
        along, across = ((x - ax) * ex + (y - ay) * ey) / length, (x - ax) * ey - (y - ay) * ex
        t = min(max(along, 0.0), 1.0)
        first, middle, last = made.width[image, index].tolist()
        width = first * (1 - t) * (1 - 2 * t) + 4 * middle * t * (1 - t) + last * t * (2 * t - 1)  # Lagrange
        width += float(made.fit[image, index]) * (t < float(made.cut[image, index]))
        near, far = made.cap[image, index].tolist()
        cap = min(near + (far - near) * t, width)
        over = (along - t) * length
        if math.hypot(max(abs(across) - width + cap, 0.0), over) >= cap:
            continue
        round_ = math.sqrt(max(1 - min(abs(across / width), 1) ** 2 - (over / cap) ** 2, 0.0))
        depth = az + (bz - az) * t + float(made.bulge[image, index]) * width * round_
        if depth > best:
            best, found = depth, index + 1
    return found


@pytest.mark.parametrize(("heading", "sign"), [(0.0, -1), (math.pi, 1)])
def test_right_is_the_persons_own(heading, sign):
    drawing = draw_people([person(seed) for seed in range(8)], [standing(seed, heading) for seed in range(8)])
    assert drawing.poses.visible[:, 1:14].all()
    for right in (skeleton.RIGHT_SHOULDER, skeleton.RIGHT_WRIST, skeleton.RIGHT_HIP, skeleton.RIGHT_ANKLE):
        left = skeleton.MIRROR[right]
        across = drawing.poses.xy[:, right, 0] - drawing.poses.xy[:, left, 0]
        assert (across * sign > 0).all(), (right, left)
    columns = torch.arange(64.0)
    parts = COARSE[drawing.parts.long()]
    for right, left in ((3, 5), (4, 6), (8, 10)):
        means = [((parts == part) * columns).sum((1, 2)) / (parts == part).sum((1, 2)) for part in (right, left)]
        assert ((means[0] - means[1]) * sign > 0).all(), (right, left)


def test_the_face_shows_only_from_the_front():
    seen = {}
    for name, heading in {"front": 0.0, "right": math.pi / 2, "back": math.pi, "left": -math.pi / 2}.items():
        drawing = draw_people([person(0)], [standing(0, heading)])
        seen[name] = {joint for joint in (NOSE, RIGHT_EYE, LEFT_EYE, RIGHT_EAR, LEFT_EAR)
                      if drawing.poses.visible[0, joint]}  # fmt: skip
    assert seen["front"] == {NOSE, RIGHT_EYE, LEFT_EYE, RIGHT_EAR, LEFT_EAR}
    assert seen["right"] == {NOSE, RIGHT_EYE, RIGHT_EAR}  # faces the right of the image, shows the right side
    assert seen["left"] == {NOSE, LEFT_EYE, LEFT_EAR}
    assert seen["back"] == {RIGHT_EAR, LEFT_EAR}


def test_joints_lie_on_their_parts():
    """Of a person seen from the front with nothing in the way: each bone's middle shows that bone's part."""
    people = [person(seed, tail=0.0, bag_side=0.0, hair_length=0.03) for seed in range(16)]
    drawing = draw_people(people, [standing(seed, 0.0) for seed in range(16)])
    xy, agreed = drawing.poses.xy, []
    for index, part in enumerate(PARTS, start=1):
        ends = [xy[:, list(group)].mean(1) for group in (part.start, part.end)]
        share = 0.9 if part.name == "head" else 0.5  # half way up the neck is the collar
        x, y = torch.lerp(ends[0], ends[1], share).round().long().unbind(1)
        agreed.append((COARSE[drawing.parts.long()][torch.arange(16), y, x] == index).float().mean())
    assert min(agreed) >= 0.9, agreed


@pytest.mark.parametrize(("heading", "seen"), [(0.0, "front"), (math.pi, "back")])
def test_part_maps_tell_front_from_back_and_the_sides_of_the_head(heading, seen):
    drawing = draw_people(
        [person(seed, backpack=0.0, bag_side=0.0, tail=0.0) for seed in range(8)],
        [standing(seed, heading) for seed in range(8)],
    )
    for name in ("torso", "right_upper_leg", "left_lower_leg", "right_upper_arm"):
        front, back = (DENSEPOSE_PARTS.index(f"{name}_{side}") + 1 for side in ("front", "back"))
        shown = (drawing.parts == front).sum() if seen == "front" else (drawing.parts == back).sum()
        assert shown / ((drawing.parts == front) | (drawing.parts == back)).sum() > 0.95, name
    columns = torch.arange(64.0)
    right, left = (
        ((drawing.parts == part) * columns).sum((1, 2)) / (drawing.parts == part).sum((1, 2))
        for part in (DENSEPOSE_PARTS.index("right_head") + 1, DENSEPOSE_PARTS.index("left_head") + 1)
    )
    assert ((left - right) * (1 if seen == "front" else -1) > 0).all()


def test_joints_outside_the_image_are_not_visible():
    close = draw_people([person(1)], [shot(1, fill=1.6, shift=np.array([0.0, 0.4]))]).poses
    assert not close.visible[0, [skeleton.RIGHT_ANKLE, skeleton.LEFT_ANKLE]].any()
    assert close.visible[0, NECK]
    assert (close.xy[~close.visible] == 0).all()
    limits = torch.tensor([63.0, 127.0])
    assert ((close.xy >= 0) & (close.xy <= limits)).all()


def test_person_fills_the_height_asked_for():
    people, shots = [person(seed, backpack=0.0) for seed in range(12)], [shot(seed, fill=0.9) for seed in range(12)]
    rows = (draw_people(people, shots).parts > 0).any(2)
    heights = rows.sum(1) / 128
    assert ((heights > 0.82) & (heights < 0.95)).all(), heights


def test_an_image_does_not_depend_on_its_batch():
    people, shots = [person(seed) for seed in range(5)], [shot(seed) for seed in range(5)]
    together = draw_people(people, shots)
    for index in range(5):
        alone = draw_people([people[index]], [shots[index]])
        difference = (alone.images[0].int() - together.images[index].int()).abs()
        assert (difference > 2).float().mean() < 1e-3
        torch.testing.assert_close(alone.poses.xy[0], together.poses.xy[index], atol=1e-4, rtol=0)


def test_front_and_back_prints_are_on_their_sides():
    prints = np.array([[0.05, 0.05, 0.11, 8.0, 0.0], [0.05, 0.05, 0.11, 8.0, 0.0]])
    paint = np.array([[0.9, 0.1, 0.1], [0.1, 0.1, 0.9]])
    worn = person(0, prints=prints, print_colours=paint, backpack=0.0, bag_side=0.0, hair_length=0.03)
    worn.colours[1] = 0.5
    for heading, strong, weak in ((0.0, 0, 2), (math.pi, 2, 0)):
        drawing = draw_people([worn], [replace(standing(0, heading), bend=np.full(2, 0.1))])
        x, y = drawing.poses.xy[0, NECK].round().long().tolist()
        patch = drawing.images[0, :, y + 8 : y + 16, x - 2 : x + 3].float().mean((1, 2))
        assert patch[strong] > 1.5 * patch[weak], (heading, patch)


def test_scene_windows_are_cut_where_asked():
    camera, left, top = torch.tensor([4, 1]), torch.tensor([100.0, 37.0]), torch.tensor([20.0, 11.0])
    windows = crop_scenes(camera, left, top, torch.ones(2), (128, 64))
    for window, index, x, y in zip(windows, (4, 1), (100, 37), (20, 11)):
        torch.testing.assert_close(window, scenes()[index, :, y : y + 128, x : x + 64], atol=1e-3, rtol=0)
    assert scenes().shape == (6, 3, *SCENE_SIZE)


# --- bad input ----------------------------------------------------------------------------------------------------


def test_the_same_data_set_is_only_loaded(market):
    image = market.train[0].path
    before = image.stat().st_mtime_ns
    again = make_toy_market(market.root, identities=4, test_identities=3, seed=5)
    assert image.stat().st_mtime_ns == before
    assert [sample.name for sample in again.train] == [sample.name for sample in market.train]


def test_another_data_set_is_refused(market):
    with pytest.raises(OutputError, match=r"toy\.json.*\"seed\": 5.*another folder"):
        make_toy_market(market.root, identities=4, test_identities=3, seed=6)


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"not a toy data set \(no toy\.json\)\. Name another folder"):
        make_toy_market(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"file/toy: cannot be written .* Name another folder"):
        make_toy_market(tmp_path / "file" / "toy")


@pytest.mark.parametrize(("field", "value"), [("identities", 0), ("test_identities", 0), ("seed", -1)])
def test_a_number_too_small_is_named(tmp_path: Path, field: str, value: int):
    with pytest.raises(ConfigError, match=rf"{field} is {value}\. Give [01] or more"):
        make_toy_market(tmp_path / "toy", **{field: value})
    assert not list(tmp_path.iterdir())
