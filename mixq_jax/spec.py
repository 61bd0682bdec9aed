# SPDX-License-Identifier: Apache-2.0
"""NetSpec: a network as frozen, hashable rows of data; sources are named, shapes are inferred."""

from dataclasses import dataclass
from math import frexp
from typing import Literal


class SpecError(ValueError):
    """A network description that makes no sense; the message names the layer."""


@dataclass(frozen=True)
class ConvSpec:
    """Quantised convolution: quantise input -> convolve -> batch norm (or bias).

    Zero padding kernel // 2. `groups` = 0 means depthwise. `fixed_bits` (w, a) takes the layer out
    of the search. `pooled`: the maximum over 2x2 blocks at stride 2 is taken before the norm, where
    a negative gamma makes it another than PoolSpec's behind it; such a network has no integers.
    """

    name: str
    source: str
    out_channels: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    norm: bool = True
    bias: bool = False
    fixed_bits: tuple[int, int] | None = None
    pooled: bool = False


@dataclass(frozen=True)
class PoolSpec:
    """Maximum over 2x2 blocks at stride 2."""

    name: str
    source: str


@dataclass(frozen=True)
class ReorgSpec:
    """Space to depth: out channel = (block dy + dx) C + c.

    With `block` = the side of a square map it flattens the map for a dense layer, which is a 1x1
    convolution then.
    """

    name: str
    source: str
    block: int = 2


@dataclass(frozen=True)
class ConcatSpec:
    """Concatenation of channels in the order of `sources`."""

    name: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """Codes of one operand of a residual sum: `bits` bits of step `step`.

    `rectified`: behind a ReLU, values from 0 on; otherwise both signs.
    """

    bits: int
    step: float
    rectified: bool

    @property
    def lo(self) -> int:
        return 0 if self.rectified else -(1 << (self.bits - 1))

    @property
    def hi(self) -> int:
        return self.lo + (1 << self.bits) - 1


@dataclass(frozen=True)
class AddSpec:
    """Residual sum of two results, each rounded to `bits` bits of step `step` (a power of two).

    `rectify` tells which of them pass a ReLU first. A sum that another one of the same step reads
    is a multiple of it already: a stream through many blocks saturates, but is not rounded again.
    """

    name: str
    sources: tuple[str, str]
    rectify: tuple[bool, bool] = (False, True)
    bits: int = 8
    step: float = 2.0**-4

    @property
    def grids(self) -> tuple[Grid, Grid]:
        """The codes of both operands."""
        first, second = (Grid(self.bits, self.step, rectified) for rectified in self.rectify)
        return first, second


Layer = ConvSpec | PoolSpec | ReorgSpec | ConcatSpec | AddSpec


@dataclass(frozen=True)
class DetectHead:
    """Single-object detection head: `anchors` boxes of `anchor_pixels` squared per cell.

    Every anchor has 6 values: tx, ty, tw, th, confidence, class (unused). The cell with the highest
    mean `score` over its anchors is taken: sigmoid(confidence), or the confidence as it comes.
    """

    anchors: int = 6
    anchor_pixels: float = 20.0
    score: Literal["sigmoid", "logit"] = "sigmoid"

    @property
    def channels(self) -> int:
        return 6 * self.anchors


@dataclass(frozen=True)
class ClassifyHead:
    """One score a class; the network ends on a 1x1 map."""

    classes: int = 10

    @property
    def channels(self) -> int:
        return self.classes


Head = DetectHead | ClassifyHead


@dataclass(frozen=True)
class QuantSpec:
    """Number formats of a network.

    `narrow`: weights without the code -2^(b-1). `weight_steps` / `act_steps` name step tables of
    `mixq_jax.quant` ("reference" = published ones, "mse" = optimal for the Gaussian, "dorefa" = of
    fixed ranges). A pixel p stands for p / `pixel_levels`.
    """

    narrow: bool = True
    weight_steps: Literal["reference", "mse", "dorefa"] = "mse"
    act_steps: Literal["reference", "mse", "dorefa", "dorefa_shift"] = "mse"
    pixel_levels: int = 256


INPUT = "image"
MAX_SUM_BITS = 16  # of an operand of a sum: what a Requant makes
OURS = QuantSpec()


@dataclass(frozen=True)
class NetSpec:
    """A network: image `height` x `width` x `channels`, layers in topological order, a head.

    `relu_max` bounds the activations of the float network (None: plain ReLU).
    """

    name: str
    height: int
    width: int
    channels: int
    layers: tuple[Layer, ...]
    head: Head
    quant: QuantSpec = OURS
    relu_max: float | None = None

    def __post_init__(self):
        seen = {INPUT}
        for layer in self.layers:
            missing = set(layer_sources(layer)) - seen
            if missing:
                raise SpecError(
                    f"layer '{layer.name}' of '{self.name}' reads '{min(missing)}', "
                    "which is not an earlier layer"
                )
            if layer.name in seen:
                raise SpecError(f"layer name '{layer.name}' of '{self.name}' is used twice")
            seen.add(layer.name)
        _check_roles(self)
        _check_head(self, infer_shapes(self)[self.output.name])

    @property
    def convs(self) -> tuple[ConvSpec, ...]:
        """Quantised layers in order: the order of every bit vector."""
        return tuple(layer for layer in self.layers if isinstance(layer, ConvSpec))

    @property
    def fixed_bits(self) -> tuple[tuple[int, int] | None, ...]:
        """(w, a) of every quantised layer that is out of the search, None for the others."""
        return tuple(layer.fixed_bits for layer in self.convs)

    @property
    def output(self) -> Layer:
        return self.layers[-1]

    def __getitem__(self, name: str) -> Layer:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise SpecError(f"network '{self.name}' has no layer '{name}'")

    def reads_image(self, layer: ConvSpec) -> bool:
        """Whether the layer's input is the image itself (its quantiser keeps the top bits)."""
        return layer.source == INPUT


