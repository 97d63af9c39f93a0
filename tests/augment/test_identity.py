from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from augment_cases import MemoryImages, new_store, people, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_aug.augment.generate import generate
from reid_aug.augment.identity import filter_store, judge
from reid_aug.augment.store import Store
from reid_aug.augment.training_free import CopyAugmenter
from reid_aug.config import FilterConfig
from reid_aug.errors import DataError


def unit(rows) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.as_tensor(rows, dtype=torch.float32), dim=1)


def at_angles(*degrees: float) -> torch.Tensor:
    """Features on the unit circle."""
    angles = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def naive_margin(feature, pid, real, real_pids, neighbours) -> tuple[float, int]:
    """Score and nearest other identity, image by image."""
    cosines = [float(feature.double() @ row.double()) for row in real]
    rival = int(max((cosine, other) for cosine, other in zip(cosines, real_pids) if other != pid)[1])

    def mean_of_nearest(identity: int) -> float:
        theirs = sorted((cosine for cosine, other in zip(cosines, real_pids) if other == identity), reverse=True)
        return sum(theirs[:neighbours]) / len(theirs[:neighbours])

    return mean_of_nearest(pid) - mean_of_nearest(rival), rival


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), neighbours=st.integers(1, 6), margin=st.floats(-0.5, 0.5))
def test_verdicts_are_those_of_a_naive_loop(seed, neighbours, margin):
    rng = np.random.default_rng(seed)
    real_pids = np.concatenate([np.repeat([3, 8, 21], rng.integers(1, 6, 3)), [50]])
    rng.shuffle(real_pids)
    real = unit(rng.normal(size=(len(real_pids), 5)))
    pids = rng.choice(real_pids, 300)
    features = unit(rng.normal(size=(300, 5)))
    verdicts = judge(features, pids, real, real_pids, FilterConfig(neighbours=neighbours, min_margin=margin))
    for verdict, feature, pid in zip(verdicts, features, pids):
        score, rival = naive_margin(feature, pid, real, real_pids, neighbours)
        assert verdict.score == pytest.approx(score, abs=1e-5)
        assert f"identity {rival:04d} is {abs(verdict.score):.2f}" in verdict.reason
        if abs(score - margin) > 1e-4:
            assert verdict.verdict == ("keep" if score > margin else "reject")


def test_the_reason_is_written_in_words():
    kept, refused, narrow = judge(
        at_angles(10, 80, 40), [2, 2, 2], at_angles(0, 90), [2, 42], FilterConfig(min_margin=0.2)
    )
    assert (kept.verdict, kept.reason) == ("keep", "nearest other identity 0042 is 0.81 farther than 0002")
    assert refused.verdict == narrow.verdict == "reject"
    assert refused.reason == "nearest other identity 0042 is 0.81 closer than 0002, min_margin is 0.2"
    assert narrow.reason == "nearest other identity 0042 is 0.12 farther than 0002, min_margin is 0.2"


def test_only_the_nearest_images_of_an_identity_vote():
    real, pids = at_angles(0, 170, 180, 60), [2, 2, 2, 42]
    assert judge(at_angles(10), [2], real, pids, FilterConfig(neighbours=1))[0].verdict == "keep"
    assert judge(at_angles(10), [2], real, pids, FilterConfig(neighbours=3))[0].verdict == "reject"


# --- on a store ---------------------------------------------------------------------------------------------------


def a_store(folder) -> Store:
    samples, pipe = people(), CopyAugmenter()
    plan = plan_of(samples)
    return generate(plan, samples, MemoryImages(len(samples)), pipe, new_store(folder, samples, plan, pipe), 5, {})


def embed(samples) -> torch.Tensor:
    """Every identity has its own axis; generated images number 3 lie on that of identity 7."""
    axis = {2: 0, 7: 1, 11: 2}
    rows = [axis[7] if sample.name.endswith("_g0003.jpg") else axis[sample.pid] for sample in samples]
    return torch.eye(3)[rows]


def test_verdicts_are_written_into_the_store(tmp_path):
    store = a_store(tmp_path)
    assert filter_store(store, embed, people(), FilterConfig()) == {"keep": 10, "reject": 2}
    again = Store.open(tmp_path)
    refused = [image for image in again.images if image.verdict == "reject"]
    assert [image.name for image in refused] == ["0002_c1s1_000003_01_g0003.jpg", "0011_c1s1_000003_01_g0003.jpg"]
    assert refused[0].reason == "nearest other identity 0007 is 1.00 closer than 0002, min_margin is 0"
    assert refused[0].identity_score == -1.0
    assert len(again.samples()) == len(list((tmp_path / "bounding_box_train").iterdir())) == 10


def test_a_second_filter_judges_all_images_anew(tmp_path):
    store = a_store(tmp_path)
    filter_store(store, embed, people(), FilterConfig())
    assert filter_store(store, embed, people(), FilterConfig(min_margin=-1.0)) == {"keep": 12, "reject": 0}
    assert filter_store(store, embed, people(), FilterConfig(min_margin=1.5)) == {"keep": 0, "reject": 12}
    assert Counter(image.verdict for image in Store.open(tmp_path).images) == {"reject": 12}


def test_an_empty_store_has_no_verdicts(tmp_path):
    samples = people()
    store = new_store(tmp_path, samples, plan_of(samples), CopyAugmenter())
    assert filter_store(store, embed, samples, FilterConfig()) == {"keep": 0, "reject": 0}


# --- bad input ----------------------------------------------------------------------------------------------------


def test_an_identity_without_a_real_image_is_an_error(tmp_path):
    store = a_store(tmp_path)
    with pytest.raises(DataError, match=r"identity 7 has generated images but no real one \(2 such identities\)"):
        filter_store(store, embed, people(pids=(2,)), FilterConfig())
    assert {image.verdict for image in store.images} == {"unfiltered"}


def test_a_single_real_identity_is_an_error():
    with pytest.raises(DataError, match=r"fewer than two identities\. Give it the whole"):
        judge(at_angles(0), [2], at_angles(0, 10), [2, 2], FilterConfig())


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.ones(2, 2), r"generated features are \[2, 2\] for 1 images. Return \[N, D\]"),
        (torch.ones(1), r"generated features are \[1\] for 1 images"),
        (torch.ones(1, 2) * 3, r"a row of the generated features has length 4\.24, expected 1. L2-normalise"),
        (torch.full((1, 2), torch.nan), r"a row of the generated features has length nan, expected 1"),
    ],
)
def test_features_of_another_form_are_refused(features, message):
    with pytest.raises(DataError, match=message):
        judge(features, [2], at_angles(0, 90), [2, 42], FilterConfig())
