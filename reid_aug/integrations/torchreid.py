"""Generated images in torchreid: one registered data set, a mixing loader, and readable checkpoints.

    from reid_aug.integrations.torchreid import register
    datamanager = torchreid.data.ImageDataManager(sources=register("market1501_aug", real_root, store), ...)

Written against what PyPI's torchreid 0.2.5 and upstream's 1.4.0 share: attributes of ``import torchreid``, since their
import paths differ. ``docs/torchreid.md`` shows whole scripts.
"""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from reid_aug.augment.store import Store
from reid_aug.data.images import find_undecodable
from reid_aug.data.market1501 import Market1501, load_market1501
from reid_aug.data.subsets import take_fraction
from reid_aug.errors import CheckpointError, ConfigError, DataError
from reid_aug.integrations.torchreid_sampler import REAL, SYNTHETIC, Item, MixingSampler
from reid_aug.records import Samples, Schedule
from reid_aug.torchreid_library import import_torchreid, load_tensors

if TYPE_CHECKING:
    import torchreid

CMC_RANKS = 50  # torchreid's evaluate_rank(max_rank=50), which its engines do not let one change


def register(
    name: str,
    real_root: str | Path,
    store: Store | str | Path | None,
    fraction: float = 1.0,
    seed: int = 0,
    verdicts: Sequence[str] = ("keep", "unfiltered"),
    ranks: Sequence[int] = (1, 5, 10, 20),
) -> str:
    """Register a data set of real and generated images under shared identities; use the name as ``sources``.

    Real images are ``dsetid`` 0 and generated ones 1; labels run from 0, cameras too (as torchreid counts them); query
    and gallery are the real ones. Everything torchreid fails on later, or waits on for ever, is looked for here, so
    every image is decoded once.

    Args:
        name: a name torchreid does not know yet.
        real_root: the folder that holds ``bounding_box_train``, ``query`` and ``bounding_box_test``.
        store: a generated set or its folder; None for the real images alone, the baseline of the same fraction.
        fraction, seed: of the real training set, as in ``take_fraction``; those the store was generated from.
        verdicts: which generated images take part.
        ranks: those that will be passed to ``engine.run(ranks=...)``; the default is torchreid's.

    Returns:
        ``name``.

    Raises:
        ConfigError: the name is taken.
        DataError: an image that cannot be decoded, a store of other real images or without an image of ``verdicts``,
            or a query and gallery that torchreid cannot evaluate.
        MissingDependencyError: torchreid, or a package it does not declare, is not installed.
    """
    library = import_torchreid()
    from reid_aug.integrations.torchreid_dataset import AugmentedMarket

    market = load_market1501(real_root, keypoints=())  # poses are not needed, so their files are not read
    _check_evaluation(market, ranks)
    real = take_fraction(market.train, fraction, seed)
    synthetic = Samples([])
    if store is not None:
        store = store if isinstance(store, Store) else Store.open(store)
        store.check_origin(real, verdicts)
        store.warn_unjudged()
        synthetic = store.samples(verdicts)
        if not synthetic:
            held = dict(Counter(image.verdict for image in store.images))
            raise DataError(
                f"{store.folder}: no image has a verdict of {tuple(verdicts)}; it holds {held}. Name others."
            )
    _check_images(real + synthetic + market.query + market.gallery)

    label = {pid: number for number, pid in enumerate(sorted(set(real.pids.tolist())))}
    train = _items(real, REAL, label) + _items(synthetic, SYNTHETIC, label)
    data_set = partial(AugmentedMarket, train, _items(market.query, REAL), _items(market.gallery, REAL))
    try:
        library.data.register_image_dataset(name, data_set)
    except ValueError:
        raise ConfigError(
            f"name {name!r}: torchreid already has a data set of this name and cannot forget one. Register under "
            f"another name, e.g. {name + '_2'!r}, or start Python (the notebook's kernel) again."
        ) from None
    return name


def mixing_loader(
    datamanager: torchreid.data.ImageDataManager, schedule: Schedule, identities: int = 16, seed: int = 0
) -> DataLoader:
    """A training loader of P x K batches mixed as ``schedule`` says, in place of the data manager's own:

        datamanager.train_loader = mixing_loader(datamanager, lambda iteration: Mix(real=3, synthetic=1))

    A batch is ``identities`` (P) times the mix's images of each (K), whatever ``batch_size_train`` is; that keeps
    defining the length of an epoch (:func:`epoch_length`). The scheduled engines of ``integrations.torchreid_engine``
    make this loader themselves, and follow the schedule's weights, smoothing and ``in_triplet`` as well.

    Raises:
        ConfigError: the data manager's only source is not a data set of :func:`register`, or it has fewer than
            ``identities`` identities.
    """
    loader = datamanager.train_loader
    return DataLoader(
        loader.dataset,
        batch_sampler=MixingSampler(_train_items(datamanager), schedule, identities, epoch_length(datamanager), seed),
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
    )


