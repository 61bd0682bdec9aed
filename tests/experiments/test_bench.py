# SPDX-License-Identifier: Apache-2.0
"""The command line of the benchmarks and what their records say of the machine."""

import json
import subprocess
import sys

import pytest

from experiments import bench
from experiments.bench_worker import SOURCE_ROOT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "1"], "--rounds 7 --steps 1: at least 1 round of 2 steps"),
        (["--torch-python", "/no/python"], "--torch-python /no/python: no such program"),
        (["--out", "/no/folder/x.json"], "--out /no/folder/x.json: folder /no/folder does not"),
    ],
)
def test_bad_options_end_with_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.parse(["search-step", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frames", "0"], "--frames 0: at least 1"),
        (["--workers", "2", "0"], "--workers 0: at least 1"),
        (["--out", "/no/folder/x.json"], "--out /no/folder/x.json: folder /no/folder does not"),
    ],
)
def test_bad_options_of_the_stream_end_with_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.parse(["stream", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nets", "alexnet"], "argument --nets: invalid choice: 'alexnet' (choose from"),
        (["--device", "xcvu9p"], "argument --device: invalid choice: 'xcvu9p' (choose from"),
        (["--clock-mhz", "nan"], "--clock-mhz nan: must be in 1..2000"),
        (["--seed", "-1"], "--seed -1: must be in 0..4294967295"),
        (["--seed", "9" * 20], f"--seed {'9' * 20}: must be in 0..4294967295"),
        (["--out", "/"], "--out /: is a folder; name a file"),
        (["--out", "/no/folder/x.json"], "--out /no/folder/x.json: folder /no/folder does not"),
    ],
)
def test_bad_options_of_the_networks_end_with_code_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.parse(["networks", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_record_is_written_whole(tmp_path):
    path = tmp_path / "record.json"
    bench.write_record({"version": 1}, path)
    assert json.loads(path.read_text()) == {"version": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_cpu_model_is_read_or_replaced_by_the_architecture():
    assert bench.cpu_model("processor : 0\nmodel name\t: Some CPU @ 2 GHz\n") == "Some CPU @ 2 GHz"
    assert bench.cpu_model("processor : 0\n") == bench.platform.machine()


def test_parent_imports_neither_framework():
    code = "import sys, experiments.bench; print({'jax', 'torch'} & set(sys.modules))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=SOURCE_ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == "set()\n"
