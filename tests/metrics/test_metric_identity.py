from dataclasses import dataclass

import pytest
import torch

from reid_aug.errors import DataError
from reid_aug.metrics.identity import identity_scores


@dataclass
class Ranked:
    rank1: float
    mAP: float


def evaluate(query, query_pids, query_camids, gallery, gallery_pids, gallery_camids):
    """The Market-1501 protocol as two loops."""
    hits, precisions = [], []
    for feature, pid, camid in zip(query, query_pids, query_camids):
        order = sorted(range(len(gallery)), key=lambda index: torch.dist(feature, gallery[index]).item())
        order = [index for index in order if (gallery_pids[index], gallery_camids[index]) != (pid, camid)]
        matches = [rank for rank, index in enumerate(order, start=1) if gallery_pids[index] == pid]
        hits.append(matches[0] == 1)
        precisions.append(sum(number / rank for number, rank in enumerate(matches, start=1)) / len(matches))
    return Ranked(100 * sum(hits) / len(hits), 100 * sum(precisions) / len(precisions))


# Identity 1 lies at x = 0, identity 2 at x = 10; camera 1 holds the sources, camera 2 other images of both.
GALLERY = (torch.tensor([[0.0], [1.0], [10.0], [11.0]]), [1, 1, 2, 2], [1, 2, 1, 2])
SOURCES = torch.tensor([[0.0], [10.0]])


def scores(generated):
    return identity_scores(torch.tensor(generated), SOURCES, [1, 2], [1, 1], GALLERY, evaluate)


def test_faithful_images_score_like_their_sources():
    found = scores([[0.1], [10.2]])
    assert (found.rank1, found.mAP, found.source_rank1, found.source_mAP, found.queries) == (100, 100, 100, 100, 2)


def test_an_image_that_drifted_to_another_person_misses():
    found = scores([[0.1], [0.2]])  # the second looks like identity 1: its match is last of three
    assert found.rank1 == 50.0
    assert found.mAP == pytest.approx((100 + 100 / 3) / 2)
    assert found.source_rank1 == 100.0


def test_the_source_itself_is_no_match():
    gallery = (torch.tensor([[0.0], [50.0], [3.0]]), [1, 1, 2], [1, 2, 2])
    found = identity_scores(torch.tensor([[0.0]]), torch.tensor([[0.0]]), [1], [1], gallery, evaluate)
    assert found.rank1 == 0.0  # were it one, a copy of the source would score 100


@pytest.mark.parametrize("pids, camids", [([1], [1, 1]), ([1, 2], [1]), ([], [])])
def test_labels_that_do_not_fit_are_named(pids, camids):
    with pytest.raises(DataError, match=r"identity: .*'pids'.* Give one of each for every generated image"):
        identity_scores(SOURCES, SOURCES, pids, camids, GALLERY, evaluate)