def epoch_length(datamanager: torchreid.data.ImageDataManager) -> int:
    """Iterations of an epoch of :func:`mixing_loader`: the *real* images over ``batch_size_train``, at least 1.

    Generated images do not count, so that runs with and without them train equally long in equally many epochs.
    """
    batches = datamanager.train_loader.batch_sampler
    if isinstance(batches, MixingSampler):  # of a mixing loader, which has its place already
        return batches.batches
    real = sum(dsetid == REAL for *_, dsetid in _train_items(datamanager))
    return max(1, real // datamanager.train_loader.batch_size)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of torchreid's engines, on the CPU: ``state_dict``, ``epoch``, ``rank1``, ``optimizer``, ...

    torchreid's own ``load_checkpoint`` fails from torch 2.6 on, because the checkpoint holds Rank-1 as a numpy scalar
    (upstream issue 592). This one allows that scalar and nothing more: no code in the file is run. The path can also be
    a re-ID model's start weights, ``model.weights``.

    Raises:
        CheckpointError: no such file, or not such a checkpoint.
    """
    try:
        return load_tensors(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}). Name a model.pth.tar-* file.") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        raise CheckpointError(
            f"{path}: is damaged or not a checkpoint of torchreid's engines. Name another model.pth.tar-* file."
        ) from None


def _items(samples: Samples, dsetid: int, label: dict[int, int] | None = None) -> list[Item]:
    """torchreid's tuples: path, pid (``label`` of it), camera from 0, data set."""
    return [
        (str(sample.path), sample.pid if label is None else label[sample.pid], sample.camid - 1, dsetid)
        for sample in samples
    ]


def _train_items(datamanager: torchreid.data.ImageDataManager) -> list[Item]:
    """The training tuples, if they are those of one registered data set and of no other.

    torchreid shifts labels and ``dsetid`` of a second source, which then says no longer what is generated.
    """
    from reid_aug.integrations.torchreid_dataset import AugmentedMarket

    if not isinstance(datamanager.train_loader.dataset, AugmentedMarket):
        raise ConfigError(
            f"sources={list(datamanager.sources)}: mixing needs a single source that register() made. Pass "
            'sources=register("market1501_aug", ...) to the data manager.'
        )
    return datamanager.train_loader.dataset.train


# --- what torchreid does not check --------------------------------------------------------------------------------


def _check_images(samples: Samples) -> None:
    broken = find_undecodable(samples)
    if broken:
        shown = ", ".join(str(path) for path in broken[:3])
        raise DataError(
            f"{shown}: cannot be decoded ({len(broken)} such images in all). torchreid would read them again for ever. "
            "Restore or delete them."
        )


def _check_evaluation(market: Market1501, ranks: Sequence[int]) -> None:
    """torchreid's evaluation works on this query and gallery.

    Its ``evaluate_rank`` cuts the CMC curve of each query at 50 ranks and stacks the curves. Without the images of the
    query's own identity and camera a small gallery leaves curves of several lengths, which do not stack, or shorter
    than the ranks that the engine prints.
    """
    gallery = market.root / "bounding_box_test"
    of_pid = Counter(sample.pid for sample in market.gallery)
    of_camera = Counter((sample.pid, sample.camid) for sample in market.gallery)
    queries = [(sample.pid, sample.camid) for sample in market.query]
    answered = [query for query in queries if of_pid[query[0]] > of_camera[query]]
    if not answered:
        raise DataError(f"{gallery}: no query has a match from another camera. Check the file names of both folders.")
    removed = [of_camera[query] for query in answered]
    longest, shortest = (min(CMC_RANKS, len(market.gallery) - count) for count in (min(removed), max(removed)))
    if longest != shortest:
        raise DataError(
            f"{gallery}: with {len(market.gallery)} images torchreid cannot stack its CMC curves, which have from "
            f"{shortest} to {longest} ranks. Have at least {CMC_RANKS + max(removed)}, distractors (pid 0) included."
        )
    if max(ranks) > shortest:
        raise DataError(
            f"{gallery}: {len(market.gallery)} images give CMC curves of {shortest} ranks, and torchreid prints Rank-"
            f"{max(ranks)}. Add images, or pass the same shorter `ranks` to register() and to engine.run()."
        )
