# SPDX-License-Identifier: Apache-2.0
"""FIFOs between processes: who feeds whom, how wide and how many the words are, how deep it is."""

from collections.abc import Iterator
from dataclasses import replace

from hw.bypass import BranchRows, branch_rows, concat_link
from hw.cycles import concatenated_words, patch_words, window_words
from hw.design import DesignError
from hw.intmath import ceil_div
from hw.ir import Concat, Conv, Graph, Node, sources
from hw.pipeline import (
    AddStreams,
    Concatenate,
    Fork,
    InputPort,
    MacArray,
    OutputPort,
    PatchBuffer,
    Pool,
    Process,
    Requantise,
    SpaceToDepth,
    Stream,
    Window,
)

SLACK_WORDS = 64  # for the pipeline registers of a branch, a dozen a layer
DEFAULT_DEPTH = 2  # the least with which a registered FIFO moves a word every cycle


def streams(graph: Graph, processes: tuple[Process, ...]) -> Iterator[Stream]:
    """Yield the FIFOs between `processes`, with default depths, in the order of their readers."""
    by_name, rows = {process.name: process for process in processes}, branch_rows(graph)
    for process in processes:
        for index, producer in enumerate(_producers(graph, process)):
            depth = default_depth(process, index, rows)
            name = f"{producer}_to_{process.name}"
            yield Stream(name, producer, process.name, *output_words(by_name[producer]), depth)


def _producers(graph: Graph, process: Process) -> tuple[str, ...]:
    """Return the names of the processes that `process` reads, in order."""
    match process:
        case InputPort():
            return ()
        case Window(name=name):
            return (_provider(graph, graph[name.removesuffix("_window")]),)
        case MacArray(layer=layer):
            return (f"{layer}_window",)
        case Requantise(node=node):
            return (_provider(graph, graph[node]),)
        case OutputPort(node=node):
            return (f"{node}_mac",)
        case Pool(name=name) | SpaceToDepth(name=name) | PatchBuffer(name=name):
            return (_provider(graph, graph[name]),)
        case Fork(name=name):
            node, index = name.rsplit("_fork", 1)
            return (_own(graph, node) if index == "0" else f"{node}_fork{int(index) - 1}",)
        case AddStreams(name=name):
            return _provider(graph, graph[name], 0), _provider(graph, graph[name], 1)
        case Concatenate(name=name):
            node, links = next(
                (node, links) for node in graph.of_type(Concat) if name in (links := _links(node))
            )
            index = links.index(name)
            first = links[index - 1] if index else _provider(graph, node, 0)
            return first, _provider(graph, node, index + 1)


def _own(graph: Graph, node: str) -> str:
    """Return the process that makes the codes of a node."""
    if node == graph.input.name:
        return "input"
    found = graph[node]
    if isinstance(found, Conv):
        return f"{node}_mac"
    if isinstance(found, Concat) and len(found.sources) == 1:
        return _provider(graph, found, 0)
    return node


def _provider(graph: Graph, reader: Node, index: int = 0) -> str:
    """Return the process that offers source `index` of a node: the one that makes it or a fork.

    Of several readers every one has a fork of its own, but the last two share one.
    """
    source = sources(reader)[index]
    readers = [node.name for node in graph.consumers(source)]
    if len(readers) == 1:
        return _own(graph, source)
    return f"{source}_fork{min(readers.index(reader.name), len(readers) - 2)}"


def _links(node: Concat) -> list[str]:
    """Return the processes that concatenate the sources of a node, two streams at a time."""
    return [concat_link(node, index) for index in range(2, len(node.sources) + 1)]


def input_beats(port: InputPort) -> int:
    """Return the beats of one frame at the input port."""
    return ceil_div(port.height * port.width * port.channels * port.pixel_bits, port.port_bits)


def output_words(process: Process) -> tuple[int, int]:
    """Return (width in bits, words per frame) of what `process` writes."""
    match process:
        case InputPort(height=H, width=W, channels=C, bits=bits):
            return C * bits, H * W
        case Window(height=H):
            width = process.kernel_rows * process.columns * process.simd * process.bits
            return width, H * window_words(process)[1]
        case MacArray(height=H, out_channels=M, pe=pe, groups=groups):
            parallel = pe * groups
            width = process.columns * parallel * process.acc_bits
            return width, H * (M // parallel) * process.column_steps
        case Requantise(height=H, width=W, out_channels=M, out_parallel=parallel):
            return parallel * process.bits, H * W * (M // parallel)
        case Pool(height=H, width=W, out_channels=M, parallel=parallel):
            return parallel * process.bits, (H // 2) * (W // 2) * (M // parallel)
        case Fork(height=H, width=W, channels=C, columns=columns):
            width = max(columns, 1) * process.parallel * process.bits
            return width, H * W * (C // process.parallel)
        case SpaceToDepth(height=H, width=W, channels=C):
            return process.parallel * process.bits, H * W * (C // process.parallel)
        case PatchBuffer(height=H, stride=stride):
            return process.parallel * process.bits, H // stride * patch_words(process)[1]
        case AddStreams(height=H, width=W, channels=C, parallel=parallel):
            return parallel * process.acc_bits, H * W * (C // parallel)
        case Concatenate(height=H):
            return process.parallel * process.bits, H * sum(concatenated_words(process))
        case OutputPort(height=H, width=W, out_channels=M, values_per_beat=values):
            return process.port_bits, H * W * (M // values)


def default_depth(consumer: Process, index: int = 0, rows: BranchRows | None = None) -> int:
    """Return the default depth of FIFO `index` into `consumer`.

    A row into a window or a patch buffer, the rows that one branch runs ahead (`branch_rows`) into
    a concatenation or an addition, else two words.
    """
    match consumer:
        case Window():
            return max(DEFAULT_DEPTH, window_words(consumer)[0])
        case PatchBuffer():
            return max(DEFAULT_DEPTH, patch_words(consumer)[0] // consumer.stride)
        case Concatenate(name=name) if rows is not None:
            return rows[name][index] * concatenated_words(consumer)[index] + SLACK_WORDS
        case AddStreams(name=name, width=W, channels=C, parallel=parallel) if rows is not None:
            return rows[name][index] * W * C // parallel + SLACK_WORDS
        case _:
            return DEFAULT_DEPTH


def with_depths(
    fifos: tuple[Stream, ...], depths: tuple[tuple[str, int], ...]
) -> tuple[Stream, ...]:
    """Return `fifos` with the given depths in words; DesignError for unknown names and depths."""
    known = {fifo.name: fifo for fifo in fifos}
    for name, depth in depths:
        if name not in known:
            raise DesignError(f"fifo_depths names '{name}'; the FIFOs are: {', '.join(known)}")
        if depth < DEFAULT_DEPTH:
            raise DesignError(
                f"fifo_depths gives '{name}' {depth} words; a registered FIFO needs at least "
                f"{DEFAULT_DEPTH} to move one every cycle"
            )
        known[name] = replace(known[name], depth=depth)
    return tuple(known.values())
