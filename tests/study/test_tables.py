from __future__ import annotations

from itertools import count
from types import SimpleNamespace

from rich.console import Console

from reid_aug.reid.evaluate import Scores
from reid_aug.study import bench
from reid_aug.study.tables import facts_table, scores_table


def printed(table) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_scores_have_one_decimal_and_their_own_column():
    scores = Scores(rank1=12.34, rank5=23.45, rank10=34.56, mAP=45.67, mINP=56.78, queries=3368)
    text = printed(scores_table({"cosine": scores, "re-ranked": scores}))
    for name in ("cosine", "re-ranked"):
        (line,) = [line for line in text.splitlines() if name in line]
        assert [cell.strip() for cell in line.strip("│ ").split("│")] == [
            name, "12.3", "23.4", "34.6", "45.7", "56.8", "3,368",
        ]  # fmt: skip


def test_the_speed_of_warp_and_drawing_is_images_by_seconds(monkeypatch):
    """By a clock that goes on by two seconds at every look."""
    clock = count(step=2)
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    warp, drawing = bench.bench_warp(batch_size=2, batches=3), bench.bench_drawing(identities=2)
    assert (warp["images"], warp["seconds"], warp["images_per_second"]) == (6, 2, 3.0)
    assert drawing["images"] > 20 and drawing["images_per_second"] == drawing["images"] / 2
    for facts in (warp, drawing):
        text = printed(facts_table("On this machine", facts))
        assert "On this machine" in text and f"{facts['images_per_second']:.4g}" in text
