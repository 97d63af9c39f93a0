from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from reid_aug.errors import ConfigError, DataError
from reid_aug.pose.bank import STRATEGIES, PoseBank, view_of
from reid_aug.pose.batch import PoseBatch
from reid_aug.records import Pose, Sample, Samples


def turned(standing: Pose, view: str) -> Pose:
    """The standing person seen from ``view``: the back is the reflection without a face, the side is narrow."""
    xy, visible = standing.xy.copy(), standing.visible.copy()
    if view == "back":
        xy[:, 0] = 63 - xy[:, 0]
        visible[[0, 14, 15]] = False
    if view == "side":
        xy[:, 0] = 32 + (xy[:, 0] - 32) * 0.3
        visible[[15, 17]] = False
    return Pose(xy * visible[:, None], visible, standing.image_size)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sample(pid: int, number: int, camid: int = 1) -> Sample:
    return Sample(Path(f"{pid:04d}_c{camid}s1_{number:06d}_01.jpg"), pid, camid)


@pytest.fixture
def samples(standing) -> Samples:
    """Identity 1 is seen from the front alone, 2 from front and back, 3 from everywhere."""
    views = {1: ["front"] * 4, 2: ["front", "back"] * 3, 3: ["front", "side", "back"] * 5}
    poses, listed = {}, []
    for pid, seen in views.items():
        for number, view in enumerate(seen):
            listed.append(sample(pid, number))
            pose = turned(standing, view)
            poses[listed[-1].name] = Pose(pose.xy + np.float32(number), pose.visible, pose.image_size)
    return Samples(listed, poses)


def views(samples: Samples, names: list[str]) -> set[str]:
    return {view_of(samples.poses[name]) for name in names}


@pytest.mark.parametrize("view", ["front", "side", "back"])
def test_view_of_a_pose_and_of_its_mirror_image(standing, view):
    pose = turned(standing, view)
    assert view_of(pose) == view
    flipped = PoseBatch.stack([pose]).mirrored()
    assert view_of(Pose(flipped.xy[0].numpy(), flipped.visible[0].numpy(), pose.image_size)) == view


def test_only_poses_with_a_trunk_are_in_the_bank(samples, standing):
    extra = [sample(9, 0), sample(9, 1)]
    visible = standing.visible.copy()
    visible[8] = False
    poses = {**samples.poses, extra[0].name: Pose(standing.xy, visible, (128, 64))}
    bank = PoseBank(Samples([*samples, *extra], poses))
    assert list(bank.names) == [each.name for each in samples]


def test_without_a_usable_pose_the_error_says_what_to_do(samples):
    with pytest.raises(DataError, match=r"none of the 25 images has a pose.*Load the data set with its key points"):
        PoseBank(Samples(samples, {}))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_draws_depend_on_the_generator_alone(samples, strategy):
    bank = PoseBank(samples)
    first = bank.draw(strategy, samples[0], 6, rng(1))
    bank.draw(strategy, samples[5], 3, rng(2))
    assert bank.draw(strategy, samples[0], 6, rng(1)) == first
    assert PoseBank(samples).draw(strategy, samples[0], 6, rng(1)) == first
    assert bank.draw(strategy, samples[0], 6, rng(3)) != first


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("count", [0, 1, 24, 100])
def test_any_number_can_be_drawn_never_the_source_itself(samples, strategy, count):
    names = PoseBank(samples).draw(strategy, samples[0], count, rng())
    assert len(names) == count
    assert set(names) <= set(samples.poses) - {samples[0].name}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_only_pose_is_better_than_none(samples, strategy):
    alone = samples[:1]
    assert PoseBank(alone).draw(strategy, alone[0], 3, rng()) == [alone[0].name] * 3


def test_random_is_uniform_and_repeats_no_pose_before_all_have_come(samples):
    bank = PoseBank(samples)
    assert len(set(bank.draw("random", samples[0], 24, rng()))) == 24
    counts = Counter(bank.draw("random", samples[0], 24 * 7, rng()))
    assert set(counts.values()) == {7}
    first = Counter(bank.draw("random", samples[0], 1, rng(seed))[0] for seed in range(1200))
    assert len(first) == 24
    assert max(first.values()) < 90 and min(first.values()) > 20  # 50 expected, standard deviation 7


def test_other_view_draws_what_the_identity_lacks(samples):
    bank = PoseBank(samples)
    assert views(samples, bank.draw("other_view", samples[0], 30, rng())) == {"side", "back"}
    assert views(samples, bank.draw("other_view", samples[4], 30, rng())) == {"side"}


