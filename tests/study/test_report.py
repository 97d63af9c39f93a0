import base64
import io
import re
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image
from result_cases import result

from reid_aug.errors import DataError
from reid_aug.study.report import GeneratedSet, Picture, draw_curves, findings, headline, style_of, write_report
from reid_aug.study.results import summarise
from reid_aug.study.sheets import pair_sheet, ranked_sheet


def cell(arm, fraction, seed, rank1, mean_ap, **changes):
    setting = {"data_set": "Market-1501", "iterations": 800, "start": "osnet_x0_25_msmt17.pth", "seconds": 240.0}
    setting["generator"] = None if arm == "standard" else "pidm"
    return result(arm, seed, rank1, mean_ap, fraction=fraction, **{**setting, **changes})


def study(gains, fractions=(0.2, 0.4, 0.6), seeds=3):
    wobble = (0.4, -0.3, 0.1)
    results = []
    for fraction in fractions:
        for seed in range(seeds):
            base = 45 + 50 * fraction + wobble[seed]
            results.append(cell("standard", fraction, seed, base, base - 22))
            for arm, gain in gains.items():
                score = base + gain + wobble[(seed + 1) % 3] * 0.5
                results.append(cell(arm, fraction, seed, score, score - 21.5))
    return results


class Page(HTMLParser):
    """Collects what the page refers to and says."""

    def __init__(self, text):
        super().__init__()
        self.references, self.tags, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.references += [value for name, value in attributes if name in ("src", "srcset", "href")]

    def handle_data(self, data):
        self.text += data


def pictures():
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, 3, 128, 64), dtype=torch.uint8, generator=generator) for _ in range(4)]
    ranked = torch.cat(images)[:8]
    sheet = Picture("Pairs <of held-out people>", pair_sheet(*images))
    return sheet, Picture("Query 0001", ranked_sheet(images[0][0], ranked, [True, False] * 4))


def full_report(folder):
    sheet, ranked = pictures()
    return write_report(
        folder,
        study({"augmented": 2.0, "copies": 0.1}),
        title="A study <of> 'arms'",
        baselines=("standard", "copies"),
        sheets=[sheet],
        ranked=[ranked],
        stages={"generate": 75.0, "train": 7300.0, "filter": 2.5},
        generators={"pidm": "strict: the subset alone"},
        sets=[GeneratedSet(0.2, 1, ("warp", "warp_extra"), 2904, 2000), GeneratedSet(0.2, 1, ("other",), 30, None)],
        settings={"study.yaml": "a: <b>\n"},
        caveats=["Fake numbers & nothing else"],
    )


def test_the_page_needs_nothing_but_itself(tmp_path):
    page = full_report(tmp_path)
    parsed = Page(page.read_text(encoding="utf-8"))
    assert len(parsed.references) == 4  # two themes of one plot, a sheet, a ranked list
    assert "script" not in parsed.tags and "link" not in parsed.tags
    for reference in parsed.references:
        kind, content = re.fullmatch(r"data:image/(png|jpeg);base64,(.*)", reference).groups()
        assert Image.open(io.BytesIO(base64.b64decode(content))).format.lower() == kind
    assert "url(" not in page.read_text() and "http" not in page.read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "results.md", "curves-1.png"}


def test_the_page_says_it_all_and_escapes_what_it_is_given(tmp_path):
    page = full_report(tmp_path)
    text = Page(page.read_text(encoding="utf-8")).text
    for said in (
        "A study <of> 'arms'",
        "Pairs <of held-out people>",
        "strict: the subset alone",
        "a: <b>",
        "Fake numbers & nothing else",
        "1 min 15 s",
        "2 h 1 min",
        "2.5 s",
        "torch 2.0; python 3.11",
        "27 cells, 2 h 2 min of computing in all",
        "Against copies",
        "Rank-1 − copies",
        "warp, warp_extra2,9042,000 (68.9%)",
        "other30not filtered",
    ):
        assert said in text
    assert "| 20 % | 1 | warp, warp_extra | 2,904 | 2,000 (68.9%) |" in (tmp_path / "results.md").read_text()
    assert "Pairs <of" not in page.read_text(encoding="utf-8")


def test_no_two_arms_look_alike():
    assert len({tuple(style_of(index).values()) for index in range(64)}) == 64


def test_the_headline_follows_from_the_numbers():
    assert headline(summarise(study({"augmented": 2.0, "copies": 0.1, "warp": -3.0}))) == (
        "Rank-1 against standard: augmented (pidm) gained in 3 of 3 comparisons (+2.0 points on average); "
        "copies (pidm) made no difference beyond noise in 3 of 3 comparisons (+0.1 points on average); "
        "warp (pidm) lost in 3 of 3 comparisons (-3.0 points on average)."
    )
    assert headline(summarise(study({"augmented": 2.0}, fractions=(0.2,), seeds=1))) == (
        "Rank-1 against standard: augmented (pidm) has too few seeds to tell (+1.9 points, 1 seed)."
    )
    assert headline(summarise(study({}))).startswith("No arm can be compared with standard yet")


def test_each_finding_says_when_it_is_noise():
    gain, noise = findings(summarise(study({"augmented": 2.0, "copies": 0.0}, fractions=(0.2,))))
    assert gain.startswith("At 20 % of the training images, augmented (pidm) changed Rank-1 by +2.0 and mAP by +2.5")
    assert re.search(r"\(3 seeds, 95 % interval of Rank-1 \+1\.\d to \+2\.\d\): a gain\.$", gain)
    assert noise.endswith(": within noise, for the interval holds zero.")
    (alone,) = findings(summarise(study({"augmented": -1.0}, fractions=(0.2,), seeds=1)))
    assert alone.endswith("(one seed: too few to tell a loss from noise).")


def test_each_setting_has_its_own_section(tmp_path):
    results = study({"augmented": 2.0}) + [cell("standard", 0.2, 0, 70.0, 50.0, image_size=(256, 128))]
    text = Page(write_report(tmp_path, results, title="Two").read_text(encoding="utf-8")).text
    assert "128x64, 800 iterations" in text and "256x128, 800 iterations" in text
    assert (tmp_path / "curves-2.png").exists()


@pytest.mark.parametrize("dark, paper", [(False, (255, 255, 255)), (True, (29, 30, 34))])
def test_curves_have_the_themes_paper_and_a_colour_for_each_arm(dark, paper):
    image = Image.open(io.BytesIO(draw_curves(summarise(study({"augmented": 2.0})), dark))).convert("RGB")
    colours = {colour for _, colour in image.getcolors(maxcolors=2**24)}
    assert image.getpixel((0, 0)) == paper
    assert {(0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00)} <= colours
    assert (0x00, 0x9E, 0x73) not in colours  # no third arm


def test_no_results_is_an_error_and_writes_nothing(tmp_path):
    with pytest.raises(DataError, match=r"no results to report\. Run at least one cell"):
        write_report(tmp_path / "new", [], title="Empty")
    assert not (tmp_path / "new").exists()
