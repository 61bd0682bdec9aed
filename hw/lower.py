# SPDX-License-Identifier: Apache-2.0
"""Operators that the accelerator has no process for, in terms of those that it has."""

from dataclasses import replace

from hw.design import DesignError
from hw.ir import Conv, Graph, Linear, Node, Patches, Reorg, TensorType
from hw.ir_verify import verify


def lower(graph: Graph) -> Graph:
    """Return an equal graph in which dense layers and strided convolutions are 1x1 convolutions.

    Dense: of the map flattened by space to depth, whose channels come in the order (row, column,
    channel) of `Linear`. Strided: of `Patches`. Nodes keep their names; those put before them are
    new. Raise IRError for a graph that breaks docs/IR.md and DesignError for a dense layer on a
    map that is not square.
    """
    types, nodes = verify(graph), []
    for node in graph.nodes:
        match node:
            case Linear(source=source):
                nodes += _lower_linear(node, types[source])
            case Conv(stride=stride, groups=1) if stride > 1:
                nodes += _lower_strided(node)
            case _:
                nodes.append(node)
    if len(nodes) == len(graph.nodes) and not graph.of_type(Linear):
        return graph
    return Graph(graph.name, tuple(nodes), graph.version)


def _lower_strided(node: Conv) -> list[Node]:
    name = f"{node.name}_patches"
    weights = None
    if node.weights is not None:
        weights = node.weights.reshape(1, 1, -1, node.out_channels)
    return [
        Patches(name, node.source, node.kernel, node.stride, node.padding),
        replace(node, source=name, kernel=1, stride=1, padding=0, weights=weights),
    ]


def _lower_linear(node: Linear, source: TensorType) -> list[Node]:
    if source.height != source.width:
        raise DesignError(
            f"dense layer '{node.name}' reads a {source.height}x{source.width} map; the "
            "accelerator flattens square ones only"
        )
    flat: list[Node] = []
    name = node.source
    if source.height > 1:
        name = f"{node.name}_flat"
        flat = [Reorg(name, node.source, source.height)]
    weights = None if node.weights is None else node.weights[None, None]
    dense = Conv(
        node.name,
        name,
        node.out_channels,
        1,
        node.w_format,
        weights=weights,
        bias=node.bias,
    )
    return [*flat, dense]
