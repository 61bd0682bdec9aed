# SPDX-License-Identifier: Apache-2.0
"""Stages that build, on three small layers: what is exported, checked, counted and refused."""

import json
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from experiments import hardware
from experiments.detection_options import DetectionOptions
from experiments.run_context import Run
from experiments.run_folder import RunError, write_json
from hw import cycles, hls, ir_io, resources, sim
from hw.dataflow import build
from hw.design import Design, DesignError
from hw.device import device
from hw.hls import csim
from hw.hls.csim import Comparison, CsimResult, Mismatch
from hw.intmath import ceil_div
from hw.ir import Conv
from hw.usage import Usage
from mixq_jax import export
from mixq_jax.data.dacsdc import Dataset
from tests.hw.hls.networks import random_frames, tiny_design, tiny_graph

PLAN_NUMBERS = (
    "macs_per_dsp",
    "groups",
    "columns",
    "word_steps",
    "mode",
    "known_bits",
    "chain",
)


def run_of(out: Path = Path("out"), **given) -> Run:
    """A run whose test data are four frames of the tiny graph."""
    options = DetectionOptions(**{"preset": "smoke", "out": out, **given})
    run = Run(options, options.resolved())
    frames = random_frames(tiny_graph(), 4, 0).astype(np.uint8)
    data = Dataset(frames, np.zeros((4, 4), np.float32), np.ones(4, np.float32), tuple("abcd"))
    vars(run)["test_data"] = data
    return run


def export_command(out: Path) -> str:
    return f"python -m experiments.dacsdc export --out {out} --preset smoke"


def with_csim_frames(count: int) -> Run:
    """A run whose preset asks for `count` of the four frames."""
    run = run_of()
    other = Run(run.options, replace(run.preset, csim_frames=count))
    vars(other)["test_data"] = run.test_data
    return other


@cache
def design() -> Design:
    return tiny_design()


def without_parameters(found: Design) -> tuple:
    """A design as values that compare: arrays do not."""
    return found.device, found.clock_mhz, found.layers, found.fifo_depths, found.port_bits


def test_the_design_is_that_of_device_and_clock_and_always_the_same():
    run, graph = run_of(device="xc7z020", clock_mhz=100.0), tiny_graph()
    found = hardware.design_of(run, graph)
    assert found.graph is graph
    assert (found.device, found.clock_mhz) == (device("xc7z020"), 100.0)
    again = hardware.design_of(run_of(device="xc7z020", clock_mhz=100.0), tiny_graph())
    assert without_parameters(again) == without_parameters(found)
    other = hardware.design_of(run_of(), graph)
    assert (other.device, other.clock_mhz) == (device("xczu3eg"), 250.0)
    assert {layer.plan.dsp for layer in found.layers} == {"dsp48e1"}
    assert {layer.plan.dsp for layer in other.layers} == {"dsp48e2"}


def test_a_device_that_is_too_small_is_refused():
    run = run_of()
    vars(run)["device"] = replace(device("xczu3eg"), dsp=1)
    with pytest.raises(DesignError, match="dsp is the limit"):
        hardware.design_of(run, tiny_graph())


@pytest.mark.parametrize(("count", "taken"), [(1, 1), (3, 3), (9, 4)])
def test_frames_of_the_c_simulation_are_the_first_of_the_test_split(count, taken):
    run = with_csim_frames(count)
    frames = hardware.csim_frames(run)
    assert isinstance(frames, np.ndarray)
    assert np.array_equal(frames, run.test_data.images[:taken])


def test_rows_of_the_layers():
    used = resources.estimate(design())
    rows = hardware._layers(design(), used)
    assert json.loads(json.dumps(rows)) == rows
    assert [row["name"] for row in rows] == ["conv0", "conv1", "conv2"]
    assert [(row["w"], row["a"]) for row in rows] == [(4, 5), (3, 4), (2, 3)]
    folding = [
        tuple(row[n] for n in ("pe", "simd", "kernel_rows", "requant_lanes")) for row in rows
    ]
    assert folding == [(2, 3, 3, 2), (1, 2, 1, 1), (1, 1, 1, 1)]
    for row, layer in zip(rows, design().layers, strict=True):
        for name in PLAN_NUMBERS:
            assert row[name] == getattr(layer.plan, name), name
    for resource in ("dsp", "lut", "ff", "bram18"):
        (port,) = (part.usage for part in used.layers if part.name == "input")
        layers = sum(row[resource] for row in rows)
        assert layers + getattr(port, resource) == getattr(used.total, resource)
    assert sum(row["dsp"] for row in rows) > 0


