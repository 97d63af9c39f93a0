"""Registering real and generated images with torchreid, and what is met before torchreid sees it."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_market import TEST_PIDS, TRAIN_PIDS, write_images, write_store

from reid_aug.data.market1501 import Market1501, load_market1501
from reid_aug.data.subsets import take_fraction
from reid_aug.errors import ConfigError, DataError
from reid_aug.integrations.torchreid import _check_evaluation, register
from reid_aug.records import Sample, Samples
from reid_aug.torchreid_library import import_torchreid

torchreid = import_torchreid()


def test_real_and_generated_share_labels_cameras_and_marks(datamanager, market, store):
    manager = datamanager()
    expected = set()
    for dsetid, files in enumerate(
        [market / "bounding_box_train", store.folder / "bounding_box_train"]  # the store keeps rejected images apart
    ):
        for path in files.iterdir():
            expected.add((str(path), TRAIN_PIDS.index(int(path.name[:4])), int(path.name[6]) - 1, dsetid))
    items = manager.train_loader.dataset.train
    assert len(items) == len(expected) == 30 + 16
    assert set(items) == expected
    assert manager.num_train_pids == len(TRAIN_PIDS)
    assert manager.num_train_cams == 3


def test_query_and_gallery_are_the_real_ones(datamanager, market):
    dataset = datamanager().train_loader.dataset
    for items, folder in [(dataset.query, "query"), (dataset.gallery, "bounding_box_test")]:
        files = sorted((market / folder).iterdir())
        assert items == [(str(path), int(path.name[:4]), int(path.name[6]) - 1, 0) for path in files]


def test_a_batch_tells_generated_images_by_dsetid(datamanager, store):
    generated = {str(store.path(image)) for image in store.images}
    for batch in datamanager().train_loader:
        assert batch["img"].shape == (8, 3, 32, 16)
        assert [path in generated for path in batch["impath"]] == (batch["dsetid"] == 1).tolist()


def test_torchreids_own_sampler_makes_half_and_half(datamanager):
    batches = list(datamanager(train_sampler="RandomDatasetSampler", num_datasets=2).train_loader)
    assert batches and all((batch["dsetid"] == 1).sum() == 4 for batch in batches)


def test_summary_says_how_many_are_generated(datamanager, capsys):
    datamanager()
    assert "16 are generated and 30 are real" in capsys.readouterr().out


@pytest.mark.parametrize("verdicts, count", [(("keep",), 8), (("keep", "reject"), 16), (("unfiltered",), 8)])
def test_verdicts_choose_generated_images(market, store, tmp_path, verdicts, count):
    name = register(f"verdicts_{tmp_path.name}", market, store.folder, verdicts=verdicts)
    items = torchreid.data.ImageDataManager(sources=name, workers=0).train_loader.dataset.train
    allowed = {str(store.path(image)) for image in store.images if image.verdict in verdicts}
    assert {path for path, *_, dsetid in items if dsetid == 1} == allowed
    assert len(allowed) == count


def test_a_fraction_without_store_is_the_baseline(market, tmp_path):
    name = register(f"fraction_{tmp_path.name}", market, None, fraction=0.4, seed=3)
    items = torchreid.data.ImageDataManager(sources=name, batch_size_train=4, workers=0).train_loader.dataset.train
    subset = take_fraction(load_market1501(market).train, 0.4, seed=3)
    assert [path for path, *_ in items] == [str(sample.path) for sample in subset]
    assert len(items) == 12 and {dsetid for *_, dsetid in items} == {0}


def test_combineall_adds_the_gallery_without_its_distractors(datamanager):
    manager = datamanager(combineall=True)
    assert manager.num_train_pids == len(TRAIN_PIDS) + len(TEST_PIDS)
    assert len(manager.train_loader.dataset.train) == 46 + 6 + 54


def test_the_data_set_can_be_sent_to_spawned_workers(datamanager):
    dataset = datamanager().train_loader.dataset
    assert pickle.loads(pickle.dumps(dataset)).train == dataset.train


def test_the_stores_folder_is_a_plain_market1501_training_set(market, store, tmp_path):
    """No code of this package between the files and torchreid's own reader."""
    root = tmp_path / "reid-data" / "market1501" / "Market-1501-v15.09.15"
    shutil.copytree(store.folder, root)
    for folder in ("query", "bounding_box_test"):
        shutil.copytree(market / folder, root / folder)
    manager = torchreid.data.ImageDataManager(
        root=str(tmp_path / "reid-data"), sources="market1501", height=32, width=16, batch_size_train=4, workers=0
    )
    accepted = {image.name: image for image in store.images if image.verdict != "reject"}
    items = manager.train_loader.dataset.train
    assert sorted(Path(path).name for path, *_ in items) == sorted(accepted)
    assert all(accepted[Path(path).name].camid == camid + 1 for path, _, camid, _ in items)
    label_of = {accepted[Path(path).name].pid: label for path, label, *_ in items}
    assert all(label_of[accepted[Path(path).name].pid] == label for path, label, *_ in items)
    assert sorted(label_of.values()) == [0, 1, 2, 3]
    assert next(iter(manager.train_loader))["img"].shape == (4, 3, 32, 16)