def test_other_view_differs_from_the_source_where_nothing_is_lacking(samples):
    for source in samples.where(lambda each: each.pid == 3):
        drawn = views(samples, PoseBank(samples).draw("other_view", source, 30, rng()))
        assert drawn == {"front", "side", "back"} - {view_of(samples.poses[source.name])}


def test_other_view_takes_what_there_is(samples):
    front = samples.where(lambda each: each.pid == 1)
    assert len(PoseBank(front).draw("other_view", front[0], 5, rng())) == 5


def test_other_camera_draws_from_those_that_have_not_seen_the_identity(standing):
    """Identity 1 was seen by cameras 2 and 5 (without a usable pose), 2 by 2, 5 and 6, 3 by all there are."""
    seen = {1: (2, 2, 5), 2: (2, 5, 6), 3: (2, 5, 6, 6)}
    listed = [sample(pid, number, camid) for pid, camids in seen.items() for number, camid in enumerate(camids)]
    bank = PoseBank(Samples(listed, {each.name: standing for each in listed if (each.pid, each.camid) != (1, 5)}))
    camid = {each.name: each.camid for each in listed}

    def cameras(source: Sample) -> set[int]:
        return {camid[name] for name in bank.draw("other_camera", source, 30, rng())}

    assert cameras(listed[0]) == {6}
    assert cameras(listed[6]) == {5, 6}  # all have seen identity 3: any but the source's own, 2
    assert cameras(sample(7, 0, 5)) == {2, 5, 6}  # none has seen who is not in the bank


def test_diverse_prefers_the_shapes_an_identity_lacks(standing):
    """Identity 1 always stands, near or far; identity 2 does too but for one image of 21, with both arms raised."""
    raised = standing.xy.copy()
    raised[[3, 4, 6, 7], 1] = 5.0
    listed = [sample(1, number) for number in range(20)] + [sample(2, number) for number in range(21)]
    poses = {
        each.name: Pose(standing.xy * np.float32(1 - 0.02 * number) + np.float32(number), standing.visible, (128, 64))
        for number, each in enumerate(listed)
    }
    poses[listed[-1].name] = Pose(raised, standing.visible, (128, 64))
    bank = PoseBank(Samples(listed, poses))

    def share_of_raised(source: Sample) -> float:
        return np.mean([bank.draw("diverse", source, 1, rng(seed)) == [listed[-1].name] for seed in range(300)])

    # Place and size do not count, so there are two shapes. Identity 1: weight 1 / 21 for standing, 1 for raised.
    assert share_of_raised(listed[0]) == pytest.approx(21 / 22, abs=0.05)
    # Who is not in the bank has images of neither: even.
    assert share_of_raised(sample(7, 0)) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_drawing_one_by_one_counts_what_was_drawn_before(samples, strategy):
    bank, drawn = PoseBank(samples), []
    for number in range(24):
        drawn += bank.draw(strategy, samples[0], 1, rng(number), drawn)
    times, labels = Counter(drawn), dict(zip(bank.names, bank._groups(strategy)[0]))
    for label in {labels[name] for name in drawn}:
        of_group = [times[name] for name in bank.names[1:] if labels[name] == label]
        assert max(of_group) - min(of_group) <= 1  # no pose comes again before its whole group has


def test_diverse_counts_the_draws_before(standing):
    """Two shapes of 20 poses each: 19 draws of one make the other 20 times as likely."""
    raised = standing.xy.copy()
    raised[[3, 4, 6, 7], 1] = 5.0
    listed = [sample(1, number) for number in range(40)]
    poses = {
        each.name: Pose(raised if number >= 20 else standing.xy, standing.visible, (128, 64))
        for number, each in enumerate(listed)
    }
    bank = PoseBank(Samples(listed, poses))
    before = [each.name for each in listed[:19]]
    new = [bank.draw("diverse", sample(7, 0), 1, rng(seed), before)[0] for seed in range(300)]
    assert np.mean([name in {each.name for each in listed[20:]} for name in new]) == pytest.approx(20 / 21, abs=0.05)


def test_an_unknown_strategy_is_named(samples):
    with pytest.raises(ConfigError, match=r"unknown strategy 'rare'\. Use one of: random, diverse, other_view"):
        PoseBank(samples).draw("rare", samples[0], 1, rng())
