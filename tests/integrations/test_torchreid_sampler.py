"""The mixing sampler, against a recount of its batches, and the loader made of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_aug.errors import ConfigError
from reid_aug.integrations.torchreid import epoch_length, mixing_loader
from reid_aug.integrations.torchreid_sampler import MixingSampler
from reid_aug.records import Mix

counts = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5)), min_size=2, max_size=6)
mixes = st.builds(
    Mix, real=st.integers(0, 4), synthetic=st.integers(0, 3), either=st.integers(0, 3)
).filter(lambda mix: mix.per_identity > 0)  # fmt: skip


def items_of(counts):
    """(real, generated) images of each identity -> torchreid's tuples, shuffled."""
    items = [
        (f"{pid}_{dsetid}_{number}", pid, 0, dsetid)
        for pid, both in enumerate(counts)
        for dsetid, count in enumerate(both)
        for number in range(count)
    ]
    return [items[index] for index in np.random.default_rng(0).permutation(len(items))]


@settings(deadline=None)
@given(counts=counts, mix=mixes, seed=st.integers(0, 99), iteration=st.integers(0, 10**6), data=st.data())
def test_a_batch_is_what_the_mix_says(counts, mix, seed, iteration, data):
    identities = data.draw(st.integers(2, len(counts)))
    items = items_of(counts)
    batch = [items[index] for index in MixingSampler(items, lambda i: mix, identities, 1, seed).batch(iteration)]
    assert Counter(pid for _, pid, *_ in batch).most_common() == [
        (pid, mix.per_identity) for pid in dict.fromkeys(pid for _, pid, *_ in batch)
    ]
    assert len({pid for _, pid, *_ in batch}) == identities
    for pid in {pid for _, pid, *_ in batch}:
        real, synthetic = counts[pid]
        own = [item for item in batch if item[1] == pid]
        drawn = sum(dsetid == 1 for *_, dsetid in own)
        if synthetic == 0:
            assert drawn == 0
        else:
            assert mix.synthetic <= drawn <= mix.synthetic + mix.either
        if mix.either == 0:  # without replacement as far as the images last
            reals = [path for path, *_, dsetid in own if dsetid == 0]
            assert len(set(reals)) == min(len(reals), real) or len(reals) > real
            assert len({path for path, *_, dsetid in own if dsetid == 1}) == min(drawn, synthetic) or drawn > synthetic


def test_epochs_follow_each_other_and_resume_anywhere():
    schedule = lambda iteration: Mix(real=2) if iteration < 4 else Mix(real=1, synthetic=1)  # noqa: E731
    make = lambda: MixingSampler(items_of([(4, 3)] * 5), schedule, identities=3, batches=3, seed=1)  # noqa: E731
    unbroken = make()
    epochs = [list(unbroken) for _ in range(3)]
    assert len(unbroken) == 3 and len({tuple(batch) for epoch in epochs for batch in epoch}) == 9
    resumed = make()
    resumed.set_epoch(2)
    assert list(resumed) == epochs[2]
    assert [unbroken.batch(iteration) for iteration in range(9)] == [batch for epoch in epochs for batch in epoch]


def test_the_seed_decides_and_global_random_states_do_not():
    items = items_of([(4, 3)] * 5)
    batches = [MixingSampler(items, lambda i: Mix(real=2, synthetic=1), 3, 5, seed=seed) for seed in (0, 0, 1)]
    np.random.seed(0)
    torch.manual_seed(0)
    first = list(batches[0])
    np.random.seed(1)
    assert list(batches[1]) == first
    assert list(batches[2]) != first


@pytest.mark.parametrize("identities", [1, 6])
def test_more_identities_than_there_are_or_one_alone(identities):
    with pytest.raises(ConfigError, match=rf"identities={identities} .*Set it between 2 and 5"):
        MixingSampler(items_of([(1, 1)] * 5), lambda i: Mix(real=1), identities, 1)


def test_a_mix_without_an_image():
    with pytest.raises(ConfigError, match=r"schedule: iteration 7 asks for no image. Set one of real"):
        MixingSampler(items_of([(1, 1)] * 5), lambda i: Mix(), 2, 1).batch(7)


def test_the_loader_takes_the_data_managers_place(datamanager):
    manager = datamanager()
    assert len(manager.train_loader) == 46 // 8
    manager.train_loader = mixing_loader(manager, lambda iteration: Mix(real=2, synthetic=1), identities=4)
    assert len(manager.train_loader) == epoch_length(manager) == 30 // 8  # generated images do not lengthen an epoch
    manager.train_loader = mixing_loader(manager, lambda iteration: Mix(real=2, synthetic=1), identities=4)  # again
    for batch in manager.train_loader:
        assert batch["img"].shape == (12, 3, 32, 16)
        for pid in batch["pid"].unique():
            marks = batch["dsetid"][batch["pid"] == pid].tolist()
            assert sorted(marks) == ([0, 0, 1] if pid < 4 else [0, 0, 0])  # the last identity has no generated image


def test_an_epoch_has_at_least_one_batch(datamanager):
    assert epoch_length(datamanager(batch_size_train=40)) == 1


def test_other_sources_are_refused(datamanager):
    manager = datamanager()
    name = manager.sources[0]
    both = manager.train_loader.dataset + manager.train_loader.dataset  # as torchreid joins two sources
    manager.sources, manager.train_loader = [name, name], torch.utils.data.DataLoader(both, batch_size=8)
    with pytest.raises(ConfigError, match=r"sources=\['aug_.*needs a single source that register\(\) made"):
        mixing_loader(manager, lambda iteration: Mix(real=1))
