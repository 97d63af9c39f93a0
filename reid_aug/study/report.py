"""The report of a study: one HTML page that needs nothing but itself, with its table and plot beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from reid_aug.errors import DataError
from reid_aug.files import replacing, write_text
from reid_aug.study.results import Difference, Result, Row, summarise
from reid_aug.study.results_table import columns, entries, markdown

TEMPLATES = Path(__file__).parent / "templates"
# Okabe and Ito's colours, told apart by colour-blind readers and on light and dark paper; each arm has a marker too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C8C8C", "#B8A900")
MARKERS = "osD^vP*X"


@dataclass(frozen=True)
class Picture:
    """An image of the report with what it shows in words."""

    caption: str
    image: Image.Image


@dataclass(frozen=True)
class GeneratedSet:
    """Extra images of a fraction and seed, and what the identity filter made of them.

    Attributes:
        fraction, seed: of the subset.
        arms: that train on them.
        drawn: images.
        kept: of them, by the filter; None where it was not asked.
    """

    fraction: float
    seed: int
    arms: tuple[str, ...]
    drawn: int
    kept: int | None


def write_report(
    folder: str | Path,
    results: Iterable[Result],
    *,
    title: str,
    baselines: Sequence[str] = ("standard",),
    sheets: Sequence[Picture] = (),
    ranked: Sequence[Picture] = (),
    stages: Mapping[str, float] | None = None,
    generators: Mapping[str, str] | None = None,
    sets: Sequence[GeneratedSet] = (),
    settings: Mapping[str, str] | None = None,
    caveats: Sequence[str] = (),
) -> Path:
    """Write ``report.html``, ``results.md`` and ``curves-N.png`` (one a setting) into ``folder``; returns the page.

    Args:
        results: the cells to report.
        title: what was studied.
        baselines: arms to compare with, the first one in the headline, e.g. ("standard", "copies", "warp").
        sheets: generated images beside what they were made from.
        ranked: ranked lists of a few queries.
        stages: seconds of each stage, in order.
        generators: name -> the images it saw in training, in words, e.g. "strict: the 20 % subset alone".
        sets: of extra images, in order.
        settings: file name -> text of each resolved configuration.
        caveats: what the numbers are not.

    Raises:
        DataError: there is no result.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    results = list(results)
    if not results:
        raise DataError(f"{folder}: no results to report. Run at least one cell of the study first.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    summaries = {baseline: summarise(results, baseline) for baseline in baselines}
    first = summaries[baselines[0]]
    sections = [
        _section(
            [[row for row in summary if row.setting == setting] for summary in summaries.values()],
            folder / f"curves-{number}.png",
        )
        for number, setting in enumerate(dict.fromkeys(row.setting for row in first), start=1)
    ]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        title=title,
        headline=headline(first),
        sections=sections,
        sheets=[_embedded(picture) for picture in sheets],
        ranked=[_embedded(picture) for picture in ranked],
        stages={name: _duration(seconds) for name, seconds in (stages or {}).items()},
        generators=generators or {},
        sets={"columns": SET_COLUMNS, "rows": set_entries(sets)} if sets else None,
        settings=settings or {},
        caveats=caveats,
        versions=_versions(results),
        cells=len(results),
        computing=_duration(sum((stages or {}).values()) or sum(result.seconds for result in results)),
    )
    tables = [markdown(columns(summary), entries(summary)) for summary in summaries.values()]
    if sets:
        tables.append(markdown(SET_COLUMNS, set_entries(sets)))
    write_text(folder / "results.md", "\n".join(tables))
    write_text(folder / "report.html", page)
    return folder / "report.html"


def _section(tables: Sequence[Sequence[Row]], plot: Path) -> dict[str, Any]:
    """What the page shows of one setting, a table for each baseline; the plot is written to ``plot`` too."""
    rows = tables[0]
    plots = {theme: draw_curves(rows, dark=theme == "dark") for theme in ("light", "dark")}
    with replacing(plot) as path:
        path.write_bytes(plots["light"])
    return {
        "setting": rows[0].setting,
        "findings": findings(rows),
        "plots": {theme: _data_uri(png, "png") for theme, png in plots.items()},
        "tables": [{"baseline": of[0].baseline, "columns": columns(of), "rows": entries(of)} for of in tables],
    }


SET_COLUMNS = ("Fraction", "Seed", "Arms", "Images drawn", "Kept by the filter")


def set_entries(sets: Sequence[GeneratedSet]) -> list[list[str]]:
    """The table's text under ``SET_COLUMNS``."""
    return [
        [
            f"{100 * one.fraction:g} %",
            str(one.seed),
            ", ".join(one.arms),
            f"{one.drawn:,}",
            "not filtered" if one.kept is None else f"{one.kept:,} ({one.kept / one.drawn:.1%})",
        ]
        for one in sets
    ]


# --- in words -----------------------------------------------------------------------------------------------------


def headline(rows: Sequence[Row]) -> str:
    """The finding in one sentence: each arm's Rank-1 difference, and how often it is more than noise."""
    compared = [row for row in rows if row.rank1_difference is not None]
    if not compared:
        return f"No arm can be compared with {rows[0].baseline} yet: no other arm has a seed in common with it."
    arms: dict[str, list[Difference]] = {}
    for row in compared:
        arms.setdefault(row.label, []).append(row.rank1_difference)
    sentences = [f"{label} {_counted(differences)}" for label, differences in arms.items()]
    return f"Rank-1 against {rows[0].baseline}: {'; '.join(sentences)}."


