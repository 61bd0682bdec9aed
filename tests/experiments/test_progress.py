# SPDX-License-Identifier: Apache-2.0
"""Progress on standard error: counts, notes, and what was kept from an earlier run."""

import pytest

from experiments.progress import bar


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """A terminal that breaks no line."""
    monkeypatch.setenv("COLUMNS", "200")


def last_line(capsys) -> str:
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err.strip().splitlines()[-1]


def test_a_bar_shows_title_count_and_note(capsys):
    with bar("search", 12) as advance:
        advance(8, note="task 3.20")
    line = last_line(capsys)
    assert "search" in line
    assert "8/12" in line
    assert line.endswith("task 3.20")


def test_a_note_stays_until_the_next_one(capsys):
    with bar("search", 12) as advance:
        advance(4, note="first")
        advance(8)
    line = last_line(capsys)
    assert "8/12" in line
    assert line.endswith("first")


def test_an_error_passes_and_leaves_no_bar_beside_its_line(capsys):
    with pytest.raises(OSError, match="disk"), bar("generate data"):
        raise OSError("disk")
    assert capsys.readouterr().err == ""


def test_an_error_wipes_the_bar_from_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with pytest.raises(OSError, match="disk"), bar("generate data", 3):
        raise OSError("disk")
    up_and_wipe = "\x1b[1A\x1b[2K"
    assert capsys.readouterr().err.endswith(up_and_wipe)


def test_the_bar_stays_after_ctrl_c(capsys):
    with pytest.raises(KeyboardInterrupt), bar("search", 12) as advance:
        _interrupted(advance)
    assert "8/12" in last_line(capsys)


def _interrupted(advance) -> None:
    advance(8)
    raise KeyboardInterrupt


def test_a_total_can_come_later(capsys):
    with bar("load train frames") as advance:
        advance(2, 64)
    line = last_line(capsys)
    assert "2/64" in line
    assert "kept" not in line


def test_nothing_done_means_kept(capsys):
    with bar("generate data"):
        pass
    line = last_line(capsys)
    assert "1/1" in line
    assert line.endswith("kept")


def test_an_unfinished_bar_with_a_total_is_not_kept(capsys):
    with bar("search", 12):
        pass
    line = last_line(capsys)
    assert "0/12" in line
    assert "kept" not in line
