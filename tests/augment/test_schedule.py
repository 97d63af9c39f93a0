from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid_aug.augment.schedule import POLICIES, make_schedule
from reid_aug.config import ScheduleConfig
from reid_aug.errors import ConfigError
from reid_aug.records import Mix

ITERATIONS, K = 1000, 4


def mixes(**config) -> list[Mix]:
    schedule = make_schedule(ScheduleConfig(**config), ITERATIONS, K)
    return [schedule(iteration) for iteration in range(ITERATIONS)]


def test_none_is_real_alone():
    assert set(mixes(policy="none")) == {Mix(real=K)}


def test_concat_draws_from_both():
    assert set(mixes(policy="concat")) == {Mix(either=K)}


def test_fixed_ratio_splits_each_identity():
    drawn = mixes(policy="fixed_ratio", synthetic=1)
    assert sum(mix.real for mix in drawn) == 3 * sum(mix.synthetic for mix in drawn) == 3 * ITERATIONS


def test_finetune_is_real_first_and_then_both():
    drawn = mixes(policy="finetune", start=0.3)
    assert drawn == [Mix(real=K)] * 300 + [Mix(either=K)] * 700


def test_finetune_at_its_ends_is_concat_and_none():
    assert mixes(policy="finetune", start=0.0) == mixes(policy="concat")
    assert mixes(policy="finetune", start=1.0) == mixes(policy="none")


def test_auxiliary_adds_to_the_real_images():
    assert set(mixes(policy="auxiliary", synthetic=2, in_triplet=False, weight=0.5, smoothing=0.2)) == {
        Mix(real=K, synthetic=2, weight=0.5, smoothing=0.2, in_triplet=False)
    }


@pytest.mark.parametrize("synthetic", [4, 5])
def test_fixed_ratio_without_a_real_image_is_refused(synthetic):
    with pytest.raises(ConfigError, match=rf"`synthetic` is {synthetic}.*only 4 images.*Set `synthetic` below 4"):
        make_schedule(ScheduleConfig(policy="fixed_ratio", synthetic=synthetic), ITERATIONS, K)


@given(
    policy=st.sampled_from(sorted(POLICIES)),
    synthetic=st.integers(1, 3),
    start=st.floats(0, 1),
    weight=st.floats(0, 2),
    in_triplet=st.booleans(),
    iterations=st.integers(1, 10**6),
    share=st.floats(0, 1, exclude_max=True),
)
def test_every_iteration_has_k_images_and_the_configured_losses(
    policy, synthetic, start, weight, in_triplet, iterations, share
):
    given = {"synthetic": synthetic, "start": start, "weight": weight, "in_triplet": in_triplet}
    own = {name: value for name, value in given.items() if name in POLICIES[policy].settings}
    mix = make_schedule(ScheduleConfig(policy=policy, **own), iterations, K)(int(share * iterations))
    assert mix.per_identity == K + (synthetic if policy == "auxiliary" else 0)
    assert mix.real + mix.either >= 1
    if mix.synthetic or mix.either:
        assert (mix.weight, mix.in_triplet) == (weight, in_triplet)


def test_every_policy_of_the_configuration_exists():
    assert set(POLICIES) == set(ScheduleConfig.model_fields["policy"].annotation.__args__)
