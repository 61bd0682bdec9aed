# SPDX-License-Identifier: Apache-2.0
"""The integer network: what training hands to hardware. Normative text: docs/IR.md.

A `Graph` is a topologically ordered tuple of nodes. Activations are `[N, H, W, C]` integers.
Parameters (numpy int64, read-only) may be absent: a graph without them is *shape-only* and can be
costed, folded and simulated, but not executed.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

VERSION = 1


class IRError(ValueError):
    """A graph that breaks the rules of docs/IR.md; the message names the node."""


@dataclass(frozen=True)
class TensorType:
    """Shape and range of a node's result.

    `lo`..`hi` bound every value (inclusive), `bits` is the width of the stream that carries it,
    `signed` says whether that stream is two's complement.
    """

    height: int
    width: int
    channels: int
    lo: int
    hi: int
    bits: int
    signed: bool


@dataclass(frozen=True)
class WeightFormat:
    """Number format of a layer's weights.

    `scheme` is "fixed" (two's complement integers); other schemes would join as further names.
    `narrow` excludes the code -2^(bits-1), so that the range is symmetric.
    """

    bits: int
    narrow: bool = True
    scheme: Literal["fixed"] = "fixed"


def frozen_array(values: np.ndarray | None) -> np.ndarray | None:
    """Return a read-only int64 copy of `values` (None stays None)."""
    if values is None:
        return None
    array = np.array(values)
    if array.dtype.kind not in "iu":
        raise IRError(f"parameters must be integers, got dtype {array.dtype}; round them first")
    array = array.astype(np.int64)
    array.setflags(write=False)
    return array


@dataclass(frozen=True)
class Input:
    """Image port: `port_bits`-bit unsigned pixels, of which the top `bits` are used.

    Result = pixel >> (port_bits - bits), the exact form of the floor image quantiser.
    """

    name: str
    height: int
    width: int
    channels: int
    bits: int
    port_bits: int = 8


@dataclass(frozen=True, eq=False)
class Conv:
    """2-D convolution (cross-correlation) with zero padding; result = accumulators.

    `weights` `[K, K, in_channels / groups, out_channels]`, `bias` `[out_channels]` added to the
    accumulators (None = zeros). Padding is the same on all four sides.
    """

    name: str
    source: str
    out_channels: int
    kernel: int
    w_format: WeightFormat
    stride: int = 1
    padding: int = 0
    groups: int = 1
    weights: np.ndarray | None = None
    bias: np.ndarray | None = None

    def __post_init__(self):
        object.__setattr__(self, "weights", frozen_array(self.weights))
        object.__setattr__(self, "bias", frozen_array(self.bias))


@dataclass(frozen=True, eq=False)
class Linear:
    """Dense layer on the flattened `[H, W, C]` input (C fastest); result `[N, 1, 1, out]`.

    `weights` `[H * W * C, out_channels]`, `bias` `[out_channels]` or None.
    """

    name: str
    source: str
    out_channels: int
    w_format: WeightFormat
    weights: np.ndarray | None = None
    bias: np.ndarray | None = None

    def __post_init__(self):
        object.__setattr__(self, "weights", frozen_array(self.weights))
        object.__setattr__(self, "bias", frozen_array(self.bias))


@dataclass(frozen=True, eq=False)
class Requant:
    """Accumulator -> unsigned code: clip((acc * mul + bias + half) >> shift, 0, 2^bits - 1).

    half = 2^(shift-1) (0 when shift is 0), arithmetic shift: half-up rounding.
    `mul`, `bias` are `[channels]`; `mul` may be negative.
    """

    name: str
    source: str
    bits: int
    shift: int = 0
    mul: np.ndarray | None = None
    bias: np.ndarray | None = None

    def __post_init__(self):
        object.__setattr__(self, "mul", frozen_array(self.mul))
        object.__setattr__(self, "bias", frozen_array(self.bias))


@dataclass(frozen=True)
class MaxPool:
    """Maximum over `size` x `size` blocks at stride `size`; rows/columns left over are dropped."""

    name: str
    source: str
    size: int = 2


@dataclass(frozen=True)
class Reorg:
    """Space to depth: out channel = (block * dy + dx) * C + c for offset (dy, dx) in a block."""

    name: str
    source: str
    block: int = 2


@dataclass(frozen=True)
class Patches:
    """What each step of a strided convolution sees, as channels; zero padding on all four sides.

    Out pixel (y, x) has channel (kernel ky + kx) C + c of pixel (stride y + ky - padding,
    stride x + kx - padding). A strided convolution is a 1x1 convolution of it (`hw.lower`).
    """

    name: str
    source: str
    kernel: int
    stride: int
    padding: int


@dataclass(frozen=True)
class Concat:
    """Concatenate channels in the order of `sources`; all must have one height, width, range."""

    name: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Add:
    """Sum of the codes of two `sources` of one shape, read by a Requant as accumulators are.

    Both must have one step. A signed branch has a zero point: its code stands for code - z, the
    bias of the Requant before it holds + z, that of the Requant behind the sum - z.
    """

    name: str
    sources: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Output:
    """Result port. The integers are the source's; real value = integer * scale[c].

    `scale` float64 `[channels]` (None = shape-only) lets a host decode without the framework.
    """

    name: str
    source: str
    scale: np.ndarray | None = None

    def __post_init__(self):
        if self.scale is not None:
            scale = np.array(self.scale, np.float64)
            scale.setflags(write=False)
            object.__setattr__(self, "scale", scale)


Node = Input | Conv | Linear | Requant | MaxPool | Reorg | Patches | Concat | Add | Output
OPS: tuple[type, ...] = get_args(Node)


def sources(node: Node) -> tuple[str, ...]:
    """Return the names of the nodes that `node` reads."""
    match node:
        case Input():
            return ()
        case Concat() | Add():
            return node.sources
        case _:
            return (node.source,)


@dataclass(frozen=True, eq=False)
class Graph:
    """A whole network: `nodes` in topological order, one `Input` first, one `Output` last."""

    name: str
    nodes: tuple[Node, ...]
    version: int = VERSION

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self.nodes)
        raise IRError(f"graph '{self.name}' has no node '{name}'; nodes are: {known}")

    @property
    def input(self) -> Input:
        return self.nodes[0]

    @property
    def output(self) -> Output:
        return self.nodes[-1]

    def of_type(self, *types: type) -> tuple[Node, ...]:
        """Return the nodes of the given types, in order."""
        return tuple(node for node in self.nodes if isinstance(node, types))

    def consumers(self, name: str) -> tuple[Node, ...]:
        """Return the nodes that read node `name`, in order."""
        return tuple(node for node in self.nodes if name in sources(node))

    @property
    def has_parameters(self) -> bool:
        """Whether every node carries the parameters that execution needs."""
        return all(
            node.weights is not None if isinstance(node, Conv | Linear) else node.mul is not None
            for node in self.of_type(Conv, Linear, Requant)
        )

    def with_node(self, node: Node) -> "Graph":
        """Return a copy in which the node of the same name is replaced."""
        self[node.name]
        return replace(
            self, nodes=tuple(node if old.name == node.name else old for old in self.nodes)
        )
