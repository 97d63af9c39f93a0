"""osnet_x0_25 from scratch on 40 % of Market-1501, by reid-aug's trainer and by torchreid's engine; see README.md.

    python experiments/market1501_bot/run.py ours --data data/market --out runs/bot
    python experiments/market1501_bot/run.py torchreid --data data/market --out runs/bot
    python experiments/market1501_bot/run.py report --out runs/bot

A killed run goes on when it is started again: ours at its last checkpoint, torchreid's at the start of its epoch.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from reid_aug.config import ReidConfig, load_config
from reid_aug.data.images import Images
from reid_aug.data.market1501 import load_market1501
from reid_aug.data.subsets import take_fraction
from reid_aug.files import replacing, write_lines, write_text
from reid_aug.integrations.torchreid import register
from reid_aug.records import Mix
from reid_aug.reid.evaluate import Scores, evaluate
from reid_aug.reid.learner import learning_rate
from reid_aug.reid.model import build_model
from reid_aug.reid.training import train_reid
from reid_aug.study.evaluate_reid import Evaluation
from reid_aug.torchreid_library import import_torchreid

HERE = Path(__file__).parent
FRACTION, SEED = 0.4, 0
RUNS = {"ours": "reid-aug", "torchreid": "torchreid"}
WINDOW = 50  # iterations that a plotted loss is the mean of

torchreid = import_torchreid()


class Curve:
    """A line for each iteration (loss, seconds) and each scoring, in a file that a resumed run continues."""

    def __init__(self, path: Path):
        self.path = path
        self.lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        self._last: float | None = None

    def step(self, iteration: int, loss: float) -> None:
        """After an iteration, counted from 1."""
        now = time.perf_counter()
        if self.lines and self.lines[-1]["iteration"] >= iteration:  # resumed from before these
            self.lines = [line for line in self.lines if line["iteration"] < iteration]
            write_lines(self.path, map(json.dumps, self.lines))
        self._add(iteration, loss=loss, seconds=None if self._last is None else now - self._last)
        self._last = now

    def score(self, scores: Scores, **more: float) -> None:
        """Of the model after the last iteration; its time is not counted as training."""
        names = ("rank1", "rank5", "rank10", "mAP", "mINP")
        self._add(self.lines[-1]["iteration"], **{name: getattr(scores, name) for name in names}, **more)
        print(f"iteration {self.lines[-1]['iteration']}: {scores}", flush=True)
        self._last = time.perf_counter()

    def _add(self, iteration: int, **values: float | None) -> None:
        self.lines.append({"iteration": iteration, **values})
        with self.path.open("a") as file:
            file.write(json.dumps(self.lines[-1]) + "\n")


def recipe(iterations: int, evaluate_every: int) -> ReidConfig:
    """The shipped configuration at this length; torchreid's run takes its model, batch, rate and decay too."""
    lengths = [f"training.iterations={iterations}", f"training.evaluate_every={evaluate_every}"]
    settings = [*lengths, "training.checkpoint_every=100", f"training.seed={SEED}"]
    return load_config(ReidConfig, HERE.parents[1] / "configs" / "reid" / "osnet_x0_25.yaml", settings)


def run_ours(data: Path, out: Path, config: ReidConfig) -> None:
    market = load_market1501(data, keypoints=())
    train = take_fraction(market.train, FRACTION, SEED)
    evaluation = Evaluation(market, config.model.image_size)
    curve = Curve(out / "ours.jsonl")

    def score(model) -> dict[str, float]:
        scores = evaluation.scores(model)
        curve.score(scores)
        return {"rank1": scores.rank1, "mAP": scores.mAP}

    images = Images(train, config.model.image_size)
    mix = Mix(real=config.training.images)
    train_reid(train, images, lambda _: mix, config, out / "ours", evaluate=score, progress=curve.step)


