# SPDX-License-Identifier: Apache-2.0
"""Scripts and README of an HLS project."""

from hw.design import Design
from hw.pipeline import OutputPort, Pipeline


def run_hls(design: Design, top: str, checked: bool) -> str:
    """Return the Tcl entry point; C simulation and co-simulation run if golden data is there."""
    steps = "csim csynth cosim export" if checked else "csynth export"
    return "\n".join(
        [
            "# SPDX-License-Identifier: Apache-2.0",
            "# Usage: vitis_hls -f run_hls.tcl",
            "",
            f"set top {top}",
            f"set part {design.device.part}",
            f"set clock_ns {1000 / design.clock_mhz:.3f}",
            f"set steps {{{steps}}}",
            "set project [file normalize [file dirname [info script]]]",
            "source [file join $project tcl flow.tcl]",
            "",
        ]
    )


def makefile(top: str) -> str:
    """Return the Makefile of the C simulation with a plain C++ compiler."""
    return "\n".join(
        [
            "# SPDX-License-Identifier: Apache-2.0",
            "# C simulation without a vendor tool: make check AP_INCLUDE=folder of ap_int.h",
            "",
            "CXXFLAGS = -std=c++14 -O2 -Wno-unknown-pragmas -Iinclude -Iinclude/csim "
            "-isystem $(AP_INCLUDE)",
            "",
            f"{top}: src/top.cpp tb/testbench.cpp $(wildcard src/*.hpp include/*/*)",
            "\t$(CXX) $(CXXFLAGS) -o $@ src/top.cpp tb/testbench.cpp",
            "",
            f"check: {top}",
            f"\t./{top} check tb/golden_in.bin tb/golden_out.bin",
            "",
            ".PHONY: check",
            "",
        ]
    )


def readme(design: Design, pipeline: Pipeline, top: str) -> str:
    """Return the README: what the project is, how to run it, what goes over its ports."""
    image, head = pipeline.processes[0], pipeline.processes[-1]
    return "\n".join(
        [
            f"# {design.graph.name}: streaming accelerator",
            "",
            f"Top function `{top}` (src/top.cpp) for {design.device.name} ({design.device.part}) "
            f"at {design.clock_mhz:g} MHz.",
            "One dataflow region: every process is one loop with initiation interval 1, joined to "
            "the next by a FIFO.",
            "",
            "| folder | holds |",
            "|---|---|",
            "| src | configuration, tables and the dataflow region (generated) |",
            "| include/mixq | the templates (hand-written, synthesizable) |",
            "| include/csim | stand-ins for vendor headers and the test bench; keep it off the "
            "include path of vendor tools |",
            "| tb | test bench; golden_in.bin and golden_out.bin if the project was written with "
            "frames |",
            "| tcl, run_hls.tcl | Vitis HLS flow: `vitis_hls -f run_hls.tcl` |",
            "",
            "C simulation with g++: `make check AP_INCLUDE=FOLDER`, FOLDER holding `ap_int.h`.",
            "",
            "## Ports",
            "",
            f"`image_in`, AXI-Stream, {image.port_bits} bits: {image.height} x {image.width} pixels "
            f"of {image.channels} channels, {image.pixel_bits} bits each, row by row, channel 0 "
            "first in the low bits, without gaps; every frame starts on a fresh beat.",
            "",
            *_result_port(head),
            "",
            "`frames` (AXI-Lite): frames per start.",
            "",
            "The golden files hold exactly these beats, little endian.",
            "",
            "## Layers",
            "",
            "| layer | weight x activation bits | PE x SIMD x kernel rows | packing |",
            "|---|---|---|---|",
            *_layers(design),
            "",
        ]
    )


def _result_port(head: OutputPort) -> list[str]:
    return [
        f"`result_out`, AXI-Stream, {head.port_bits} bits: {head.height} x {head.width} results of "
        f"{head.out_channels} channels, int32, {head.values_per_beat} per beat; order row, then "
        f"group of {head.out_parallel} channels, then column, then channel; `last` on the final "
        "beat of every frame. Real value = integer x scale of the channel.",
    ]


def _layers(design: Design) -> list[str]:
    return [
        f"| {layer.name} | {layer.plan.w_bits} x {layer.plan.a_bits} "
        f"| {layer.folding.pe} x {layer.folding.simd} x {layer.folding.kernel_rows} "
        f"| {layer.plan.technique}: {layer.plan.groups} channels, {layer.plan.taps} taps, "
        f"{layer.plan.columns} columns, {layer.plan.dsps} DSP a word |"
        for layer in design.layers
    ]
