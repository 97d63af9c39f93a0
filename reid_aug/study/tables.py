"""Small tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from reid_aug.reid.evaluate import Scores

if TYPE_CHECKING:
    from rich.table import Table

    from reid_aug.study.evaluate_generator import GeneratorScores


def scores_table(rows: Mapping[str, Scores]) -> Table:
    """Scores by name: Rank-1, 5, 10, mAP and mINP in percent."""
    from rich.table import Table

    drawn = Table()
    for heading in ("Data set, distance", "Rank-1", "Rank-5", "Rank-10", "mAP", "mINP", "Queries"):
        drawn.add_column(heading, justify="left" if heading == "Data set, distance" else "right")
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
    """A row for each generator; a measure whose network none of them was given has no column.

    Rank-1 and mAP stand over those of the real sources, which are the mark to reach.
    """
    columns: dict[str, Callable[[GeneratorScores], str | None]] = {
        "Generator": lambda row: row.generator,
        "Steps": lambda row: str(row.steps),
        "Pairs": lambda row: f"{row.pairs:,}",
        "SSIM": lambda row: _number(row.ssim, 4),
        "SSIM-51": lambda row: _number(row.ssim_uniform, 4),
        "PSNR": lambda row: _number(row.psnr, 2),
        "M-SSIM": lambda row: _number(row.masked_ssim, 4),
        "M-PSNR": lambda row: _number(row.masked_psnr, 2),
        "LPIPS": lambda row: _number(row.lpips, 4),
        "FID": lambda row: _number(row.fid, 2),
        "Rank-1": lambda row: row.judge and f"{row.rank1:.1f}/{row.source_rank1:.1f}",
        "mAP": lambda row: row.judge and f"{row.mAP:.1f}/{row.source_mAP:.1f}",
        "Pose": lambda row: _number(row.pose, 3),
        "s": lambda row: _number(row.seconds / row.pairs, 3),
    }
    caption = (
        "SSIM: Gaussian window of 11 pixels; SSIM-51: uniform. M-: on the person. Rank-1, mAP: generated images as "
        "queries; after the slash, their real sources. s: seconds an image."
    )
    return _columns_table(columns, rows, caption)


def costs_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Cost of each system, as ``bench_generators`` measured it."""
    batch = rows[0]["batch_size"]
    columns: dict[str, Callable[[Mapping[str, Any]], str | None]] = {
        "Configuration": lambda row: row["config"],
        "M params": lambda row: _number(row["parameters_million"], 1),
        "trained": lambda row: _number(row["trained_million"], 1),
        "paper's": lambda row: _number(row["published_million"], 1),
        "GFLOPs/step": lambda row: _number(row["gflops_a_step"], 2),
        "steps": lambda row: str(row["steps"]),
        "passes": lambda row: str(row["passes"]),
        "1: s": lambda row: _seconds(row, "one_image"),
        "1: MB": lambda row: _number(row["peak_mb_one_image"], 0),
        f"{batch}: s": lambda row: _seconds(row, "batch"),
        f"{batch}: MB": lambda row: _number(row["peak_mb_batch"], 0),
    }
    caption = "GFLOPs: one image, all guidance passes. 1, N: images in a call. MB: model and call at the highest point."
    return _columns_table(columns, rows, caption + _extrapolated(rows))


def comparisons_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """What two designs save: three poses of one person in one call, and PoCoLD's sparse attention."""
    columns: dict[str, Callable[[Mapping[str, Any]], str | None]] = {
        "Configuration": lambda row: row["config"],
        "3 poses, 1 call: s": lambda row: _seconds(row, "three_poses"),
        "3 calls: s": lambda row: _seconds(row, "three_calls"),
        "sparse: MB": lambda row: "peak_mb_dense_batch" in row and _number(row["peak_mb_batch"], 0),
        "dense: MB": lambda row: _number(row.get("peak_mb_dense_batch"), 0),
        "sparse: s": lambda row: "peak_mb_dense_batch" in row and _seconds(row, "batch"),
        "dense: s": lambda row: "peak_mb_dense_batch" in row and _seconds(row, "dense_batch"),
    }
    caption = f"sparse, dense: PoCoLD's attention in a call for {rows[0]['batch_size']} images."
    return _columns_table(columns, rows, caption + _extrapolated(rows))


def _columns_table(columns: Mapping[str, Callable[[Any], str | None]], rows: Sequence[Any], caption: str) -> Table:
    """A row of text for each of ``rows``; "-" for what it lacks, no column for what all lack."""
    from rich.box import SIMPLE
    from rich.table import Table

    drawn = Table(box=SIMPLE, caption=caption)
    texts = {heading: [text(row) or None for row in rows] for heading, text in columns.items()}
    texts = {heading: column for heading, column in texts.items() if any(column)}
    for number, heading in enumerate(texts):
        drawn.add_column(heading, justify="right" if number else "left")
    for row in zip(*texts.values()):
        drawn.add_row(*(text or "-" for text in row))
    return drawn


def _number(value: float | None, decimals: int) -> str | None:
    return None if value is None else f"{value:.{decimals}f}"


def _seconds(row: Mapping[str, Any], name: str) -> str:
    value = row[f"seconds_{name}"]
    return ("~" if row["measured_steps"] < row["steps"] else "") + format(value, ",.0f" if value >= 100 else ".3g")


def _extrapolated(rows: Sequence[Mapping[str, Any]]) -> str:
    measured = sorted({row["measured_steps"] for row in rows if row["measured_steps"] < row["steps"]})
    return f" ~: extrapolated from {', '.join(map(str, measured))} steps to all." if measured else ""
