from __future__ import annotations

import warnings

import numpy as np
import pytest
from augment_cases import people, pose

from reid_aug.augment.plan import make_plan
from reid_aug.config import AugmentConfig
from reid_aug.data.market1501 import parse_name
from reid_aug.errors import DataError
from reid_aug.records import Pose, Samples


def hidden(joint: int) -> Pose:
    whole = pose()
    visible = whole.visible.copy()
    visible[joint] = False
    return Pose(np.where(visible[:, None], whole.xy, 0.0).astype(np.float32), visible, whole.image_size)


def of(plan, pid: int) -> list:
    return [image for image in plan if image.pid == pid]


def test_every_identity_gets_its_images_from_its_own_sources():
    samples = people()
    plan = make_plan(samples, AugmentConfig(per_identity=5, seed=3))
    by_name = {sample.name: sample for sample in samples}
    assert [image.pid for image in plan] == [2] * 5 + [7] * 5 + [11] * 5
    assert all(by_name[image.source].pid == image.pid for image in plan)
    assert all(by_name[image.source].camid == image.camid for image in plan)
    assert all(image.target_pose in by_name for image in plan)
    assert len({image.seed for image in plan}) == len(plan)
    assert all(0 <= image.seed < 2**53 for image in plan)


def test_names_are_unique_and_in_market_form():
    plan = make_plan(people(), AugmentConfig(per_identity=20))
    assert len({image.name for image in plan}) == len(plan)
    assert all(parse_name(image.name) == (image.pid, image.camid) for image in plan)
    assert plan[7].name == plan[7].source.replace(".jpg", "_g0007.jpg")


def test_all_sources_of_an_identity_are_used():
    samples = people()
    plan = make_plan(samples, AugmentConfig(per_identity=40))
    assert {image.source for image in plan} == {sample.name for sample in samples}


@pytest.mark.parametrize("poses", ["random", "diverse", "other_view", "other_camera"])
def test_a_larger_plan_extends_the_smaller_one(poses):
    small = make_plan(people(), AugmentConfig(per_identity=3, poses=poses))
    large = make_plan(people(), AugmentConfig(per_identity=9, poses=poses))
    assert [of(large, pid)[:3] for pid in (2, 7, 11)] == [of(small, pid) for pid in (2, 7, 11)]


def test_an_identity_is_given_no_pose_twice_while_there_is_another():
    plan = make_plan(people(), AugmentConfig(per_identity=9, seed=1))
    for pid in (2, 7, 11):
        assert len({image.target_pose for image in of(plan, pid)}) == 9


@pytest.mark.parametrize("poses", ["random", "diverse", "other_view", "other_camera"])
def test_an_identitys_sources_and_seeds_do_not_depend_on_the_others(poses):
    samples, config = people(), AugmentConfig(per_identity=6, poses=poses)
    whole = of(make_plan(samples, config), 7)
    alone = make_plan(samples.where(lambda sample: sample.pid == 7), config)
    assert [(image.source, image.seed) for image in alone] == [(image.source, image.seed) for image in whole]


def test_other_camera_labels_an_image_with_the_camera_of_its_pose():
    samples = people().where(lambda sample: (sample.pid, sample.camid) != (7, 2))  # camera 2 has not seen identity 7
    plan = make_plan(samples, AugmentConfig(per_identity=6, poses="other_camera"))
    assert {image.camid for image in of(plan, 7)} == {2}
    for image in plan:
        assert parse_name(image.target_pose)[1] == image.camid == parse_name(image.name)[1]
        assert image.name.partition("s1_")[2].startswith(image.source.partition("s1_")[2].removesuffix(".jpg"))
    assert len({image.name for image in plan}) == len(plan)


def test_the_seed_decides():
    assert make_plan(people(), AugmentConfig(seed=1)) == make_plan(people(), AugmentConfig(seed=1))
    assert make_plan(people(), AugmentConfig(seed=1)) != make_plan(people(), AugmentConfig(seed=2))


def test_wrong_identity_control_takes_other_peoples_images():
    plan = make_plan(people(), AugmentConfig(per_identity=30, source_identity="other", image_format="png"))
    sources = {pid: {int(image.source[:4]) for image in of(plan, pid)} for pid in (2, 7, 11)}
    assert sources == {2: {7, 11}, 7: {2, 11}, 11: {2, 7}}
    assert all(parse_name(image.name) == (image.pid, parse_name(image.source)[1]) for image in plan)
    assert len({image.name for image in plan}) == len(plan)


def test_images_without_a_usable_pose_are_no_sources():
    samples = people()
    poses = dict(samples.poses)
    unusable = [samples[0].name, samples[1].name]
    poses[unusable[0]] = hidden(5)
    del poses[unusable[1]]
    plan = make_plan(Samples(samples, poses), AugmentConfig(per_identity=40))
    assert {image.source for image in of(plan, 2)} == {samples[2].name, samples[3].name}


def test_identities_without_a_usable_pose_are_left_out_and_named_once():
    samples = people()
    poses = {name: shape for name, shape in samples.poses.items() if not name.startswith("0007")}
    with pytest.warns(UserWarning, match=r"^1 identities have no image with a usable pose.*: 7$") as said:
        plan = make_plan(Samples(samples, poses), AugmentConfig())
    assert len(said) == 1
    assert {image.pid for image in plan} == {2, 11}


def test_distractors_are_not_augmented():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = make_plan(people(pids=(0, 2)), AugmentConfig())
    assert {image.pid for image in plan} == {2}


def test_no_pose_at_all_is_an_error():
    with pytest.raises(DataError, match=r"none of the 12 images has a pose.*keypoints="):
        make_plan(Samples(people()), AugmentConfig())


def test_another_identity_must_exist():
    with pytest.raises(DataError, match=r"`source_identity` is other, but only one identity.*Use same"):
        make_plan(people(pids=(2,)), AugmentConfig(source_identity="other"))
