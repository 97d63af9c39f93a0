"""The table of a study's results as text, for the report, the terminal and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reid_aug.study.results import Difference, Row, Spread

if TYPE_CHECKING:
    from rich.table import Table


def columns(rows: Sequence[Row]) -> list[str]:
    """Headings of the table of ``rows``; the setting is a column only where there is more than one."""
    setting = ["Setting"] if len({row.setting for row in rows}) > 1 else []
    baseline = rows[0].baseline if rows else "standard"
    return [*setting, "Fraction", "Arm", "Seeds", "Rank-1", "mAP", f"Rank-1 − {baseline}", f"mAP − {baseline}"]


def entries(rows: Sequence[Row]) -> list[list[str]]:
    """The table's text, row by row, under :func:`columns`."""
    several = len({row.setting for row in rows}) > 1
    return [
        [
            *([row.setting] if several else []),
            f"{100 * row.cell.fraction:g} %",
            row.label,
            str(len(row.results)),
            _text(row.rank1),
            _text(row.mAP),
            _text(row.rank1_difference, "+"),
            _text(row.mAP_difference, "+"),
        ]
        for row in rows
    ]


def table(rows: Sequence[Row]) -> Table:
    """For the terminal: mean ± standard deviation, paired difference ± its own [95 % interval]."""
    from rich.table import Table

    drawn = Table(title=rows[0].setting if len({row.setting for row in rows}) == 1 else None)
    for heading in columns(rows):
        drawn.add_column(heading, justify="left" if heading in ("Setting", "Arm") else "right")
    for texts in entries(rows):
        drawn.add_row(*(text.replace("[", r"\[") for text in texts))  # "[" would start rich's markup
    return drawn


def markdown(headings: Sequence[str], entries: Sequence[Sequence[str]]) -> str:
    """Any table's text in Markdown."""
    lines = [headings, ["---"] * len(headings), *entries]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _text(spread: Spread | None, sign: str = "") -> str:
    if spread is None:
        return ""
    text = f"{spread.mean:{sign}.1f}"
    if spread.std is not None:
        text += f" ± {spread.std:.1f}"
    if isinstance(spread, Difference) and spread.interval is not None:
        text += f" [{spread.interval[0]:+.1f}, {spread.interval[1]:+.1f}]"
    return text
