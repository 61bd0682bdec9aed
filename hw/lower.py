# SPDX-License-Identifier: Apache-2.0
"""Operators that the accelerator has no process for, in terms of those that it has."""

from hw.design import DesignError
from hw.ir import Conv, Graph, Linear, Node, Reorg, TensorType
from hw.ir_verify import verify


def lower(graph: Graph) -> Graph:
    """Return an equal graph in which every dense layer is a 1x1 convolution.

    Its input is flattened by space to depth, whose channels come in the order (row, column,
    channel) of `Linear`. Nodes keep their names; those that flatten are new. Raise IRError for a
    graph that breaks docs/IR.md and DesignError for a map that is not square.
    """
    types, nodes = verify(graph), []
    if not graph.of_type(Linear):
        return graph
    for node in graph.nodes:
        nodes += _lower_linear(node, types[node.source]) if isinstance(node, Linear) else [node]
    return Graph(graph.name, tuple(nodes), graph.version)


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
