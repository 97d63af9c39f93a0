"""Contact sheets: labelled grids of images, as PIL images, and their writing.

Images are uint8 [N, 3, H, W] RGB tensors; each is drawn at twice its size, so that 128x64 can be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from reid_aug.errors import DataError
from reid_aug.files import replacing

SCALE = 2
GAP = 8  # pixels between images
FONT_SIZE = 15
PAPER, INK = (250, 250, 248), (40, 40, 40)
HIT, MISS, QUERY = (0, 150, 90), (205, 60, 40), (110, 110, 110)
FRAME = 5


def pair_sheet(source: torch.Tensor, target_pose: torch.Tensor, generated: torch.Tensor, real: torch.Tensor):
    """One line a pair: source, limb image of the target pose, generated image, real target; each [N, 3, H, W] uint8."""
    columns = {"source": source, "target pose": target_pose, "generated": generated, "real": real}
    tiles = _tiles(columns)
    lines = [[tiles[label][index] for label in columns] for index in range(len(source))]
    return _grid(lines, above=list(columns))


def column_sheet(labels: Sequence[str], above: torch.Tensor, below: torch.Tensor) -> Image.Image:
    """Labelled columns of two images, such as a person below the pose; each [N, 3, H, W] uint8, N as many as labels."""
    tiles = _tiles({"above": above, "below": below})
    if len(labels) != len(above):
        raise DataError(f"column_sheet: {len(labels)} labels for {len(above)} columns. Give one label a column.")
    return _grid([tiles["above"], tiles["below"]], above=labels)


def ranked_sheet(query: torch.Tensor, ranked: torch.Tensor, hits: Sequence[bool]) -> Image.Image:
    """A query and its first gallery images in order, framed green and "same" for a hit, red and "other" for a miss.

    Args:
        query: uint8 [3, H, W].
        ranked: uint8 [K, 3, H, W], best first.
        hits: K flags, true where the image shows the query's identity.
    """
    if len(hits) != len(ranked):
        raise DataError(f"ranked_sheet: {len(hits)} hit flags for {len(ranked)} images. Give one flag an image.")
    if query.shape != ranked.shape[1:]:
        raise DataError(f"ranked_sheet: query {list(query.shape)}, images {list(ranked.shape)}. Resize to one size.")
    tiles = _tiles({"query and ranked": torch.cat([query[None], ranked])})["query and ranked"]
    colours = [QUERY, *(HIT if hit else MISS for hit in hits)]
    framed = [_framed(tile, colour) for tile, colour in zip(tiles, colours)]
    captions = [f"{rank} {'same' if hit else 'other'}" for rank, hit in enumerate(hits, start=1)]
    return _grid([framed], above=["query", *captions])


def write_sheet(sheet: Image.Image, path: str | Path) -> None:
    """Write ``sheet`` as PNG, whole or not at all."""
    path = Path(path)
    with replacing(path) as temporary:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(temporary, format="PNG")


def _tiles(groups: Mapping[str, torch.Tensor]) -> dict[str, list[Image.Image]]:
    """Enlarged PIL images by label, after a check of what was given."""
    for label, images in groups.items():
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
            given = f"{images.dtype} {list(images.shape)}"
            raise DataError(f"sheet, `{label}`: {given}. Give uint8 images [N, 3, H, W] with N >= 1.")
    shapes = {label: list(images.shape) for label, images in groups.items()}
    if len(set(map(tuple, shapes.values()))) != 1:
        raise DataError(f"sheet: shapes {shapes}. Give every label as many images, all of one size.")
    return {label: [_enlarged(image) for image in images] for label, images in groups.items()}


def _enlarged(image: torch.Tensor) -> Image.Image:
    picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
    return picture.resize((picture.width * SCALE, picture.height * SCALE), Image.Resampling.LANCZOS)


def _framed(tile: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    framed = Image.new("RGB", (tile.width + 2 * FRAME, tile.height + 2 * FRAME), colour)
    framed.paste(tile, (FRAME, FRAME))
    return framed


def _grid(lines: list[list[Image.Image]], above: Sequence[str]) -> Image.Image:
    """Lines of equally large tiles on paper, with labels above the columns."""
    font = ImageFont.load_default(FONT_SIZE)
    width, height = lines[0][0].size
    column = max([width, *(round(font.getlength(label)) for label in above)])
    head = FONT_SIZE + GAP
    size = (GAP + len(lines[0]) * (column + GAP), head + GAP + len(lines) * (height + GAP))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, label in enumerate(above):
        centre = GAP + index * (column + GAP) + column // 2
        draw.text((centre, GAP + FONT_SIZE // 2), label, fill=INK, font=font, anchor="mm")
    for row, tiles in enumerate(lines):
        top = head + GAP + row * (height + GAP)
        for index, tile in enumerate(tiles):
            sheet.paste(tile, (GAP + index * (column + GAP) + (column - width) // 2, top))
    return sheet
