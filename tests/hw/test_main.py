# SPDX-License-Identifier: Apache-2.0
"""`python -m hw packing`: what it prints, and one line with exit code 2 for a mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import hw.__main__ as command
from hw.__main__ import main

ROOT = Path(__file__).parents[2]
FEW = ["--mode", "every", "--known-bits", "0"]


def run(capsys, *arguments: str) -> str:
    assert main(["packing", *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


def test_json_lists_every_pair_of_widths(capsys):
    plans = json.loads(run(capsys, "--kernel", "1", *FEW, "--narrow", "--json"))
    widths = [(w, a) for w in range(2, 9) for a in range(2, 9)]
    assert [(plan["w"], plan["a"]) for plan in plans] == widths
    assert {(plan["mode"], plan["t"], plan["narrow"]) for plan in plans} == {("every", 0, True)}
    ports = {(word["w_port"], word["a_port"]) for plan in plans for word in plan["words"]}
    assert ports == {(27, 18), (18, 27)}


def test_options_reach_the_search(capsys):
    options = ("--dsp", "dsp48e1", "--kernel", "1", "--chain", "20", "--known-bits", "0", "--json")
    plans = json.loads(run(capsys, *options))
    assert min(plan["chain"] for plan in plans) >= 20
    assert {plan["dsp"] for plan in plans} == {"dsp48e1"}
    assert {plan["narrow"] for plan in plans} == {False}


def test_a_table_and_a_heat_map(capsys, tmp_path):
    path = tmp_path / "rates.png"
    text = run(capsys, "--kernel", "1", *FEW, "--png", str(path))
    assert text.startswith("MACs per DSP and cycle: dsp48e2, kernel 1x1, full-range weights")
    assert path.read_bytes().startswith(b"\x89PNG")


MISTAKES = [
    (["--dsp", "dsp49"], "unknown DSP 'dsp49'; known: dsp48e1, dsp48e2"),
    (["--kernel", "4"], "no packing plans for kernel 4; allowed: (1, 3, 5, 7)"),
    (["--kernel", "three"], "argument --kernel: invalid int value: 'three'"),
    (["--mode", "never"], "argument --mode: invalid choice: 'never'"),
    (["--chain", "0"], "chain 0 must be at least 1"),
    (["--chain", "-1"], "chain -1 must be at least 1"),
    (["--kernel", "1", "--chain", "9" * 30], "known bits; allow shorter chains"),
    (["--known-bits", "-1"], "known_bits -1 must lie in 0..4"),
    (["--known-bits", "9"], "known_bits 9 must lie in 0..4"),
    (["--json", "--png", "x.png"], "argument --png: not allowed with argument --json"),
    (
        ["--kernel", "1", *FEW, "--png", "missing/x.png"],
        "--png missing/x.png: there is no folder missing",
    ),
    (["--kernel", "1", *FEW, "--png", "."], "Is a directory"),
    (["--colour"], "unrecognized arguments: --colour"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(m[0]) for m in MISTAKES])
def test_a_mistake_is_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["packing", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_a_command_is_needed(capsys):
    assert main([]) == 2
    assert "the following arguments are required: command" in capsys.readouterr().err


def test_a_reader_may_stop_early():
    """The first line of JSON is read, then the pipe is closed: no traceback, no error."""
    command = [sys.executable, "-m", "hw", "packing", "--kernel", "1", *FEW, "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout.readline() == "[\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


def test_an_interrupt_is_code_130_without_a_word(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "packing", interrupted)
    assert command.main(["packing"]) == 130
    assert capsys.readouterr() == ("", "")
