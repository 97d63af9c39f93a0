from __future__ import annotations

from rich.console import Console

from reid_aug.reid.evaluate import Scores
from reid_aug.study.bench import bench_drawing, bench_warp
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


def test_the_speed_of_warp_and_drawing_is_images_by_seconds():
    for facts in (bench_warp(batch_size=2, batches=2), bench_drawing(identities=2)):
        assert facts["images"] > 0
        assert abs(facts["images_per_second"] * facts["seconds"] - facts["images"]) < 1e-6
        text = printed(facts_table("On this machine", facts))
        assert "On this machine" in text and f"{facts['images_per_second']:.4g}" in text
