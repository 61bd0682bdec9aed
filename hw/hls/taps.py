# SPDX-License-Identifier: Apache-2.0
"""Logged streams of a C simulation -> the integers of the graph's nodes."""

from pathlib import Path

import numpy as np

from hw.ir import Concat, Graph
from hw.pipeline import (
    AddStreams,
    Concatenate,
    Fork,
    InputPort,
    MacArray,
    OutputPort,
    PatchBuffer,
    Pipeline,
    Pool,
    Process,
    Requantise,
    SpaceToDepth,
    Window,
)


def decode_taps(pipeline: Pipeline, graph: Graph, folder: Path) -> dict[str, np.ndarray]:
    """Return int64 `[N, H, W, C]` of every node whose integers the logs in `folder` hold.

    That is Input, every Conv (its bias added), Requant, MaxPool, Reorg, Concat and Add; `folder`
    holds `<stream>.tap` files of int64 elements in word order. Forks only copy what comes from
    others.
    """
    values, nodes = {}, {node.name for node in graph.nodes}
    for process in pipeline.processes:
        for stream in () if isinstance(process, Fork) else pipeline.outputs(process.name):
            path = Path(folder, f"{stream.name}.tap")
            if path.exists():
                name, array = _decode(process, graph, np.fromfile(path, "<i8"))
                if name in nodes:  # not the first links of a long concatenation
                    values[name] = array
    for node in graph.of_type(Concat):
        if len(node.sources) == 1 and node.sources[0] in values:  # no process, the same stream
            values[node.name] = values[node.sources[0]]
    return values


def _decode(process: Process, graph: Graph, words: np.ndarray) -> tuple[str, np.ndarray]:
    """Return (node name, its integers) of the stream that `process` writes."""
    match process:
        case InputPort(height=H, width=W, channels=C):
            return graph.input.name, words.reshape(-1, H, W, C)
        case MacArray(layer=layer, height=H, out_channels=M, pe=pe, groups=G):
            columns = process.column_steps * process.columns
            padded = _ungroup(words, H, columns, M, pe * G)
            first = process.kernel - 1
            acc = padded[:, :, first : first + process.width]
            bias = graph[layer].bias
            return layer, acc if bias is None else acc + bias
        case Requantise(node=node, height=H, width=W, out_channels=M, out_parallel=parallel):
            return node, _ungroup(words, H, W, M, parallel)
        case Pool(name=name, height=H, width=W, out_channels=M, parallel=parallel):
            return name, _ungroup(words, H // 2, W // 2, M, parallel)
        case SpaceToDepth(name=name, height=H, width=W, channels=C, parallel=parallel, block=b):
            return name, _ungroup(words, H // b, W // b, b * b * C, parallel)
        case PatchBuffer(name=name, height=H, width=W, channels=C, parallel=parallel, stride=s):
            channels = process.kernel**2 * C
            return name, _ungroup(words, H // s, W // s, channels, parallel)
        case Concatenate(name=name, height=H, width=W, parallel=parallel):
            channels = process.first_channels + process.second_channels
            return name, _ungroup(words, H, W, channels, parallel)
        case AddStreams(name=name, height=H, width=W, channels=C, parallel=parallel):
            return name, _ungroup(words, H, W, C, parallel)
        case Window() | OutputPort() | Fork():
            raise AssertionError(f"'{process.name}' writes words that are not logged")


def _ungroup(words: np.ndarray, H: int, W: int, channels: int, parallel: int) -> np.ndarray:
    """Turn row -> channel group -> column -> channel into `[N, H, W, channels]`."""
    grouped = words.reshape(-1, H, channels // parallel, W, parallel)
    return grouped.transpose(0, 1, 3, 2, 4).reshape(-1, H, W, channels)