def test_cycles_of_the_arrays_by_hand():
    """H x (M / (pe groups)) x column steps x (K / rows) x (C / simd) x word steps."""
    rows = hardware._layers(design(), resources.estimate(design()))
    plans = [layer.plan for layer in design().layers]
    shapes = ((6, 7, 3, 4, 3), (3, 3, 4, 4, 1), (3, 3, 4, 2, 3))  # H, W, C, M, K
    for row, plan, (H, W, C, M, K) in zip(rows, plans, shapes, strict=True):
        groups = M // (row["pe"] * plan.groups)
        columns = ceil_div(W + 2 * (K // 2), plan.columns)
        passes = (K // row["kernel_rows"]) * (C // row["simd"]) * plan.word_steps
        assert row["mac_cycles"] == H * groups * columns * passes


def test_usage_has_bounds():
    assert hardware._usage(Usage(3, 100, 50, 7)) == {
        "dsp": 3,
        "lut": 100,
        "ff": 50,
        "bram18": 7,
        "lut_low": 40,
        "lut_high": 160,
        "ff_low": 20,
        "ff_high": 80,
        "bram18_low": 7,
        "bram18_high": 7,
    }


def test_cycles_are_simulated_at_the_clock_of_the_run():
    timing = hardware._cycles(run_of(clock_mhz=100.0), design())
    assert json.loads(json.dumps(timing)) == timing
    pipeline = build(design())
    report = sim.simulate(pipeline, 3, clock_mhz=100.0)
    closed = cycles.analyse(pipeline, 100.0)
    assert timing["frames"] == 3
    assert timing["interval"] == report.interval_cycles
    assert timing["latency"] == report.latency_cycles
    assert timing["latency"] > timing["interval"] >= timing["closed_form_interval"]
    assert timing["closed_form_interval"] == closed.interval_cycles
    assert timing["bottleneck"] == closed.bottleneck
    assert timing["fps_at_clock"] == 100e6 / timing["interval"]
    assert list(timing["per_process"]) == [process.name for process in pipeline.processes]
    for process, form in zip(report.processes, closed.processes, strict=True):
        assert timing["per_process"][process.name] == {
            "closed_form": form.cycles,
            "busy": process.busy_cycles,
            "stall_input": process.input_empty_cycles,
            "stall_output": process.output_full_cycles,
        }
    assert len({tuple(row.values()) for row in timing["per_process"].values()}) > 1
    peaks = {fifo.name: (fifo.depth, fifo.latency, fifo.peak_words) for fifo in report.fifos}
    assert {name: tuple(row.values()) for name, row in timing["fifos"].items()} == peaks
    assert all(list(row) == ["depth", "latency", "peak"] for row in timing["fifos"].values())


def export_result(run: Run, digest: str | None) -> None:
    write_json(run.out / "export/result.json", {} if digest is None else {"digest": digest})


def export_project(run):
    project = hls.emit(design(), run.test_data.images[:2])
    hls.write(project, run.out / "hls")
    export_result(run, project.digest)


def test_the_project_of_this_graph_and_these_frames_is_accepted(tmp_path):
    run = run_of(tmp_path)
    export_project(run)
    hardware._check_project(run, design())


@pytest.mark.parametrize("file", ["src/weights.hpp", "include/mixq/window.hpp", "README.md"])
@pytest.mark.parametrize("content", [None, "#error edited"])
def test_a_project_that_was_changed_is_refused(tmp_path, file, content):
    run = run_of(tmp_path)
    export_project(run)
    path = tmp_path / "hls" / file
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(RunError) as refused:
        hardware._check_project(run, design())
    assert str(refused.value) == (
        f"{path} is not what was exported; run `{export_command(tmp_path)}` again"
    )


def test_another_project_is_refused(tmp_path):
    run = run_of(tmp_path)
    message = (
        f"{tmp_path / 'hls'} was exported from another graph or by another version; "
        f"run `{export_command(tmp_path)}` again"
    )
    other = tiny_design(seed=1)
    frames = run.test_data.images
    wrong = [None, hls.emit(design()).digest, hls.emit(design(), frames[:1]).digest]
    for digest in (*wrong, hls.emit(other, frames[:2]).digest):
        export_result(run, digest)
        with pytest.raises(RunError) as refused:
            hardware._check_project(run, design())
        assert str(refused.value) == message


def test_a_missing_export_is_named(tmp_path):
    with pytest.raises(RunError) as refused:
        hardware._check_project(run_of(tmp_path), design())
    assert str(refused.value) == (
        f"{tmp_path / 'export/result.json'} is missing; run `{export_command(tmp_path)}` first"
    )


@pytest.mark.parametrize("first", [None, Mismatch("conv1", 0, 1, 2, 3, 5, -6)])
def test_what_the_c_simulation_found(monkeypatch, first):
    run, count, asked = with_csim_frames(9), 7 if first else 0, []

    def compare(*arguments):
        asked.append(arguments)
        return Comparison(CsimResult(np.zeros(0), 1.5, 0.5), 1234, count, first)

    monkeypatch.setattr(csim, "compare", compare)
    found = hardware._csim(run, design().graph, design())
    assert json.loads(json.dumps(found)) == found
    assert found.pop("seconds") >= 0
    assert found == {
        "frames": 4,
        "mismatches": count,
        "first_mismatch": first
        and "node 'conv1', frame 0, pixel (1, 2), channel 3: expected 5, got -6",
        "values": 1234,
        "compared": "all integers of all layers",
        "compile_seconds": 1.5,
    }
    ((graph, mapped, frames),) = asked
    assert (graph, mapped) == (design().graph, design())
    assert np.array_equal(frames, run.test_data.images)


@pytest.mark.parametrize(
    ("given", "names", "widths"),
    [
        ({}, ("search", "train", "test", "export", "simulate"), "w 222222222 a 222222222"),
        ({}, ("search",), "w 222222222 a 222222222"),
        ({}, ("train",), None),
        ({}, ("export",), None),  # the widths are those of the search, which has checked
        ({"wbits": "3" * 9, "abits": "8" * 9}, ("train", "export"), "w 333333333 a 888888888"),
        ({"wbits": "3" * 9, "abits": "8" * 9}, ("train", "test"), None),
    ],
)
def test_a_network_that_fits_no_folding_is_refused_before_the_work(
    monkeypatch, given, names, widths
):
    asked = []
    monkeypatch.setattr(hardware.dse, "check", lambda *found: asked.append(found))
    run = run_of(**given, device="xc7z020")
    hardware.check_fits(run, names)
    assert len(asked) == (widths is not None)
    for graph, part in asked:
        assert part == device("xc7z020")
        _, w, _, a = widths.split()
        assert [conv.w_format.bits for conv in graph.of_type(Conv)] == list(map(int, w))
        assert graph.input.bits == int(a[0])


@pytest.fixture
def exported(tmp_path, monkeypatch) -> tuple[Run, dict]:
    """A run whose trained network is the tiny graph, and the result of its export."""
    graphs = {("spec", "bits", "trained"): tiny_graph()}
    monkeypatch.setattr(hardware, "trained_variables", lambda run: "trained")
    monkeypatch.setattr(export, "to_graph", lambda *arguments: graphs[arguments])
    monkeypatch.setattr(Run, "chosen_bits", lambda run: "bits")
    run = run_of(tmp_path)
    vars(run)["spec"] = "spec"
    return run, hardware.run_export(run)


def test_export_leaves_graph_and_project(exported):
    run, result = exported
    assert ir_io.dumps(ir_io.load(run.out / "graph")) == ir_io.dumps(tiny_graph())
    project = hls.emit(hardware.design_of(run, tiny_graph()), run.test_data.images[:2])
    on_disk = {
        str(path.relative_to(run.out / "hls")): path.read_bytes()
        for path in (run.out / "hls").rglob("*")
        if path.is_file()
    }
    assert on_disk == dict(project.files)
    assert "tb/golden_out.bin" in on_disk
    assert result == {
        "files": len(on_disk),
        "bytes": sum(map(len, on_disk.values())),
        "digest": project.digest,
    }


def test_simulation_counts_the_exported_design(exported, monkeypatch):
    run, result = exported
    write_json(run.out / "export/result.json", result)
    comparison = Comparison(CsimResult(np.zeros(0), 0.0, 0.0), 99, 0, None)
    monkeypatch.setattr(csim, "compare", lambda *_: comparison)
    found = hardware.run_simulate(run)
    chosen = hardware.design_of(run, tiny_graph())
    used = resources.estimate(chosen)
    assert set(found) == {"csim", "cycles", "resources", "layers"}
    assert found["csim"]["values"] == 99
    assert found["cycles"] == hardware._cycles(run, chosen)
    assert found["layers"] == hardware._layers(chosen, used)
    assert found["resources"].items() >= asdict(used.total).items()


def test_simulation_stops_before_the_compiler_where_the_project_is_another(exported, monkeypatch):
    run, result = exported
    write_json(run.out / "export/result.json", result | {"digest": "0" * 64})
    monkeypatch.setattr(csim, "compare", lambda *_: pytest.fail("compiled"))
    with pytest.raises(RunError, match="was exported from another graph or by another version"):
        hardware.run_simulate(run)


@pytest.mark.slow
@pytest.mark.csim
def test_the_exported_project_computes_the_integers_of_its_graph(exported):
    run, result = exported
    write_json(run.out / "export/result.json", result)
    found = hardware.run_simulate(run)["csim"]
    assert (found["frames"], found["mismatches"], found["first_mismatch"]) == (2, 0, None)
    assert found["values"] > 2 * 6 * 7 * 4
    assert found["compile_seconds"] <= found["seconds"]
