import numpy as np
import pytest
import torch
from PIL import Image

from reid_aug.errors import DataError
from reid_aug.study.sheets import HIT, MISS, QUERY, column_sheet, pair_sheet, ranked_sheet, write_sheet

SIZE = (32, 16)


def plain(*colours):
    return torch.tensor(colours, dtype=torch.uint8)[:, :, None, None].expand(-1, 3, *SIZE).contiguous()


ONE = plain((1, 1, 1))


def area(sheet, colour):
    """Number of pixels of exactly this colour."""
    return int((np.asarray(sheet) == np.array(colour)).all(-1).sum())


def bounds(sheet, colour):
    rows, columns = np.nonzero((np.asarray(sheet) == np.array(colour)).all(-1))
    return rows.min(), columns.min()


def test_pair_sheet_has_a_line_a_pair_in_reading_order():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0), (1, 0, 9), (2, 0, 9), (3, 0, 9), (4, 0, 9)]
    sheet = pair_sheet(*(plain(colours[column], colours[4 + column]) for column in range(4)))
    for colour in colours:
        assert area(sheet, colour) == 4 * SIZE[0] * SIZE[1]  # each shown once, at twice its size
    places = [bounds(sheet, colour) for colour in colours]
    assert len({row for row, _ in places[:4]}) == 1 and places == sorted(places)


def test_column_sheet_has_two_lines():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)]
    sheet = column_sheet(["one", "two"], plain(*colours[:2]), plain(*colours[2:]))
    assert all(area(sheet, colour) == 4 * SIZE[0] * SIZE[1] for colour in colours)
    (top, left), (same, right), (low, _), corner = (bounds(sheet, colour) for colour in colours)
    assert top == same < low and left < right and corner == (low, right)


def test_ranked_sheet_frames_hits_and_misses():
    images = plain((10, 10, 10), (20, 20, 20), (30, 30, 30))
    sheet = ranked_sheet(plain((5, 5, 5))[0], images, [True, False, True])
    frame = area(sheet, QUERY)
    assert frame > 0
    assert area(sheet, HIT) == 2 * frame and area(sheet, MISS) == frame
    assert bounds(sheet, QUERY)[1] < bounds(sheet, HIT)[1] < bounds(sheet, MISS)[1]


@pytest.mark.parametrize(
    "draw, message",
    [
        (lambda: pair_sheet(ONE.float(), ONE, ONE, ONE), "`source`: torch.float32 .* Give uint8 images"),
        (lambda: pair_sheet(ONE[:0], ONE, ONE, ONE), r"`source`: .*\[0, 3, 32, 16\].* N >= 1"),
        (lambda: pair_sheet(ONE, ONE, ONE, torch.cat([ONE, ONE])), "as many images"),
        (lambda: pair_sheet(ONE, ONE, ONE, ONE[..., :8]), "all of one size"),
        (lambda: column_sheet(["one", "two"], ONE, ONE), "2 labels for 1 columns"),
        (lambda: ranked_sheet(plain((1, 1, 1))[0], plain((1, 1, 1)), [True, False]), "2 hit flags for 1 images"),
        (lambda: ranked_sheet(plain((1, 1, 1))[0, :, :8], plain((1, 1, 1)), [True]), "Resize to one size"),
    ],
)
def test_images_that_do_not_fit_are_named(draw, message):
    with pytest.raises(DataError, match=message):
        draw()


def test_a_sheet_is_written_whole(tmp_path):
    sheet = pair_sheet(ONE, ONE, ONE, ONE)
    write_sheet(sheet, tmp_path / "new" / "sheet.png")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sheet.png"]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "sheet.png")), np.asarray(sheet))
