# SPDX-License-Identifier: Apache-2.0
"""Design -> HLS project: parameters, tables, top function, test bench, scripts.

The C++ that computes is hand-written (`include/mixq`); what is emitted here configures it.
"""

import re
from importlib.resources import files

import numpy as np

from hw.dataflow import build, layout
from hw.design import Design
from hw.execute import execute
from hw.hls.beats import input_beats, output_beats, pack_frames, pack_results
from hw.hls.build_plan import BuildPlan, HlsError
from hw.hls.processes import ProcessText, process_text
from hw.hls.project import makefile, readme, run_hls
from hw.pipeline import Pipeline, Stream
from hw.stages import stages

_LICENSE = "// SPDX-License-Identifier: Apache-2.0"
_STATIC_FOLDERS = ("include/mixq", "include/csim", "tcl")


def emit(design: Design, frames: np.ndarray | None = None) -> BuildPlan:
    """Return the HLS project of `design`; equal designs give equal bytes.

    `frames`: pixels `[N, H, W, C]`; with them the project carries `tb/golden_in.bin` and
    `tb/golden_out.bin` and checks itself against the integer network. Raises HlsError for a design
    that the templates do not cover, DesignError and IRError for an illegal one.
    """
    if not design.graph.has_parameters:
        raise HlsError(f"graph '{design.graph.name}' is shape-only; export it with parameters")
    pipeline = build(design)
    texts = _process_texts(design)
    stem = identifier(design.graph.name)
    top, space = f"{stem}_top", f"{stem}_net"
    contents = {
        "src/params.hpp": _params(space, texts),
        "src/weights.hpp": _weights(space, texts),
        "src/top.hpp": _top_header(top, design.port_bits),
        "src/top.cpp": _top_source(top, space, pipeline, texts),
        "tb/testbench.cpp": _testbench(top, pipeline),
        "run_hls.tcl": run_hls(design, top, checked=frames is not None),
        "Makefile": makefile(top),
        "README.md": readme(design, pipeline, top),
    }
    contents = {path: text.encode() for path, text in contents.items()} | static_files()
    if frames is not None:
        contents |= _golden(design, pipeline, frames)
    return BuildPlan(top, pipeline, tuple(sorted(contents.items())))


def static_files() -> dict[str, bytes]:
    """Return the hand-written files that every project carries, by their path in it."""
    package = files("hw.hls")
    return {
        f"{folder}/{entry.name}": entry.read_bytes()
        for folder in _STATIC_FOLDERS
        for entry in package.joinpath(folder).iterdir()
        if entry.is_file()
    }


def identifier(name: str) -> str:
    """Return `name` as the beginning of a C++ identifier: what is not allowed becomes `_`."""
    stem = re.sub(r"\W", "_", name, flags=re.ASCII)
    return stem if stem[:1].isalpha() else f"net_{stem}"


def _golden(design: Design, pipeline: Pipeline, frames: np.ndarray) -> dict[str, bytes]:
    first, last = pipeline.processes[0], pipeline.processes[-1]
    return {
        "tb/golden_in.bin": pack_frames(first, frames),
        "tb/golden_out.bin": pack_results(last, execute(design.graph, frames)),
    }


def _process_texts(design: Design) -> tuple[ProcessText, ...]:
    """Return the C++ of every process."""
    chain = stages(design.graph)
    return tuple(
        process_text(process, chain[index or 0], design.layers[index or 0])
        for index, processes in layout(design)
        for process in processes
    )


def _guarded(guard: str, purpose: str, body: list[str]) -> str:
    """Return a header: license, purpose, include guard around `body`."""
    head = [_LICENSE, "//", f"// {purpose}", f"#ifndef {guard}", f"#define {guard}", ""]
    return "\n".join([*head, *body, "", "#endif", ""])


def _params(space: str, texts: tuple[ProcessText, ...]) -> str:
    structs = [f"{struct}\n" for text in texts for _, struct in text.structs]
    body = [f"namespace {space} {{", "", *structs, f"}}  // namespace {space}"]
    return _guarded(f"{space}_PARAMS_HPP".upper(), "Configuration of every process.", body)


def _weights(space: str, texts: tuple[ProcessText, ...]) -> str:
    tables = [f"{table}\n" for text in texts for _, table in text.tables]
    opening = ['#include "mixq/words.hpp"', "", f"namespace {space} {{", ""]
    body = [*opening, *tables, f"}}  // namespace {space}"]
    return _guarded(f"{space}_WEIGHTS_HPP".upper(), "Weights and requantisation tables.", body)


def _signature(top: str, port_bits: int) -> list[str]:
    port = f"hls::stream<mixq::Beat<{port_bits}> >&"
    return [f"void {top}({port} image_in, {port} result_out,", f"{'':{len(top) + 6}}int frames)"]


def _top_header(top: str, port_bits: int) -> str:
    *lines, last = _signature(top, port_bits)
    body = ['#include "mixq/words.hpp"', "", "/// Run `frames` frames.", *lines, f"{last};"]
    return _guarded(f"{top}_HPP".upper(), "Top function of the accelerator.", body)


def _top_source(top: str, space: str, pipeline: Pipeline, texts: tuple[ProcessText, ...]) -> str:
    """Return the dataflow region: FIFOs, then one call per process in stream order."""
    image_in, *fifos, _ = pipeline.streams
    words = dict(zip((process.name for process in pipeline.processes), texts, strict=True))
    *lines, last = _signature(top, image_in.width_bits)
    includes = ["top.hpp", "mixq/mixq.hpp", "params.hpp", "weights.hpp"]
    interfaces = ["axis port = image_in", "axis port = result_out"]
    interfaces += ["s_axilite port = frames", "s_axilite port = return"]
    body = [_LICENSE, "", *(f'#include "{name}"' for name in includes), "", *lines, f"{last} {{"]
    body += [f"#pragma HLS INTERFACE {interface}" for interface in interfaces]
    body += ["#pragma HLS DATAFLOW"]
    for fifo in fifos:
        body += _fifo(fifo, words[fifo.producer].word)
    for process, text in zip(pipeline.processes, texts, strict=True):
        joined = pipeline.inputs(process.name), pipeline.outputs(process.name)
        body += _call(space, text, [stream.name for side in joined for stream in side])
    return "\n".join([*body, "}", ""])


def _fifo(fifo: Stream, word: str) -> list[str]:
    name = fifo.name
    return [
        f'  hls::stream<mixq::{word} >\n      {name}("{name}");',
        f"#pragma HLS STREAM variable = {name} depth = {fifo.depth}",
        f"#pragma HLS AGGREGATE variable = {name} compact = bit",
    ]


def _call(space: str, text: ProcessText, streams: list[str]) -> list[str]:
    arguments = [*streams, *(f"{space}::{name}" for name, _ in text.tables), "frames"]
    types = ", ".join(f"{space}::{name}" for name, _ in text.structs)
    return [f"  mixq::{text.template}<{types}>(", f"      {', '.join(arguments)});"]


def _testbench(top: str, pipeline: Pipeline) -> str:
    first, last = pipeline.processes[0], pipeline.processes[-1]
    arguments = f"argc, argv, {top}, {input_beats(first)}, {output_beats(last)}"
    body = [
        _LICENSE,
        "",
        '#include "../src/top.hpp"',
        '#include "csim/testbench.hpp"',
        "",
        "int main(int argc, char** argv) {",
        f"  return mixq::csim::testbench<{first.port_bits}>(",
        f"      {arguments});",
        "}",
        "",
    ]
    return "\n".join(body)
