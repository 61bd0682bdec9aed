# SPDX-License-Identifier: Apache-2.0
"""The convolutions that the streaming accelerator maps, and what lies between them in a graph."""

import re
from dataclasses import dataclass, replace

from hw.design import DesignError
from hw.ir import (
    Add,
    Concat,
    Conv,
    Graph,
    Input,
    MaxPool,
    Node,
    Output,
    Patches,
    Reorg,
    Requant,
    TensorType,
    sources,
)
from hw.ir_verify import infer, verify

Follower = MaxPool | Reorg | Patches | Concat | Add | Requant
_CODES = (Requant, MaxPool, Reorg, Patches, Concat)
_READS: dict[type, tuple[type, ...]] = {
    Conv: (Input, *_CODES),
    Requant: (Conv, Add),
    MaxPool: _CODES,
    Reorg: _CODES,
    Patches: (Input, *_CODES),
    Concat: _CODES,
    Add: _CODES,
    Output: (Conv,),
}


@dataclass(frozen=True, eq=False)
class Stage:
    """One convolution, the types around it and the nodes that pass its codes on.

    `source` is the type of the codes it reads, `acc` of its sums of products (without the bias,
    which is added behind the array). `requants`: one for each width at which the sums are read;
    none for the head, whose accumulators leave through `Output`. `followers`: pools,
    space-to-depth, concatenations, additions and their requantisers (`sums`, with the type of the
    sums), whose words are as wide as those of this stage (of several it is the last). `feeders`:
    the convolutions, or the input, that decide how wide the words are that it reads. In a
    `depthwise` convolution every output channel reads the input channel of its number and no other.
    """

    conv: Conv
    source: TensorType
    acc: TensorType
    feeders: tuple[str, ...]
    requants: tuple[Requant, ...] = ()
    followers: tuple[Follower, ...] = ()
    sums: tuple[tuple[Requant, TensorType], ...] = ()

    @property
    def depthwise(self) -> bool:
        return is_depthwise(self.conv, self.source)

    @property
    def fan_in(self) -> int:
        """Input channels that one output channel reads."""
        return 1 if self.depthwise else self.source.channels

    def requantised(self, name: str) -> tuple[Requant, TensorType]:
        """Return the requantiser `name` of the stage and the type of the sums that it reads."""
        own = ((node, self.acc) for node in self.requants)
        return next(pair for pair in (*own, *self.sums) if pair[0].name == name)


def is_depthwise(conv: Conv, source: TensorType) -> bool:
    """Tell whether `conv` has one input channel per output channel (a single one is dense)."""
    return conv.groups == source.channels == conv.out_channels > 1


def stages(graph: Graph) -> tuple[Stage, ...]:
    """Return the stages of a graph of convolutions, all requantised but for the last.

    Raise IRError for a graph that breaks docs/IR.md and DesignError, naming the node and what is
    supported, for one that the accelerator does not map.
    """
    verify(graph)
    types, owners = infer(_without_bias(graph)), word_owners(graph)
    found: dict[str, Stage] = {}
    for node in graph.nodes:
        _check_place(graph, node)
        match node:
            case Conv():
                check_conv(node, types[node.source])
                around = types[node.source], types[node.name]
                found[node.name] = Stage(node, *around, owners[node.source])
            case Requant(source=source) if source in found:
                stage = found[source]
                found[source] = replace(stage, requants=(*stage.requants, node))
            case MaxPool() | Reorg() | Patches() | Concat() if node in image_followers(graph):
                _check_follower(node, types)  # of no stage
            case MaxPool() | Reorg() | Patches() | Concat() | Add() | Requant():
                _check_follower(node, types)
                _check_owned(node, owners[node.name], graph.input.name)
                last = [name for name in found if name in owners[node.name]][-1]
                found[last] = _followed(found[last], node, types)
    return tuple(found.values())


def _followed(stage: Stage, node: Follower, types: dict[str, TensorType]) -> Stage:
    stage = replace(stage, followers=(*stage.followers, node))
    if isinstance(node, Requant):
        return replace(stage, sums=(*stage.sums, (node, types[node.source])))
    return stage


