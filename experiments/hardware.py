# SPDX-License-Identifier: Apache-2.0
"""Stages that build: integer graph and HLS project; C simulation and the cycle-level simulator."""

import time
from dataclasses import asdict

import numpy as np

from experiments import run_folder
from experiments.learning import trained_variables
from experiments.progress import bar
from experiments.run_context import Run
from hw import cycles, dse, hls, ir_io, resources, sim
from hw.dataflow import build
from hw.design import Design
from hw.hls import csim
from hw.ir import Conv, Graph
from hw.ir_verify import infer
from hw.resources import Resources
from mixq_jax import export
from mixq_jax.bits import WIDTHS
from mixq_jax.model import uniform_bits

SIMULATED_FRAMES = 3


def check_fits(run: Run, stages: tuple[str, ...]) -> None:
    """Raise DesignError before minutes of work where the network fits the device at no folding.

    Widths that are still to be searched count as the narrowest. Where `stages` neither search nor
    export, the device decides nothing.
    """
    if "search" in stages:
        bits = uniform_bits(run.spec, *(WIDTHS[0],) * 3)
    elif "export" in stages and not run.options.needs_search:
        bits = run.chosen_bits()
    else:
        return
    dse.check(export.to_graph(run.spec, bits), run.device)


def run_export(run: Run) -> dict:
    """Fold to integers, choose the design, emit the project: OUT/graph, OUT/hls."""
    graph = export.to_graph(run.spec, run.chosen_bits(), trained_variables(run))
    ir_io.save(graph, run.out / "graph")
    with bar("choose folding", 1) as advance:
        design = design_of(run, graph)
        advance(1)
    project = hls.emit(design, csim_frames(run))
    hls.write(project, run.out / "hls")
    return {
        "files": len(project.files),
        "bytes": sum(len(content) for _, content in project.files),
        "digest": project.digest,
    }


def run_simulate(run: Run) -> dict:
    """Run the C++ against the integer network on whole frames; simulate the pipeline's cycles."""
    graph = ir_io.load(run.out / "graph")
    design = design_of(run, graph)
    _check_project(run, design)
    with bar("C simulation", 2) as advance:
        checked = _csim(run, graph, design)
        advance(2)
    with bar("cycle simulation", 1) as advance:
        timing = _cycles(run, design)
        advance(1)
    used = resources.estimate(design)
    return {
        "csim": checked,
        "cycles": timing,
        "resources": _usage(used.total),
        "layers": _layers(design, used),
    }


def _check_project(run: Run, design: Design) -> None:
    """Raise RunError if OUT/hls is not what OUT/graph gives on this device."""
    command = run.command("export")
    exported = run_folder.read_json(run.out / "export/result.json", command)
    project = hls.emit(design, csim_frames(run))
    if project.digest != exported.get("digest"):
        raise run_folder.RunError(
            f"{run.out / 'hls'} was exported from another graph or by another version; "
            f"run `{command}` again"
        )
    if (path := hls.first_difference(project, run.out / "hls")) is not None:
        raise run_folder.RunError(
            f"{run.out / 'hls' / path} is not what was exported; run `{command}` again"
        )


def design_of(run: Run, graph: Graph) -> Design:
    """Return the design for the run's device and clock (deterministic)."""
    return dse.optimise(graph, run.device, run.options.clock_mhz)


def csim_frames(run: Run) -> np.ndarray:
    """Return the frames on which the C++ is checked."""
    return np.asarray(run.test_data.images[: run.preset.csim_frames])


def _csim(run: Run, graph: Graph, design: Design) -> dict:
    frames = csim_frames(run)
    started = time.monotonic()
    comparison = csim.compare(graph, design, frames)
    return {
        "frames": len(frames),
        "mismatches": comparison.mismatches,
        "first_mismatch": comparison.first and str(comparison.first),
        "values": comparison.values,
        "compared": "all integers of all layers",
        "compile_seconds": comparison.result.seconds_compile,
        "seconds": time.monotonic() - started,
    }


def _cycles(run: Run, design: Design) -> dict:
    pipeline, clock_mhz = build(design), run.options.clock_mhz
    closed = {process.name: process for process in cycles.analyse(pipeline, clock_mhz).processes}
    report = sim.simulate(pipeline, SIMULATED_FRAMES, clock_mhz=clock_mhz)
    return {
        "frames": report.frames,
        "interval": report.interval_cycles,
        "latency": report.latency_cycles,
        "bottleneck": report.bottleneck,
        "fps_at_clock": report.fps,
        "closed_form_interval": max(process.cycles for process in closed.values()),
        "per_process": {
            process.name: {
                "closed_form": closed[process.name].cycles,
                "busy": process.busy_cycles,
                "stall_input": process.input_empty_cycles,
                "stall_output": process.output_full_cycles,
            }
            for process in report.processes
        },
        "fifos": {
            fifo.name: {"depth": fifo.depth, "latency": fifo.latency, "peak": fifo.peak_words}
            for fifo in report.fifos
        },
    }


def _usage(usage: resources.Usage) -> dict:
    return asdict(usage) | {
        "lut_low": usage.lut_low,
        "lut_high": usage.lut_high,
        "ff_low": usage.ff_low,
        "ff_high": usage.ff_high,
        # DSP and BRAM follow from widths and depths by rule; the tools may still merge or split.
        "bram18_low": usage.bram18,
        "bram18_high": usage.bram18,
    }


def _layers(design: Design, used: Resources) -> list[dict]:
    types = infer(design.graph)
    usage = {layer.name: layer.usage for layer in used.layers}
    closed = {p.name: p.cycles for p in cycles.analyse(build(design), design.clock_mhz).processes}
    rows = []
    for layer, conv in zip(design.layers, design.graph.of_type(Conv), strict=True):
        rows.append(
            {
                "name": layer.name,
                "w": conv.w_format.bits,
                "a": types[conv.source].bits,
                **asdict(layer.folding),
                "macs_per_dsp": float(layer.plan.macs_per_dsp),
                "groups": layer.plan.groups,
                "columns": layer.plan.columns,
                "word_steps": layer.plan.word_steps,
                "mode": layer.plan.mode,
                "known_bits": layer.plan.known_bits,
                "chain": layer.plan.chain,
                "mac_cycles": closed[f"{layer.name}_mac"],
                **asdict(usage[layer.name]),
            }
        )
    return rows
