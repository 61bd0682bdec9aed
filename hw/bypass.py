# SPDX-License-Identifier: Apache-2.0
"""How far the branches of a graph run ahead of each other: what FIFOs where they meet must hold.

A branch delays its codes by the rows that its processes keep: a window of padding p sends row q
when row q + p + 1 has come, a pool row r when row 2 r + 1 has, space-to-depth sends a block of rows
while the next one comes. Rows are counted at the image, where a row of a pooled map is two.
"""

from math import ceil

from hw.ir import Add, Concat, Conv, Graph, MaxPool, Patches, Reorg, sources
from hw.ir_verify import infer

BranchRows = dict[str, tuple[int, int]]
SLACK_ROWS = 2  # one that is sent and one that arrives


def branch_rows(graph: Graph) -> BranchRows:
    """Return, for every pair of streams that meets, the rows that each FIFO must hold.

    By the name of the process (`hw.fifos`).
    """
    delays, rows = image_rows(graph), {}
    for node in graph.of_type(Concat, Add):
        scale = _scale(graph, node.name)
        before = delays[node.sources[0]]
        for index, name in enumerate(node.sources[1:], 2):
            latest = max(before, delays[name])
            held = (ceil((latest - own) / scale) + SLACK_ROWS for own in (before, delays[name]))
            rows[concat_link(node, index)], before = tuple(held), latest
    return rows


def concat_link(node: Concat | Add, index: int) -> str:
    """Return the name of the process that joins the first `index` sources of a node."""
    return node.name if index == len(node.sources) else f"{node.name}_{index}"


def image_rows(graph: Graph) -> dict[str, float]:
    """Return by how many rows of the image the codes of every node come late."""
    late: dict[str, float] = {}
    for node in graph.nodes:
        before = max((late[name] for name in sources(node)), default=0.0)
        match node:
            case Conv():
                before += (node.padding + 1) * _scale(graph, node.source)
            case MaxPool():
                before += _scale(graph, node.source) * (node.size - 1)
            case Patches():
                rows = node.kernel - node.padding + node.stride
                before += _scale(graph, node.source) * rows
            case Reorg():
                before += _scale(graph, node.source) * (2 * node.block - 1)
        late[node.name] = before
    return late


def _scale(graph: Graph, name: str) -> float:
    """Return the rows of the image that a row of a node's result stands for."""
    return graph.input.height / infer(graph)[name].height