def image_followers(graph: Graph) -> tuple[Follower, ...]:
    """Return the nodes that pass on the pixels before any convolution."""
    owners, image = word_owners(graph), (graph.input.name,)
    return tuple(
        node
        for node in graph.of_type(MaxPool, Reorg, Patches, Concat)
        if owners[node.name] == image
    )


def word_owners(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Return, for every node of codes or their sums, the convolutions (or input) whose words are
    as wide.
    """
    owners: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes:
        match node:
            case Input():
                owners[node.name] = (node.name,)
            case Requant(source=conv) if conv not in owners:
                owners[node.name] = (conv,)
            case Requant() | MaxPool() | Reorg() | Patches():
                owners[node.name] = owners.get(node.source, ())
            case Concat() | Add():
                together = (owner for name in node.sources for owner in owners.get(name, ()))
                owners[node.name] = tuple(dict.fromkeys(together))
    return owners


def equal_words(chain: tuple[Stage, ...]) -> tuple[frozenset[str], ...]:
    """Return the sets of stages that must hand on words of equally many channels.

    Those whose codes are concatenated or added, and each one alone that feeds a stage other than
    its next.
    """
    names = [stage.conv.name for stage in chain]
    tied: list[set[str]] = []
    for before, stage in zip(("", *names), chain, strict=False):
        group = {name for name in stage.feeders if name in names}
        if len(group) > 1 or group - {before}:
            joined = [other for other in tied if other & group]
            tied = [other for other in tied if not other & group]
            tied.append(group.union(*joined))
    return tuple(map(frozenset, tied))


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


def _check_follower(node: Follower, types: dict[str, TensorType]) -> None:
    match node:
        case MaxPool(name=name, source=source, size=size):
            height, width = types[source].height, types[source].width
            if size != 2:
                raise DesignError(
                    f"pool '{name}' takes {size}x{size} blocks of a {height}x{width} map; "
                    "supported are 2x2 blocks of maps from 2x2 on"
                )
        case Patches(name=name, kernel=kernel, stride=stride, padding=padding):
            source = types[node.source]
            whole = source.height % stride == source.width % stride == 0
            if kernel % 2 == 0 or padding != (kernel - 1) // 2 or not whole:
                raise DesignError(
                    f"'{name}' takes {kernel}x{kernel} patches with padding {padding} at stride "
                    f"{stride} of a {source.height}x{source.width} map; supported are odd kernels, "
                    "padding (kernel - 1) / 2, and strides that divide both sides"
                )
        case Concat(sources=names) | Add(sources=names) if len(set(names)) < len(names):
            kind = type(node).__name__.lower()
            raise DesignError(f"{kind} '{node.name}' reads a node twice: {', '.join(names)}")


def _check_owned(node: Follower, owners: tuple[str, ...], image: str) -> None:
    if isinstance(node, Add) and image in owners:
        raise DesignError(
            f"add '{node.name}' adds pixels of the image; only codes of convolutions are added"
        )


def _check_place(graph: Graph, node: Node) -> None:
    """Check what `node` reads and, for a convolution, what reads it; and its name."""
    kind = type(node).__name__
    supported = (
        "the accelerator maps convolutions, each with a Requant or several but for the head, which "
        "Output reads; MaxPool, Reorg, Patches, Concat and Add between them"
    )
    if not isinstance(node, Input | Conv | Requant | Follower | Output):
        raise DesignError(f"node '{node.name}' is a {kind}; {supported}")
    for name in sources(node):
        if not isinstance(graph[name], _READS[type(node)]):
            read = type(graph[name]).__name__
            raise DesignError(f"node '{node.name}' ({kind}) reads '{name}' ({read}); {supported}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", node.name):
        raise DesignError(
            f"node name '{node.name}' must be a C identifier (letters, digits, _; a letter first): "
            "it names a process of the accelerator"
        )