class RecordedEngine(torchreid.engine.ImageTripletEngine):
    """torchreid's engine at the learning rate of our run (its schedulers step only once an epoch), recorded."""

    def __init__(self, datamanager, model, optimizer, config: ReidConfig, curve: Curve, **options):
        super().__init__(datamanager, model, optimizer, **options)
        self.settings, self.curve, self.iteration = config.training, curve, 0

    def forward_backward(self, data):
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.iteration, self.settings)
        losses = super().forward_backward(data)
        self.iteration += 1
        self.curve.step(self.iteration, losses["loss_t"] + losses["loss_x"])
        last = self.iteration == self.settings.iterations
        if last or self.iteration % self.settings.evaluate_every == 0:
            self.score(last)
        if last:
            raise Finished
        return losses

    def score(self, last: bool) -> None:
        """By our evaluation; at the end by torchreid's own code as well, on the same features."""
        self.set_model_mode("eval")
        loaders = self.test_loader[self.datamanager.sources[0]]
        query, gallery = self.features(loaders["query"]), self.features(loaders["gallery"])
        theirs = {}
        if last:
            (query_features, *query_labels), (gallery_features, *gallery_labels) = query, gallery
            distances = torchreid.metrics.compute_distance_matrix(query_features, gallery_features).numpy()
            labels = (query_labels[0], gallery_labels[0], query_labels[1], gallery_labels[1])
            cmc, mean_ap = torchreid.metrics.evaluate_rank(distances, *labels, use_cython=False)
            theirs = {"torchreid_rank1": 100 * float(cmc[0]), "torchreid_mAP": 100 * float(mean_ap)}
        self.curve.score(evaluate(*query, *gallery), **theirs)
        self.set_model_mode("train")

    @torch.no_grad()
    def features(self, loader) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
        """L2-normalised features, pids and camids of a test loader's images."""
        parts = []
        for data in loader:
            images, pids, camids = self.parse_data_for_eval(data)
            parts.append((self.extract_features(images.cuda() if self.use_gpu else images).cpu(), pids, camids))
        features, pids, camids = map(torch.cat, zip(*parts))
        return F.normalize(features), pids.numpy(), camids.numpy()


class Finished(Exception):
    """The last iteration, wherever in an epoch it falls."""


