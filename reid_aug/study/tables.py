"""Small tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reid_aug.reid.evaluate import Scores

if TYPE_CHECKING:
    from rich.table import Table


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
