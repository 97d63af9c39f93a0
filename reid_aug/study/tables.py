"""Small tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reid_aug.reid.evaluate import Scores

if TYPE_CHECKING:
    from rich.table import Table

    from reid_aug.study.evaluate_generator import GeneratorScores


def scores_table(rows: Mapping[str, Scores]) -> Table:
    """Scores by name: Rank-1, 5, 10, mAP and mINP in percent."""
    from rich.table import Table

    drawn = Table()
    for heading in ("Distance", "Rank-1", "Rank-5", "Rank-10", "mAP", "mINP", "Queries"):
        drawn.add_column(heading, justify="left" if heading == "Distance" else "right")
    for name, scores in rows.items():
        values = (scores.rank1, scores.rank5, scores.rank10, scores.mAP, scores.mINP)
        drawn.add_row(name, *(f"{value:.1f}" for value in values), f"{scores.queries:,}")
    return drawn


def facts_table(title: str, facts: Mapping[str, Any]) -> Table:
    """Names and values, numbers with four significant digits."""
    from rich.table import Table

    drawn = Table(title=title, show_header=False)
    for name, value in facts.items():
        drawn.add_row(name.replace("_", " "), f"{value:.4g}" if isinstance(value, float) else str(value))
    return drawn


def generator_table(rows: Sequence[GeneratorScores]) -> Table:
    """A row for each generator; "-" where a measure's network was not given.

    Rank-1 and mAP stand over those of the real sources, which are the mark to reach.
    """
    from rich.table import Table

    drawn = Table(caption="Rank-1 and mAP: of the generated queries / of their real sources. s: seconds an image.")
    scores = ("SSIM", "PSNR", "mask-SSIM", "mask-PSNR", "LPIPS", "FID", "Rank-1", "mAP", "Pose")
    for heading in ("Generator", "Steps", "Pairs", *scores, "s"):
        drawn.add_column(heading, justify="left" if heading == "Generator" else "right")
    for row in rows:
        ranking = ["-", "-"]
        if row.judge is not None:
            ranking = [f"{row.rank1:.1f} / {row.source_rank1:.1f}", f"{row.mAP:.1f} / {row.source_mAP:.1f}"]
        drawn.add_row(
            row.generator, str(row.steps), f"{row.pairs:,}", _number(row.ssim, 4), _number(row.psnr, 2),
            _number(row.masked_ssim, 4), _number(row.masked_psnr, 2), _number(row.lpips, 4), _number(row.fid, 2),
            *ranking, _number(row.pose, 3), _number(row.seconds / row.pairs, 3),
        )  # fmt: skip
    return drawn


def _number(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