# --- met before torchreid sees it ---------------------------------------------------------------------------------


@pytest.mark.parametrize("taken", ["market1501", None])
def test_a_taken_name_is_refused_with_a_remedy(market, tmp_path, taken):
    name = taken or register(f"twice_{tmp_path.name}", market, None)
    with pytest.raises(ConfigError, match=rf"name '{name}'.*already.*another name, e.g. '{name}_2'"):
        register(name, market, None)


@pytest.mark.parametrize("folder", ["bounding_box_train", "query", "bounding_box_test", "store"])
def test_an_image_torchreid_would_retry_for_ever(market, store, tmp_path, folder):
    root = store.folder / "bounding_box_train" if folder == "store" else market / folder
    broken = sorted(root.iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(DataError, match=rf"{broken}: cannot be decoded \(1 such.*Restore or delete"):
        register(f"broken_{tmp_path.name}", market, store)


def test_an_empty_query_is_refused(market, tmp_path):
    for path in (market / "query").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"query: holds no"):
        register(f"query_{tmp_path.name}", market, None)


def test_a_store_of_other_real_images_is_refused(market, store, tmp_path):
    """Its images would bring what is outside the fraction into the training."""
    with pytest.raises(DataError, match=r"manifest.jsonl: \d+ of 16 images .*Give the data, fraction and seed"):
        register(f"leak_{tmp_path.name}", market, store, fraction=0.4)
    subset = take_fraction(load_market1501(market).train, 0.4, seed=0)
    fitting = write_store(tmp_path / "fitting", [sample.name for sample in subset])
    assert register(f"fitting_{tmp_path.name}", market, fitting, fraction=0.4)


def test_no_image_of_the_verdicts(market, store, tmp_path):
    with pytest.raises(DataError, match=r"store: no image has a verdict of \('kept',\); it holds {'keep': 8"):
        register(f"verdict_{tmp_path.name}", market, store, verdicts=("kept",))


def test_a_small_gallery_is_refused_and_shorter_ranks_are_the_remedy(market, tmp_path):
    shutil.rmtree(market / "bounding_box_test")
    write_images(market / "bounding_box_test", TEST_PIDS, per_camera=1, cameras=(1, 2))
    with pytest.raises(DataError, match=r"bounding_box_test: 12 images give CMC curves of 11 ranks.*Rank-20.*ranks"):
        register(f"small_{tmp_path.name}", market, None)
    assert register(f"small_{tmp_path.name}", market, None, ranks=(1, 5))


def test_curves_that_do_not_stack_are_refused(market, tmp_path):
    shutil.rmtree(market / "bounding_box_test")
    write_images(market / "bounding_box_test", TEST_PIDS, per_camera=2)
    write_images(market / "bounding_box_test", TEST_PIDS[:1], per_camera=4, cameras=(1,))  # 4 like one query, not 2
    with pytest.raises(DataError, match=r"with 38 images torchreid cannot stack.*from 34 to 36 ranks.*at least 54"):
        register(f"ragged_{tmp_path.name}", market, None)


def labelled(sizes, pids, cameras):
    """Samples of random identities and cameras."""

    def draw(arguments):
        size, seed, pids, cameras = arguments
        rng = np.random.default_rng(seed)
        return Samples(
            Sample(Path(f"{n}.jpg"), int(pid), int(camid))
            for n, (pid, camid) in enumerate(zip(rng.integers(0, pids, size), rng.integers(1, cameras + 1, size)))
        )

    return st.tuples(sizes, st.integers(0, 999), pids, cameras).map(draw)


@settings(max_examples=200, deadline=None)
@given(
    query=labelled(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    gallery=labelled(st.integers(1, 90), st.integers(1, 12), st.integers(1, 4)),
)
def test_evaluation_is_refused_exactly_where_torchreid_fails(query, gallery):
    market = Market1501(Path("root"), Samples([]), query, gallery)
    distances = np.random.default_rng(0).random((len(query), len(gallery)))
    try:
        cmc, _ = torchreid.metrics.evaluate_rank(
            distances, query.pids, gallery.pids, query.camids, gallery.camids, use_cython=False
        )
        printed = [cmc[rank - 1] for rank in (1, 5, 10, 20)]
    except (AssertionError, ValueError, IndexError):
        with pytest.raises(DataError):
            _check_evaluation(market, (1, 5, 10, 20))
    else:
        assert len(printed) == 4
        _check_evaluation(market, (1, 5, 10, 20))


def test_the_500k_distractors_are_not_silently_absent(datamanager):
    with pytest.raises(ConfigError, match=r"market1501_500k=True.*targets="):
        datamanager(market1501_500k=True)
