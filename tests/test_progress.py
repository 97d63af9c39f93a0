from __future__ import annotations

from reid_aug.progress import Bars


def test_without_a_terminal_each_tenth_of_a_stage_is_a_line(capsys):
    with Bars() as bars:
        for done in range(41):
            bars("generate", done, 40)
        for done in range(1, 4):
            bars("train re-ID", done, 3, f"loss {done}.0")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:10] == [f"generate: {done}/40" for done in range(4, 41, 4)]
    assert lines[10:] == [f"train re-ID: {done}/3 loss {done}.0" for done in (1, 2, 3)]


def test_a_stage_that_comes_again_is_shown_again(capsys):
    bars = Bars()
    for _ in range(2):
        bars("evaluate", 1, 2)
        bars("evaluate", 2, 2)
    assert capsys.readouterr().err.splitlines() == ["evaluate: 1/2", "evaluate: 2/2"] * 2
    bars("empty", 0, 0)
    assert capsys.readouterr().err == ""
