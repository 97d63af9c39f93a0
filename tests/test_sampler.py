"""P x K batches: what they hold, that they depend on the number alone, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_aug.errors import ConfigError, DataError
from reid_aug.records import Mix
from reid_aug.sampler import PKSampler, iterations_per_epoch

NONE = np.empty(0, np.int64)


@st.composite
def problems(draw):
    pids = draw(st.lists(st.integers(1, 500), min_size=2, max_size=9, unique=True))
    real = [pid for pid in pids for _ in range(draw(st.integers(1, 6)))]
    synthetic = [pid for pid in pids for _ in range(draw(st.integers(0, 4)))]
    mix = Mix(real=draw(st.integers(0, 4)), synthetic=draw(st.integers(0, 3)), either=draw(st.integers(0, 5)))
    shuffled = np.random.default_rng(draw(st.integers(0, 99))).permutation(real)
    return shuffled, np.array(synthetic, np.int64), draw(st.integers(2, len(pids))), mix


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(0, 10_000))
def test_a_batch_holds_what_the_mix_asks_for(problem, number):
    real, synthetic, identities, mix = problem
    sampler = PKSampler(real, synthetic, identities, seed=1)
    if mix.per_identity == 0:
        with pytest.raises(ConfigError, match=f"iteration {number} asks for no image"):
            sampler.draw(number, mix)
        return
    batch = sampler.draw(number, mix)
    labels = batch.labels.reshape(identities, mix.per_identity)
    assert (labels == labels[:, :1]).all() and len(set(labels[:, 0])) == identities
    pids = np.where(batch.synthetic, 0, real[np.where(batch.synthetic, 0, batch.indices)])
    if len(synthetic):
        pids = np.where(batch.synthetic, synthetic[np.where(batch.synthetic, batch.indices, 0)], pids)
    assert (pids == np.unique(real)[batch.labels]).all()
    for label, chosen in zip(labels[:, 0], range(identities)):
        part = slice(chosen * mix.per_identity, (chosen + 1) * mix.per_identity)
        available = [(real == np.unique(real)[label]).sum(), (synthetic == np.unique(real)[label]).sum()]
        counts = [(~batch.synthetic[part]).sum(), batch.synthetic[part].sum()]
        asked = [mix.real, mix.synthetic] if available[1] else [mix.real + mix.synthetic, 0]
        assert counts[0] >= asked[0] and counts[1] >= asked[1]
        if all(have >= need for have, need in zip(available, asked)) and sum(available) >= mix.per_identity:
            drawn = list(zip(batch.indices[part], batch.synthetic[part]))
            assert len(set(drawn)) == len(drawn)  # nothing comes twice where there is enough


def test_a_batch_depends_on_seed_and_number_alone():
    real = np.repeat(np.arange(20), 5)
    first, second = (PKSampler(real, NONE, 4, seed=3) for _ in range(2))
    for number in range(7):  # an earlier draw changes nothing
        first.draw(number, Mix(real=4))
    a, b = first.draw(7, Mix(real=4)), second.draw(7, Mix(real=4))
    assert (a.indices == b.indices).all() and (a.labels == b.labels).all()
    assert (a.indices != PKSampler(real, NONE, 4, seed=4).draw(7, Mix(real=4)).indices).any()
    assert (a.indices != first.draw(8, Mix(real=4)).indices).any()


@pytest.mark.parametrize("people, identities", [(12, 4), (13, 4), (5, 4), (4, 4)])
def test_a_pass_visits_every_identity(people, identities):
    sampler = PKSampler(np.repeat(np.arange(people), 4), NONE, identities, seed=0)
    assert sampler.batches_per_pass == -(-people // identities)
    for start in (0, sampler.batches_per_pass):
        numbers = range(start, start + sampler.batches_per_pass)
        visited = np.concatenate([sampler.draw(number, Mix(real=1)).labels for number in numbers])
        assert set(visited) == set(range(people))
        assert len(visited) - people < identities


def test_an_identity_without_generated_images_gives_real_ones():
    sampler = PKSampler(np.repeat([1, 2], 6), np.array([2, 2, 2]), 2, seed=0)
    batch = sampler.draw(0, Mix(real=2, synthetic=2))
    assert (~batch.synthetic[batch.labels == 0]).sum() == 4
    assert batch.synthetic[batch.labels == 1].sum() == 2


def test_few_images_all_come_before_one_repeats():
    sampler = PKSampler(np.array([1, 1, 1, 2]), NONE, 2, seed=0)
    batch = sampler.draw(0, Mix(real=4))
    assert set(batch.indices[batch.labels == 0]) == {0, 1, 2}
    assert (batch.indices[batch.labels == 1] == 3).all()


def test_epoch_length_is_the_references():
    pids = np.repeat([1, 2, 3, 4], [9, 4, 1, 8])  # 2, 1, 1 and 2 groups of 4
    assert [iterations_per_epoch(pids, identities, 4) for identities in (2, 4, 16)] == [3, 2, 1]


@pytest.mark.parametrize(
    "real, synthetic, identities, error, message",
    [
        ([7, 7, 7], [], 2, DataError, "3 images of 1 identity.*at least two"),
        ([], [], 2, DataError, "0 images of 0 identity"),
        ([1, 2, 3], [], 16, ConfigError, r"identities=16 .*training\.identities.*has 3.*between 2 and 3"),
        ([1, 2, 3], [], 1, ConfigError, r"identities=1 .*between 2 and 3"),
        ([1, 2, 3], [2, 9, 8], 2, DataError, r"pid 8 \(and 1 more\) has no real image"),
    ],
)
def test_what_cannot_be_sampled_is_refused(real, synthetic, identities, error, message):
    with pytest.raises(error, match=message):
        PKSampler(np.array(real, np.int64), np.array(synthetic, np.int64), identities, seed=0)
