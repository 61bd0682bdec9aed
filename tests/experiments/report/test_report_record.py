# SPDX-License-Identifier: Apache-2.0
"""Reading a run: what is absent, cut short or corrupt; orders and commands."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.classification_options import ClassificationOptions
from experiments.command_line import parse
from experiments.commands import command
from experiments.dacsdc import PROGRAM
from experiments.detection_options import DetectionOptions
from experiments.report import ReportError
from experiments.report.headlines import headlines
from experiments.report.record import STAGES, read_run
from tests.experiments import report_inputs as inputs


@pytest.fixture
def out(tmp_path) -> Path:
    return inputs.write_run(tmp_path / "run", steps=5)


def edit(path: Path, change) -> None:
    """Rewrite a JSON document after `change(document)`."""
    document = json.loads(path.read_text())
    change(document)
    inputs.write_json(path, document)


def test_a_whole_run_has_nothing_missing(out):
    record = read_run(out)
    assert record.missing == ()
    assert record.layers == inputs.LAYERS
    assert len(record.search.step) == len(record.train.step) == 5
    assert record.samples.images.shape == (12, inputs.HEIGHT, inputs.WIDTH, 3)


def test_probabilities_are_the_softmax_of_alpha_over_tau(out):
    trace = read_run(out).search
    lines = [json.loads(line) for line in (out / "search/metrics.jsonl").read_text().splitlines()]
    alpha, tau = np.array(lines[3]["alpha_a"]), lines[3]["tau"]
    powers = np.exp(alpha / tau)
    wanted = powers / powers.sum(-1, keepdims=True)
    np.testing.assert_allclose(trace.probability_a[3], wanted, rtol=1e-12)  # one rounding a step
    assert trace.probability_w.shape == (5, 9, 7)


@pytest.mark.parametrize("absent", STAGES)
def test_an_absent_stage_is_missing(tmp_path, absent):
    stages = [stage for stage in STAGES if stage != absent]
    record = read_run(inputs.write_run(tmp_path, stages, steps=2))
    assert record.missing == (absent,)
    assert record.result(absent) is None


def test_a_run_that_only_began_has_all_missing(tmp_path):
    record = read_run(inputs.write_run(tmp_path, ()))
    assert record.missing == STAGES
    assert record.search is record.train is record.samples is None


def test_a_line_cut_short_by_a_kill_is_left_out(out):
    path = out / "train/metrics.jsonl"
    path.write_text(path.read_text()[:-10])
    assert len(read_run(out).train.step) == 4


@pytest.mark.parametrize("stage", ["search", "train"])
def test_a_finished_stage_has_a_trace(out, stage):
    (out / stage / "metrics.jsonl").write_text("")
    with pytest.raises(ReportError, match=rf"{stage}/metrics.jsonl is missing or empty; run `"):
        read_run(out)


def test_an_empty_trace_of_an_unfinished_stage_is_no_trace(out):
    for stage in ("search", "train"):
        (out / stage / "result.json").unlink()
    (out / "search/metrics.jsonl").write_text("")
    (out / "train/metrics.jsonl").write_text('{"step": 0')
    record = read_run(out)
    assert record.search is record.train is None


def test_layers_come_in_the_order_of_the_network(out):
    edit(out / "run.json", lambda card: card["network"]["layers"].reverse())
    record = read_run(out)
    assert list(record.result("search")["bits"]) == list(reversed(inputs.LAYERS))
    assert list(record.result("test")["differences"]) == list(reversed(inputs.LAYERS))


def test_a_missing_run_names_the_command(tmp_path):
    wanted = (
        f"{tmp_path}/none/run.json is missing; "
        f"run `python -m experiments.dacsdc all --out {tmp_path}/none` first"
    )
    with pytest.raises(ReportError, match=f"^{re.escape(wanted)}$"):
        read_run(tmp_path / "none")


def test_another_schema_is_refused(out):
    edit(out / "run.json", lambda card: card.update(schema=7))
    with pytest.raises(ReportError, match=r"run\.json has schema 7, this version reads 2; run `"):
        read_run(out)


def drop(*keys):
    def change(document):
        for key in keys[:-1]:
            document = document[key]
        del document[keys[-1]]

    return change


def put(value, *keys):
    def change(document):
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


DAMAGES = [
    ("run.json", "all", put("3", "network", "height"), "network.height is '3', not int"),
    ("run.json", "all", drop("device", "dsp"), "device has no 'dsp'"),
    ("search/result.json", "search", put({}, "reference_cost"), "reference_cost is empty"),
    ("search/result.json", "search", put([4, 9], "bits", "conv2"), "conv2[1] is 9, not in 2..8"),
    ("search/result.json", "search", put([4], "bits", "conv2"), "conv2 has 1 elements, not 2"),
    ("search/result.json", "search", drop("cost", "bram"), "cost has no 'bram'"),
    ("search/result.json", "search", drop("bits", "conv8"), "'bits' is of other layers"),
    ("train/result.json", "train", put(1, "warm_start"), "warm_start is '1', not bool"),
    ("test/result.json", "test", put(None, "score", "quant"), "quant is 'None', not int | float"),
    ("export/result.json", "export", put(True, "files"), "files is 'True', not int"),
    ("simulate/result.json", "simulate", put([], "layers"), "layers is empty"),
    ("simulate/result.json", "simulate", drop("cycles", "interval"), "cycles has no 'interval'"),
]


@pytest.mark.parametrize(("name", "stage", "damage", "reason"), DAMAGES)
def test_a_document_of_another_shape_is_corrupt(out, name, stage, damage, reason):
    edit(out / name, damage)
    expect_corrupt(out, name, stage, reason)


def expect_corrupt(out: Path, name: str, stage: str, reason: str) -> None:
    """Check the whole of the one-line error."""
    make = re.escape(f"; run `python -m experiments.dacsdc {stage} --out {out}` again")
    path = re.escape(f"{out / name} is corrupt (")
    with pytest.raises(ReportError, match=rf"^{path}.*{re.escape(reason)}.*\){make}$") as caught:
        read_run(out)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "stage"),
    [("run.json", "all"), *((f"{stage}/result.json", stage) for stage in STAGES)],
)
def test_half_a_document_is_corrupt(out, name, stage):
    text = (out / name).read_text()
    (out / name).write_text(text[: len(text) // 2])
    expect_corrupt(out, name, stage, "line")


LINES = [
    ("search/metrics.jsonl", "search", "{broken\n", "line 1: Expecting property name"),
    ("search/metrics.jsonl", "search", '{"step": 0}\n', "no 'tau'"),
    ("search/metrics.jsonl", "search", "[1]\n", "indices"),
    ("train/metrics.jsonl", "train", '{"step": "x"}\n', "could not convert"),
    ("train/score.jsonl", "train", '{"step": 4, "score": [1]}\n', "'score' is [1] a line, not []"),
]


@pytest.mark.parametrize(("name", "stage", "text", "reason"), LINES)
def test_a_broken_line_is_corrupt(out, name, stage, text, reason):
    (out / name).write_text(text)
    expect_corrupt(out, name, stage, reason)


def test_alphas_of_another_network_are_corrupt(out):
    edit(out / "run.json", lambda card: card["network"]["layers"].append("conv9"))
    for stage in ("search", "train", "test"):
        (out / stage / "result.json").unlink()
    expect_corrupt(out, "search/metrics.jsonl", "search", "'alpha_w' is [9, 7] a line, not [10, 7]")


ARRAYS = [
    ({"truth": np.zeros((12, 3), np.float32)}, "'truth' is [12, 3], not [12, 4]"),
    ({"score": np.zeros(3, np.float32)}, "'score' is [3], not [12]"),
    ({"images": np.zeros((12, 4, 4, 3))}, "'images' is float64 [12, 4, 4, 3], not uint8"),
]


@pytest.mark.parametrize(("change", "reason"), ARRAYS)
def test_detections_of_another_shape_are_corrupt(out, change, reason):
    np.savez(out / "test/samples.npz", **(inputs.detections() | change))
    expect_corrupt(out, "test/samples.npz", "test", reason)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"text"])
def test_broken_archives_are_corrupt(out, content):
    (out / "test/samples.npz").write_bytes(content)
    expect_corrupt(out, "test/samples.npz", "test", "")


def test_detections_without_a_column_are_corrupt(out):
    arrays = inputs.detections()
    del arrays["confidence"]
    np.savez(out / "test/samples.npz", **arrays)
    expect_corrupt(out, "test/samples.npz", "test", "confidence")


def test_commands_repeat_the_options_that_are_not_defaults():
    options = {
        "preset": "smoke",
        "data": "/my data/dac",
        "device": "xczu3eg",
        "clock_mhz": 250.0,
        "warm_start": False,
        "tau_last": 0.5,
        "wbits": None,
    }
    line = command(DetectionOptions, "train", Path("a b"), options)
    assert line == (
        "python -m experiments.dacsdc train --out 'a b' --preset smoke --data '/my data/dac' "
        "--tau-last 0.5 --warm-start False"
    )
    again = parse(PROGRAM, shlex.split(line)[3:])
    assert {name: getattr(again, name) for name in options} == options | {
        "data": Path("/my data/dac")
    }


def test_commands_leave_out_what_a_stage_does_not_take():
    options = {"wbits": "444444", "abits": "844444", "json": True, "cache": "c", "net": "resnet8"}
    assert command(ClassificationOptions, "search", Path("o"), options) == (
        "python -m experiments.cifar search --out o --net resnet8"
    )


def test_commands_name_the_preset_where_a_checkpoint_brings_its_own(tmp_path):
    options = {"preset": "demo", "init": "u.pt"}
    line = command(DetectionOptions, "test", Path("o"), options)
    assert line == "python -m experiments.dacsdc test --out o --preset demo --init u.pt"
    options = parse(PROGRAM, line.split()[3:])
    assert (options.chosen_preset, options.init) == ("demo", Path("u.pt"))


GIVEN = [
    {"wbits": "444444444", "abits": "844444444"},
    {"init": "u.pt (sha256 0123456789ab)"},
]


@pytest.mark.parametrize("given", GIVEN)
def test_given_widths_miss_no_search(tmp_path, given):
    out = inputs.write_run(tmp_path, ("train",), steps=2)
    edit(out / "run.json", lambda card: card["options"].update(given))
    record = read_run(out)
    assert record.missing == ("test", "export", "simulate")
    shown = str(headlines(record))
    assert shown.count("the widths were given") == 1
    assert "search has not finished" not in shown


def test_commands_of_a_checkpoint_name_its_file(tmp_path):
    out = inputs.write_run(tmp_path / "run", ("train",), steps=2)

    def change(card):
        card["options"] |= {"init": "u.pt (sha256 0123456789ab)", "preset": "full"}
        card["init"] = "my nets/u.pt"

    edit(out / "run.json", change)
    assert read_run(out).command("test") == (
        f"python -m experiments.dacsdc test --out {out} --preset full --init 'my nets/u.pt'"
    )


def test_a_run_of_another_program_is_refused(out):
    with pytest.raises(ReportError) as refused:
        read_run(out, "cifar")
    assert str(refused.value) == (
        f"--out {out}: is a run of another program; "
        f"run `python -m experiments.dacsdc report --out {out}`"
    )


def test_a_run_of_a_float_network_is_refused(out):
    edit(out / "run.json", lambda card: card["options"].update(unquantised=True))
    with pytest.raises(ReportError, match=r"run of a float network, .* scores are in .*/test/res"):
        read_run(out)


def test_importing_the_report_is_light():
    code = "import experiments.report, sys; print({'jax', 'matplotlib', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