def layer_sources(layer: Layer) -> tuple[str, ...]:
    """Return the names that `layer` reads."""
    return layer.sources if isinstance(layer, ConcatSpec | AddSpec) else (layer.source,)


def _check_roles(spec: NetSpec) -> None:
    """Check what export relies on: who reads the image, who is read, where batch norm stands."""
    read = {name for layer in spec.layers for name in layer_sources(layer)}
    for layer in spec.layers:
        if not isinstance(layer, ConvSpec) and INPUT in layer_sources(layer):
            raise SpecError(f"layer '{layer.name}' reads the image; only convolutions quantise it")
        if layer.name not in read and layer is not spec.output:
            raise SpecError(f"layer '{layer.name}' is read by no layer; remove it or connect it")
        if isinstance(layer, AddSpec):
            _check_sum(layer)
    if not spec.convs or spec.convs[-1] is not spec.output:
        raise SpecError(f"network '{spec.name}' must end with a convolution, its head")
    if spec.output.out_channels != spec.head.channels:
        raise SpecError(
            f"layer '{spec.output.name}' has {spec.output.out_channels} channels, the head of "
            f"'{spec.name}' needs {spec.head.channels}"
        )
    for layer in spec.convs:
        _check_conv(layer, hidden=layer is not spec.output)


def _check_head(spec: NetSpec, shape: tuple[int, int, int]) -> None:
    if isinstance(spec.head, ClassifyHead) and shape[:2] != (1, 1):
        raise SpecError(
            f"network '{spec.name}' ends on a {shape[0]}x{shape[1]} map; a classifier needs 1x1 "
            "(flatten with ReorgSpec, then a 1x1 convolution)"
        )


def _check_sum(layer: AddSpec) -> None:
    if len(layer.sources) != 2 or len(layer.rectify) != 2 or len(set(layer.sources)) == 1:
        raise SpecError(
            f"layer '{layer.name}': sources {layer.sources}, rectify {layer.rectify}; a sum has "
            "two different sources"
        )
    if not 2 <= layer.bits <= MAX_SUM_BITS:
        raise SpecError(f"layer '{layer.name}': bits {layer.bits} must be in 2..{MAX_SUM_BITS}")
    if layer.step <= 0 or frexp(layer.step)[0] != 0.5:
        raise SpecError(f"layer '{layer.name}': step {layer.step} must be a power of two")


def _check_conv(layer: ConvSpec, hidden: bool) -> None:
    if layer.kernel < 1 or layer.kernel % 2 == 0 or layer.stride < 1:
        raise SpecError(
            f"layer '{layer.name}': kernel {layer.kernel}, stride {layer.stride}; the kernel must "
            "be odd, the stride at least 1"
        )
    if layer.norm != hidden or (layer.bias and hidden):
        raise SpecError(
            f"layer '{layer.name}': norm={layer.norm}, bias={layer.bias}; hidden convolutions have "
            "norm and no bias (requantisation is folded from the norm), the last one has no norm"
        )


def infer_shapes(spec: NetSpec) -> dict[str, tuple[int, int, int]]:
    """Return (height, width, channels) of the image and of every layer's result.

    Raises SpecError naming the layer where shapes do not fit.
    """
    shapes = {INPUT: (spec.height, spec.width, spec.channels)}
    for layer in spec.layers:
        inputs = [shapes[name] for name in layer_sources(layer)]
        shapes[layer.name] = _infer_layer(layer, inputs)
    return shapes


def conv_groups(layer: ConvSpec, in_channels: int) -> int:
    """Return the number of groups, resolving 0 = depthwise."""
    return layer.groups or in_channels


def _infer_layer(layer: Layer, inputs: list[tuple[int, int, int]]) -> tuple[int, int, int]:
    height, width, channels = inputs[0]
    match layer:
        case ConvSpec():
            groups = conv_groups(layer, channels)
            if channels % groups or layer.out_channels % groups:
                raise SpecError(
                    f"layer '{layer.name}': groups {groups} must divide {channels} input and "
                    f"{layer.out_channels} output channels"
                )
            out = [(size - 1) // layer.stride + 1 for size in (height, width)]
            shape = out[0], out[1], layer.out_channels
            return _halved(layer, *shape) if layer.pooled else shape
        case PoolSpec():
            return _halved(layer, height, width, channels)
        case ReorgSpec(block=block):
            if block < 1 or height % block or width % block:
                raise SpecError(
                    f"layer '{layer.name}': block {block} does not divide {height}x{width}"
                )
            return height // block, width // block, block * block * channels
        case ConcatSpec():
            if len({shape[:2] for shape in inputs}) != 1:
                raise SpecError(f"layer '{layer.name}': sources differ in size: {inputs}")
            return height, width, sum(shape[2] for shape in inputs)
        case AddSpec():
            if inputs[0] != inputs[1]:
                raise SpecError(f"layer '{layer.name}': sources differ in shape: {inputs}")
            return inputs[0]


def _halved(layer: Layer, height: int, width: int, channels: int) -> tuple[int, int, int]:
    if height < 2 or width < 2:
        raise SpecError(f"layer '{layer.name}': cannot pool {height}x{width} by 2")
    return height // 2, width // 2, channels
