# SPDX-License-Identifier: Apache-2.0
"""The chain of convolutions that the streaming accelerator maps, cut out of a graph."""

import re
from dataclasses import dataclass, replace

from hw.design import DesignError
from hw.ir import Conv, Graph, Input, MaxPool, Node, Output, Requant, TensorType
from hw.ir_verify import infer, verify

_FOLLOWERS = {Input: (Conv,), Conv: (Requant, Output), Requant: (Conv, MaxPool), MaxPool: (Conv,)}


@dataclass(frozen=True, eq=False)
class Stage:
    """One convolution, the types around it and the nodes up to the next convolution.

    `source` is the type of the codes it reads, `acc` of its sums of products (without the bias,
    which is added behind the array). `requant` is None for the head, whose accumulators leave
    through `Output`; `pool` is None where nothing is pooled. In a `depthwise` convolution every
    output channel reads the input channel of its number and no other.
    """

    conv: Conv
    source: TensorType
    acc: TensorType
    requant: Requant | None = None
    pool: MaxPool | None = None

    @property
    def depthwise(self) -> bool:
        return is_depthwise(self.conv, self.source)

    @property
    def fan_in(self) -> int:
        """Input channels that one output channel reads."""
        return 1 if self.depthwise else self.source.channels


def is_depthwise(conv: Conv, source: TensorType) -> bool:
    """Tell whether `conv` has one input channel per output channel (a single one is dense)."""
    return conv.groups == source.channels == conv.out_channels > 1


def stages(graph: Graph) -> tuple[Stage, ...]:
    """Return the stages of a chain Input, (Conv, Requant [, MaxPool])*, Conv, Output.

    Raise IRError for a graph that breaks docs/IR.md and DesignError, naming the node and what is
    supported, for one that is no such chain.
    """
    verify(graph)
    types = infer(_without_bias(graph))
    chain: list[Stage] = []
    for previous, node in zip((None, *graph.nodes), graph.nodes, strict=False):
        _check_place(previous, node)
        match node:
            case Conv():
                check_conv(node, types[node.source])
                chain.append(Stage(node, types[node.source], types[node.name]))
            case Requant():
                chain[-1] = replace(chain[-1], requant=node)
            case MaxPool():
                _check_pool(node, types[node.source])
                chain[-1] = replace(chain[-1], pool=node)
    return tuple(chain)


def _without_bias(graph: Graph) -> Graph:
    nodes = (replace(node, bias=None) if isinstance(node, Conv) else node for node in graph.nodes)
    return replace(graph, nodes=tuple(nodes))


def check_conv(conv: Conv, source: TensorType) -> None:
    """Raise DesignError unless the packed array can run `conv` on maps of type `source`: stride 1,
    dense or depthwise, odd K, same size.
    """
    rules = (
        ("stride", conv.stride, 1),
        ("groups", conv.groups, conv.groups if is_depthwise(conv, source) else 1),
        ("kernel", conv.kernel, conv.kernel | 1),
        ("padding", conv.padding, (conv.kernel - 1) // 2),
        ("weight scheme", conv.w_format.scheme, "fixed"),
    )
    for what, value, supported in rules:
        if value != supported:
            raise DesignError(
                f"convolution '{conv.name}' has {what} {value}; the packed array supports "
                f"{supported} (stride 1, dense or one group per channel, odd kernel, padding "
                "(kernel - 1) / 2)"
            )


def _check_pool(pool: MaxPool, source: TensorType) -> None:
    if pool.size != 2 or min(source.height, source.width) < 2:
        raise DesignError(
            f"pool '{pool.name}' takes {pool.size}x{pool.size} blocks of a "
            f"{source.height}x{source.width} map; supported are 2x2 blocks of maps from 2x2 on"
        )


def _check_place(previous: Node | None, node: Node) -> None:
    """Check kinds only: without Concat, a verified graph can have no other wiring than a chain."""
    kind = type(node).__name__
    allowed = (Input,) if previous is None else _FOLLOWERS.get(type(previous), ())
    if not isinstance(node, allowed):
        after = f"follows '{previous.name}' ({type(previous).__name__})" if previous else "is first"
        raise DesignError(
            f"node '{node.name}' ({kind}) {after}; the accelerator maps chains of Input, "
            "(Conv, Requant [, 2x2 MaxPool])*, Conv, Output"
        )
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", node.name):
        raise DesignError(
            f"node name '{node.name}' must be a C identifier (letters, digits, _; a letter first): "
            "it names a process of the accelerator"
        )