def _counted(differences: Sequence[Difference]) -> str:
    words = {
        "gain": "gained",
        "loss": "lost",
        "noise": "made no difference beyond noise",
        "unknown": "has too few seeds to tell",
    }
    if len(differences) == 1:
        seeds = f"{differences[0].pairs} seed{'s' if differences[0].pairs > 1 else ''}"
        return f"{words[differences[0].verdict]} ({differences[0].mean:+.1f} points, {seeds})"
    found = [difference.verdict for difference in differences]
    counts = [f"{words[kind]} in {found.count(kind)} of {len(found)} comparisons" for kind in words if kind in found]
    average = sum(difference.mean for difference in differences) / len(differences)
    return f"{', '.join(counts)} ({average:+.1f} points on average)"


def findings(rows: Sequence[Row]) -> list[str]:
    """One sentence for each arm at each fraction: by how much, over how many seeds, and whether that is noise."""
    return [_finding(row) for row in rows if row.rank1_difference is not None]


def _finding(row: Row) -> str:
    rank1, mean = row.rank1_difference, row.mAP_difference
    sentence = (
        f"At {100 * row.cell.fraction:g} % of the training images, {row.label} changed Rank-1 by {rank1.mean:+.1f} "
        f"and mAP by {mean.mean:+.1f} points against {row.baseline}"
    )
    if rank1.interval is None:
        return f"{sentence} (one seed: too few to tell a {'loss' if rank1.mean < 0 else 'gain'} from noise)."
    low, high = rank1.interval
    conclusion = {
        "gain": "a gain",
        "loss": "a loss",
        "noise": "within noise, for the interval holds zero",
    }[rank1.verdict]
    return f"{sentence} ({rank1.pairs} seeds, 95 % interval of Rank-1 {low:+.1f} to {high:+.1f}): {conclusion}."


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _versions(results: Sequence[Result]) -> dict[str, str]:
    """Every version that took part, for a study may have been run in several sittings."""
    found: dict[str, dict[str, None]] = {}
    for result in results:
        for package, version in result.versions.items():
            found.setdefault(package, {})[version] = None
    return {package: ", ".join(versions) for package, versions in found.items()}


# --- pictures -----------------------------------------------------------------------------------------------------


def draw_curves(rows: Sequence[Row], dark: bool = False) -> bytes:
    """PNG of Rank-1 and mAP by fraction, one line an arm: means, standard deviations as bars, seeds as faint dots."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ink, paper = ("#e4e4e7", "#1d1e22") if dark else ("#26272b", "#ffffff")
    labels = list(dict.fromkeys(row.label for row in rows))
    fractions = sorted({row.cell.fraction for row in rows})
    figure = Figure(figsize=(9.6, 4.2), dpi=160, facecolor=paper, layout="constrained")
    FigureCanvasAgg(figure)
    lines = []
    for axes, (score, name) in zip(figure.subplots(1, 2), (("rank1", "Rank-1"), ("mAP", "mAP"))):
        lines = [
            _draw_arm(axes, score, [row for row in rows if row.label == label], index, len(labels), fractions)
            for index, label in enumerate(labels)
        ]
        axes.set_title(f"{name}, %", color=ink, fontsize=12, loc="left")
        axes.set_xlabel("share of the training images, %", color=ink)
        axes.set_xticks(range(len(fractions)), [f"{100 * fraction:g}" for fraction in fractions])
        axes.set_xlim(-0.5, len(fractions) - 0.5)
        axes.set_facecolor(paper)
        axes.tick_params(colors=ink, length=0)
        axes.grid(axis="y", color=ink, alpha=0.15)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(ink)
    figure.legend(lines, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False, labelcolor=ink)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def style_of(index: int) -> dict[str, str]:
    """Colour and marker of an arm, no two alike among the first 64."""
    turn, colour = divmod(index, len(COLOURS))
    return {"color": COLOURS[colour], "marker": MARKERS[(colour + turn) % len(MARKERS)]}


def _draw_arm(axes, score: str, rows: Sequence[Row], index: int, arms: int, fractions: Sequence[float]):
    """Arms stand side by side at a fraction, so that their bars do not hide each other."""
    shift = (index - (arms - 1) / 2) * min(0.12, 0.6 / arms)
    places = [fractions.index(row.cell.fraction) + shift for row in rows]
    spreads = [getattr(row, score) for row in rows]
    style = style_of(index)
    for place, row in zip(places, rows):
        seeds = [getattr(result, score) for result in row.results]
        axes.plot([place] * len(seeds), seeds, linestyle="", markersize=4, alpha=0.35, **style)
    return axes.errorbar(
        places,
        [spread.mean for spread in spreads],
        yerr=[spread.std or 0.0 for spread in spreads],
        capsize=3,
        linewidth=1.6,
        markersize=7,
        **style,
    )


def _embedded(picture: Picture) -> dict[str, str]:
    buffer = io.BytesIO()
    picture.image.convert("RGB").save(buffer, format="JPEG", quality=92, subsampling=0)
    return {"caption": picture.caption, "uri": _data_uri(buffer.getvalue(), "jpeg")}


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
