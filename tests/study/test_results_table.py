import io

from result_cases import result
from rich.console import Console

from reid_aug.study.results import summarise
from reid_aug.study.results_table import columns, entries, markdown, table


def test_markdown_and_terminal_table_say_the_same():
    results = [result("standard", seed, 50.0 + seed) for seed in range(2)]
    results += [result("warp", seed, 52.0 + 2 * seed) for seed in range(2)]
    rows = summarise(results)
    lines = markdown(columns(rows), entries(rows)).splitlines()
    assert lines[0] == "| Fraction | Arm | Seeds | Rank-1 | mAP | Rank-1 − standard | mAP − standard |"
    assert lines[2].startswith("| 20 % | standard | 2 | 50.5 ± 0.7 | 30.0 ± 0.0 |")
    assert "| +2.5 ± 0.7 [-3.9, +8.9] |" in lines[3]
    console = Console(width=200, file=io.StringIO())
    console.print(table(rows))
    printed = console.file.getvalue()
    for text in ("+2.5 ± 0.7 [-3.9, +8.9]", rows[0].setting, *columns(rows)):
        assert text in printed


def test_the_setting_is_a_column_where_it_varies():
    rows = summarise([result(), result(iterations=200)])
    assert columns(rows)[0] == "Setting"
    assert "toy, osnet_x0_25 from scratch, 128x64, 200 iterations" in markdown(columns(rows), entries(rows))
