# SPDX-License-Identifier: Apache-2.0
"""The command line of the benchmarks and what their records say of the machine."""

import inspect
import json
import subprocess
import sys
from importlib import import_module

import pytest

from experiments import bench
from experiments.bench_worker import SOURCE_ROOT

BAD_OPTIONS = {
    "search-step": [
        (["--steps", "1"], "--rounds 7 --steps 1: at least 1 round of 2 steps"),
        (["--torch-python", "/no/python"], "--torch-python /no/python: no such program"),
    ],
    "stream": [
        (["--frames", "0"], "--frames 0: at least 1"),
        (["--workers", "2", "0"], "--workers 0: at least 1"),
    ],
    "networks": [
        (["--nets", "alexnet"], "argument --nets: invalid choice: 'alexnet' (choose from"),
        (["--device", "xcvu9p"], "argument --device: invalid choice: 'xcvu9p' (choose from"),
        (["--clock-mhz", "nan"], "--clock-mhz nan: must be in 1..2000"),
        (["--seed", "-1"], "--seed -1: must be in 0..4294967295"),
        (["--seed", "9" * 20], f"--seed {'9' * 20}: must be in 0..4294967295"),
    ],
}
BAD_FILES = [
    (["--out", "/no/folder/x.json"], "--out /no/folder/x.json: folder /no/folder does not"),
    (["--out", "/"], "--out /: is a folder; name a file"),
]


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [(command, *case) for command, cases in BAD_OPTIONS.items() for case in (*cases, *BAD_FILES)],
)
def test_bad_options_end_with_code_2(command, arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.parse([command, *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", bench.MODULES)
def test_every_command_has_its_measure_and_its_table(command):
    """The options of a command are the arguments of its measure."""
    module = import_module(bench.MODULES[command])
    options = vars(bench.parse([command]))
    wanted = inspect.signature(module.measure).parameters
    assert options.keys() - set(bench.SHARED) == wanted.keys()
    assert callable(module.table)


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
