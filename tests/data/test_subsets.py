from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_aug.data.subsets import take_fraction
from reid_aug.errors import ConfigError
from reid_aug.records import Sample, Samples

fractions = st.floats(0, 1, exclude_min=True)
seeds = st.integers(0, 2**32)


@st.composite
def data_sets(draw):
    """Up to 80 images of up to 12 identities, from one image an identity to many."""
    counts = draw(st.lists(st.integers(1, 20), min_size=1, max_size=12))
    names = [(pid, number) for pid, count in enumerate(counts, 1) for number in range(count)][:80]
    return Samples(Sample(Path(f"{pid:04d}_c1s1_{number:06d}_01.jpg"), pid, 1) for pid, number in names)


@settings(max_examples=50)
@given(samples=data_sets(), fraction=fractions, seed=seeds)
def test_size_order_and_every_identity(samples, fraction, seed):
    subset = take_fraction(samples, fraction, seed)
    identities = set(samples.pids)
    assert len(subset) == max(round(fraction * len(samples)), len(identities))
    assert set(subset.pids) == identities
    positions = [list(samples).index(sample) for sample in subset]
    assert positions == sorted(set(positions))


@settings(max_examples=50)
@given(samples=data_sets(), pair=st.tuples(fractions, fractions).map(sorted), seed=seeds)
def test_nested_for_a_seed(samples, pair, seed):
    smaller, larger = (set(take_fraction(samples, fraction, seed)) for fraction in pair)
    assert smaller <= larger


@settings(max_examples=50)
@given(samples=data_sets(), fraction=fractions, seed=seeds, shuffle=st.randoms())
def test_does_not_depend_on_the_order_or_folder_of_the_samples(samples, fraction, seed, shuffle):
    elsewhere = [Sample(Path("/another/machine") / sample.name, sample.pid, sample.camid) for sample in samples]
    shuffle.shuffle(elsewhere)
    subset, again = take_fraction(samples, fraction, seed), take_fraction(Samples(elsewhere), fraction, seed)
    assert {sample.name for sample in subset} == {sample.name for sample in again}


def test_more_images_than_the_fraction_are_said():
    samples = Samples(Sample(Path(f"{pid:04d}_c1s1_{n:06d}_01.jpg"), pid, 1) for pid in range(1, 5) for n in range(5))
    with pytest.warns(UserWarning, match=r"0\.1 of 20 images are 2, but 4 identities need one each: 4 are taken"):
        assert len(take_fraction(samples, 0.1, seed=0)) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(take_fraction(samples, 0.2, seed=0)) == 4


def test_the_list_of_a_seed_never_changes():
    samples = Samples(Sample(Path(f"{pid:04d}_c1s1_{n:06d}_01.jpg"), pid, 1) for pid in (1, 2) for n in range(5))
    taken = [(s.pid, int(s.name[10:16])) for s in take_fraction(samples, 0.4, seed=0)]
    assert taken == [(1, 2), (1, 3), (2, 1), (2, 4)]


def test_seeds_differ_and_the_whole_is_the_whole():
    samples = Samples(Sample(Path(f"{n % 4:04d}_c1s1_{n:06d}_01.jpg"), n % 4, 1) for n in range(100))
    assert list(take_fraction(samples, 0.5, seed=0)) != list(take_fraction(samples, 0.5, seed=1))
    assert list(take_fraction(samples, 1.0, seed=0)) == list(samples)
    assert take_fraction(samples, 0.5, seed=0).poses is samples.poses


@pytest.mark.parametrize("fraction", [0, -0.2, 1.01, 20, float("nan"), float("inf")])
def test_fractions_outside_are_rejected(fraction):
    samples = Samples([Sample(Path("0001_c1s1_000001_01.jpg"), 1, 1)])
    with pytest.raises(ConfigError, match=rf"fraction: {fraction} is outside \(0, 1\]\. Use e\.g\. 0\.2"):
        take_fraction(samples, fraction, seed=0)
