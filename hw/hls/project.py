# SPDX-License-Identifier: Apache-2.0
"""Scripts and README of an HLS project."""

from hw.design import Design
from hw.pipeline import Pipeline


def run_hls(design: Design, top: str, checked: bool) -> str:
    """Return the Tcl entry point; C simulation and co-simulation run if golden data is there."""
    return f"""\
# SPDX-License-Identifier: Apache-2.0
# Usage: vitis_hls -f run_hls.tcl

set top {top}
set part {design.device.part}
set clock_ns {1000 / design.clock_mhz:.3f}
set steps {{{"csim csynth cosim export" if checked else "csynth export"}}}
set project [file normalize [file dirname [info script]]]
source [file join $project tcl flow.tcl]
"""


def makefile(top: str) -> str:
    """Return the Makefile of the C simulation with a plain C++ compiler."""
    return f"""\
# SPDX-License-Identifier: Apache-2.0
# C simulation without a vendor tool: make check AP_INCLUDE=folder of ap_int.h

CXXFLAGS = -std=c++14 -O2 -Wno-unknown-pragmas -Iinclude -Iinclude/csim -isystem $(AP_INCLUDE)

{top}: src/top.cpp tb/testbench.cpp $(wildcard src/*.hpp include/*/*)
\t$(CXX) $(CXXFLAGS) -o $@ src/top.cpp tb/testbench.cpp

check: {top}
\t./{top} check tb/golden_in.bin tb/golden_out.bin

clean:
\trm -f {top}

.PHONY: check clean
"""


def readme(design: Design, pipeline: Pipeline, top: str) -> str:
    """Return the README: what the project is, how to run it, what goes over its ports."""
    image, head = pipeline.processes[0], pipeline.processes[-1]
    return f"""\
# {design.graph.name}: streaming accelerator

Top function `{top}` (src/top.cpp) for {design.device.name} ({design.device.part}) at \
{design.clock_mhz:g} MHz.
One dataflow region: every process is one loop with initiation interval 1, joined to the next by a
FIFO.

| folder | holds |
|---|---|
| src | configuration, tables and the dataflow region (generated) |
| include/mixq | the templates (hand-written, synthesizable) |
| include/csim | test bench, and stand-ins for vendor headers (never on a vendor's include path) |
| tb | test bench; golden_in.bin and golden_out.bin if the project was written with frames |
| tcl, run_hls.tcl | Vitis HLS flow: `vitis_hls -f run_hls.tcl` |

C simulation with g++: `make check AP_INCLUDE=FOLDER`, FOLDER holding `ap_int.h`.

## Ports

- `image_in`, AXI-Stream, {image.port_bits} bits: {image.height} x {image.width} pixels of \
{image.channels} channels, {image.pixel_bits} bits each,
  row by row, channel 0 first in the low bits, without gaps; every frame starts on a fresh beat.
- `result_out`, AXI-Stream, {head.port_bits} bits: {head.height} x {head.width} results of \
{head.out_channels} channels, int32,
  {head.values_per_beat} per beat; order: row, group of {head.out_parallel} channels, column,
  channel; `last` on the final beat of every frame. Real value = integer x scale of the channel.
- `frames`, AXI-Lite: frames per start.

The golden files hold exactly these beats, little endian.

## Layers

| layer | weight x activation bits | PE x SIMD x kernel rows | packing |
|---|---|---|---|
{_layers(design)}
"""


def _layers(design: Design) -> str:
    return "\n".join(
        f"| {layer.name} | {layer.plan.w_bits} x {layer.plan.a_bits} "
        f"| {layer.folding.pe} x {layer.folding.simd} x {layer.folding.kernel_rows} "
        f"| {layer.plan.kernel} taps x {layer.plan.groups} channels x {layer.plan.columns} columns "
        f"in {layer.plan.word_steps} cycles, decode {layer.plan.mode} |"
        for layer in design.layers
    )
