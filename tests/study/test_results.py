import math
import statistics

import pytest
from result_cases import result

from reid_aug.errors import DataError, OutputError
from reid_aug.study.results import Cell, Results, summarise, versions


def test_what_is_appended_is_there_when_opened_again(tmp_path):
    path = tmp_path / "study" / "results.jsonl"
    written = [result(seed=seed, rank1=50.0 + seed / 3) for seed in range(3)]
    results = Results(path)
    for one in written:
        results.append(one)
    assert list(Results(path)) == written == list(results)
    assert len(path.read_text().splitlines()) == 3
    assert Results(path)[1] == written[1]


@pytest.mark.parametrize(
    "change",
    [
        {"fraction": 0.4},
        {"arm": "warp"},
        {"generator": "other"},
        {"schedule": "finetune"},
        {"seed": 9},
        {"iterations": 200},
        {"backbone": "resnet50"},
        {"start": "w.pth"},
        {"image_size": (256, 128)},
        {"data_set": "m"},
    ],
)
def test_a_cell_is_known_by_everything_that_identifies_it(tmp_path, change):
    results = Results(tmp_path / "results.jsonl")
    results.append(result())
    assert results.has(result(rank1=10.0, seconds=1.0).cell)  # what came out does not identify a cell
    assert not results.has(result(**change).cell)


def test_a_cell_is_not_recorded_twice(tmp_path):
    path = tmp_path / "results.jsonl"
    results = Results(path)
    results.append(result())
    with pytest.raises(OutputError, match=r"results\.jsonl: already holds Cell\(.*Remove its line"):
        results.append(result(rank1=60.0))
    path.write_text(path.read_text() * 2)
    with pytest.raises(DataError, match=r"results\.jsonl, line 2: the cell of an earlier line again\. Remove one"):
        Results(path)


def test_a_line_torn_anywhere_is_removed_and_the_rest_kept(tmp_path):
    path = tmp_path / "results.jsonl"
    results = Results(path)
    results.append(result(seed=0))
    kept = path.read_bytes()
    results.append(result(seed=1))
    whole = path.read_bytes()
    for end in range(len(kept), len(whole)):
        path.write_bytes(whole[:end])
        reopened = Results(path)
        assert [one.seed for one in reopened] == [0]
        assert path.read_bytes() == kept
    reopened.append(result(seed=1))
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "broken, field",
    [
        ('{"data_set": "toy"', "line"),
        ('{"data_set": "toy"}', "fraction"),
        ("[1, 2]", "line"),
        (result().model_dump_json().replace('"rank1":50.0', '"rank1":150.0'), "rank1"),
        (result().model_dump_json().replace('"mAP":30.0', '"mAP":NaN'), "mAP"),
        (result().model_dump_json().replace('"seed":0', '"sead":0'), "seed"),
    ],
)
def test_a_broken_line_is_named(tmp_path, broken, field):
    path = tmp_path / "results.jsonl"
    path.write_text(result(seed=5).model_dump_json() + "\n" + broken + "\n" + result(seed=6).model_dump_json() + "\n")
    before = path.read_bytes()
    with pytest.raises(DataError, match=rf"results\.jsonl, line 2: `{field}`: .* Correct or remove the line"):
        Results(path)
    assert path.read_bytes() == before


def test_summary_recomputed_naively():
    standard = {0: (55.0, 33.0), 1: (56.5, 32.0), 2: (54.0, 34.5)}
    augmented = {0: (57.0, 34.0), 2: (55.0, 35.0), 1: (58.0, 33.5), 7: (99.0, 99.0)}  # seed 7 has no partner
    results = [result("standard", seed, *scores) for seed, scores in standard.items()]
    results += [result("augmented", seed, *scores) for seed, scores in augmented.items()]
    base, row = summarise(results)
    assert base.rank1_difference is None and base.mAP_difference is None
    assert base.rank1.mean == pytest.approx(statistics.mean([55.0, 56.5, 54.0]))
    assert base.rank1.std == pytest.approx(statistics.stdev([55.0, 56.5, 54.0]))
    assert row.mAP.mean == pytest.approx(statistics.mean([34.0, 35.0, 33.5, 99.0]))
    differences = [2.0, 1.5, 1.0]
    found = row.rank1_difference
    half = 4.302652729911275 * statistics.stdev(differences) / math.sqrt(3)  # t table: 97.5 %, 2 degrees of freedom
    assert found.pairs == 3
    assert found.mean == pytest.approx(1.5)
    assert found.std == pytest.approx(statistics.stdev(differences))
    assert found.interval == pytest.approx((1.5 - half, 1.5 + half))
    assert found.verdict == "gain"
    assert row.mAP_difference.mean == pytest.approx((1.0 + 1.5 + 0.5) / 3)


@pytest.mark.parametrize(
    "scores, verdict",
    [((51.0,), "unknown"), ((51.0, 49.0), "noise"), ((52.0, 52.1), "gain"), ((48.0, 48.1), "loss")],
)
def test_verdict(scores, verdict):
    results = [result("standard", seed) for seed in range(2)]
    results += [result("warp", seed, rank1) for seed, rank1 in enumerate(scores)]
    assert summarise(results)[1].rank1_difference.verdict == verdict


def test_arms_are_compared_only_where_all_else_is_equal():
    results = [
        result("standard", iterations=200),
        result("standard", start="w.pth"),
        result("standard", image_size=(256, 128)),
        result("standard", fraction=0.4),
        result("warp"),
    ]
    (row,) = [row for row in summarise(results) if row.cell.arm == "warp"]
    assert row.rank1_difference is None


def test_rows_are_ordered_by_setting_and_fraction():
    results = [
        result("standard", fraction=0.4),
        result("standard", iterations=200),
        result("warp", fraction=0.2),
        result("standard", fraction=0.2),
    ]
    rows = summarise(results)
    assert [(row.cell.iterations, row.cell.fraction, row.cell.arm) for row in rows] == [
        (100, 0.2, "warp"),
        (100, 0.2, "standard"),
        (100, 0.4, "standard"),
        (200, 0.2, "standard"),
    ]


def test_two_generators_of_one_arm_stay_apart():
    results = [result("standard")]
    results += [result("augmented", generator=name, rank1=rank1) for name, rank1 in (("full", 60.0), ("strict", 52.0))]
    assert [(row.label, row.rank1.mean) for row in summarise(results)] == [
        ("standard", 50.0),
        ("augmented (full)", 60.0),
        ("augmented (strict)", 52.0),
    ]


def test_versions_name_what_ran():
    import torch

    found = versions()
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert set(found) == {"python", "reid-aug", "torch", "diffusers"}


def test_cell_rejects_an_impossible_fraction():
    with pytest.raises(ValueError, match="fraction"):
        Cell(**{**result().cell.model_dump(), "fraction": 1.5})
