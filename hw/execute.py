# SPDX-License-Identifier: Apache-2.0
"""Numpy executor of a Graph: the semantics that every other backend equals with `==`."""

import numpy as np

from hw.ir import (
    Add,
    Concat,
    Conv,
    Graph,
    Input,
    IRError,
    Linear,
    MaxPool,
    Node,
    Output,
    Patches,
    Reorg,
    Requant,
    sources,
)
from hw.ir_verify import verify


def execute(graph: Graph, pixels: np.ndarray) -> np.ndarray:
    """Return the integers of the Output node, int64 `[N, H, W, C]`, for `pixels` `[N, H, W, C]`."""
    return run(graph, pixels)[graph.output.name]


def run(graph: Graph, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Return every node's integers, int64 `[N, H, W, C]`, by node name.

    `pixels`: integers `[N, height, width, channels]` in [0, 2^port_bits). Raises IRError for a
    shape-only graph or for pixels of another shape or range.
    """
    verify(graph)
    if not graph.has_parameters:
        raise IRError(f"graph '{graph.name}' is shape-only; export it with parameters to run it")
    _check_pixels(graph.input, pixels)
    values: dict[str, np.ndarray] = {}
    for node in graph.nodes:
        inputs = [values[name] for name in sources(node)]
        values[node.name] = _run_node(node, inputs or [pixels.astype(np.int64)])
    return values


def _check_pixels(node: Input, pixels: np.ndarray) -> None:
    shape = (node.height, node.width, node.channels)
    if pixels.ndim != 4 or pixels.shape[1:] != shape or pixels.dtype.kind not in "iu":
        raise IRError(
            f"input '{node.name}': pixels are {pixels.dtype} {pixels.shape}, "
            f"need integers [N, {shape[0]}, {shape[1]}, {shape[2]}]"
        )
    if pixels.size and not 0 <= int(pixels.min()) <= int(pixels.max()) < 1 << node.port_bits:
        raise IRError(f"input '{node.name}': pixels must be in 0..{(1 << node.port_bits) - 1}")


def _run_node(node: Node, inputs: list[np.ndarray]) -> np.ndarray:
    x = inputs[0]
    match node:
        case Input():
            return x >> (node.port_bits - node.bits)
        case Conv():
            return _conv(node, x)
        case Linear():
            return _add_bias(node, _matmul(x.reshape(len(x), 1, 1, -1), node.weights))
        case Requant():
            return _requant(node, x)
        case MaxPool():
            return _blocks(x, node.size).max((2, 4))
        case Reorg():
            blocks = _blocks(x, node.block).transpose(0, 1, 3, 2, 4, 5)
            return blocks.reshape(*blocks.shape[:3], -1)
        case Patches():
            windows = _windows(x, node.kernel, node.stride, node.padding)
            return windows.reshape(*windows.shape[:3], -1)
        case Concat():
            return np.concatenate(inputs, -1)
        case Add():
            return inputs[0] + inputs[1]
        case Output():
            return x


def _conv(node: Conv, x: np.ndarray) -> np.ndarray:
    windows = _windows(x, node.kernel, node.stride, node.padding)
    fan_in, fan_out = x.shape[-1] // node.groups, node.out_channels // node.groups
    parts = [
        _matmul(
            windows[..., g * fan_in : (g + 1) * fan_in].reshape(*windows.shape[:3], -1),
            node.weights[..., g * fan_out : (g + 1) * fan_out].reshape(-1, fan_out),
        )
        for g in range(node.groups)
    ]
    return _add_bias(node, np.concatenate(parts, -1))


def _windows(x: np.ndarray, kernel: int, stride: int, pad: int) -> np.ndarray:
    """Return `[N, H', W', kernel, kernel, C]`: what a kernel sees at each of its places."""
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))
    return windows[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)


def _matmul(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Integer product through float64 GEMM: exact because the verifier bounds |sums| < 2^53."""
    return (x.astype(np.float64) @ weights.astype(np.float64)).astype(np.int64)


def _add_bias(node: Conv | Linear, acc: np.ndarray) -> np.ndarray:
    return acc if node.bias is None else acc + node.bias


def _requant(node: Requant, acc: np.ndarray) -> np.ndarray:
    half = (1 << node.shift) >> 1
    return np.clip((acc * node.mul + node.bias + half) >> node.shift, 0, (1 << node.bits) - 1)


def _blocks(x: np.ndarray, size: int) -> np.ndarray:
    """View `[N, H, W, C]` as `[N, H', size, W', size, C]`, dropping left-over rows and columns."""
    n, height, width, channels = x.shape
    rows, columns = height // size, width // size
    cut = x[:, : rows * size, : columns * size]
    return cut.reshape(n, rows, size, columns, size, channels)