def run_torchreid(data: Path, out: Path, config: ReidConfig) -> None:
    settings, (height, width) = config.training, config.model.image_size
    use_gpu = torch.cuda.is_available()
    datamanager = torchreid.data.ImageDataManager(
        sources=register("market1501_bot", data, store=None, fraction=FRACTION, seed=SEED),
        height=height,
        width=width,
        transforms=["random_flip", "random_crop", "random_erase"],
        batch_size_train=settings.identities * settings.images,
        num_instances=settings.images,
        train_sampler="RandomIdentitySampler",
        use_gpu=use_gpu,
    )
    torch.manual_seed(SEED)
    model = torchreid.models.build_model(
        config.model.backbone, datamanager.num_train_pids, loss="triplet", pretrained=False, use_gpu=use_gpu
    )
    ours = build_model(config.model, datamanager.num_train_pids, SEED)
    model.load_state_dict(ours.backbone.state_dict(), strict=False)  # all but the classifier begins as in our run
    model = model.cuda() if use_gpu else model
    optimiser = torchreid.optim.build_optimizer(
        model, optim="adam", lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    engine = RecordedEngine(datamanager, model, optimiser, config, Curve(out / "torchreid.jsonl"), use_gpu=use_gpu)

    checkpoint, engine.epoch, engine.max_epoch = out / "torchreid.pt", 0, 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        engine.epoch, engine.iteration = state["epoch"], state["iteration"]
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
    try:
        while engine.iteration < settings.iterations:
            key = SEED + 1000 * engine.epoch  # torchreid draws from the global states
            random.seed(key), np.random.seed(key), torch.manual_seed(key)
            engine.train(print_freq=settings.iterations)
            engine.epoch += 1
            _save(checkpoint, engine)
    except Finished:
        _save(checkpoint, engine)


def _save(path: Path, engine: RecordedEngine) -> None:
    state = {"epoch": engine.epoch, "iteration": engine.iteration}
    with replacing(path) as temporary:
        modules = {"model": engine.model.state_dict(), "optimiser": engine.optimizer.state_dict()}
        torch.save({**state, **modules}, temporary)


def report(out: Path) -> None:
    """Write results.jsonl, table.md and curves.png beside this script."""
    results, losses = [], {}
    for run in RUNS:
        steps = [line for line in Curve(out / f"{run}.jsonl").lines if "loss" in line]
        scored = [line for line in Curve(out / f"{run}.jsonl").lines if "mAP" in line]
        means = [np.mean([step["loss"] for step in steps[i : i + WINDOW]]) for i in range(0, len(steps), WINDOW)]
        losses[run] = [min(i, len(steps)) for i in range(WINDOW, len(steps) + WINDOW, WINDOW)], means
        config = recipe(len(steps), len(steps))
        images = config.training.identities * config.training.images
        seconds = [step["seconds"] for step in steps if step["seconds"] is not None]
        common = {"run": run, "backbone": config.model.backbone, "fraction": FRACTION, "seed": SEED}
        common |= {"torch": torch.__version__, "images_per_second": images * len(seconds) / sum(seconds)}
        for line in scored:
            recent = [step["loss"] for step in steps[: line["iteration"]]][-WINDOW:]
            results.append(common | {"loss": float(np.mean(recent))} | line)
    write_lines(HERE / "results.jsonl", map(json.dumps, results))
    write_text(HERE / "table.md", _table(results))
    _plot(results, losses)


def _table(results: list[dict]) -> str:
    rows = ["| run | iterations | Rank-1 | Rank-5 | mAP | mINP | images a second |", "|---|---|---|---|---|---|---|"]
    last = {line["run"]: line for line in results}
    for run, line in last.items():
        scores = " | ".join(f"{line[name]:.1f}" for name in ("rank1", "rank5", "mAP", "mINP"))
        rows.append(f"| {RUNS[run]} | {line['iteration']:,} | {scores} | {line['images_per_second']:.0f} |")
    theirs = last["torchreid"]
    ratio = last["ours"]["images_per_second"] / theirs["images_per_second"]
    facts = [f"Training throughput, reid-aug over torchreid: {ratio:.2f}."]
    if "torchreid_mAP" in theirs:  # its last iteration
        difference = max(abs(theirs[name] - theirs[f"torchreid_{name}"]) for name in ("rank1", "mAP"))
        facts.append(
            f"torchreid's model by its own `evaluate_rank`: Rank-1 {theirs['torchreid_rank1']:.6f}, "
            f"mAP {theirs['torchreid_mAP']:.6f}; largest difference from reid-aug's evaluation {difference:.1e} points."
        )
    return "\n".join([*rows, "", *facts]) + "\n"


def _plot(results: list[dict], losses: dict[str, tuple[list[int], list[float]]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    for run, title in RUNS.items():
        lines = [line for line in results if line["run"] == run]
        axes[0].plot(*losses[run], label=title)
        for axis, name in zip(axes[1:], ("rank1", "mAP")):
            axis.plot([line["iteration"] for line in lines], [line[name] for line in lines], marker="o", label=title)
    labels = (f"training loss (mean of {WINDOW})", "Rank-1 on query and gallery, %", "mAP on query and gallery, %")
    for axis, label in zip(axes, labels):
        axis.set(xlabel="iteration", ylabel=label)
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(HERE / "curves.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["ours", "torchreid", "report"])
    parser.add_argument("--data", type=Path, help="Market-1501 folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of both runs")
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--evaluate-every", type=int, default=500)
    given = parser.parse_args()
    if given.command == "report":
        report(given.out)
        return
    if given.data is None or given.iterations % given.evaluate_every:
        parser.error("name --data, and iterations that --evaluate-every divides, so that the last is scored")
    given.out.mkdir(parents=True, exist_ok=True)
    run = {"ours": run_ours, "torchreid": run_torchreid}[given.command]
    run(given.data, given.out, recipe(given.iterations, given.evaluate_every))


if __name__ == "__main__":
    main()
