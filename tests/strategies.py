# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies shared by the tests."""

from dataclasses import replace
from math import gcd

import numpy as np
from hypothesis import strategies as st

from hw.design import Design, Folding, LayerDesign
from hw.design_verify import are_multiples, lane_choices, plan_fits
from hw.device import device
from hw.intmath import divisors, weight_range
from hw.ir import (
    Add,
    Concat,
    Conv,
    Graph,
    Input,
    Linear,
    MaxPool,
    Node,
    Output,
    Patches,
    Reorg,
    Requant,
    TensorType,
    WeightFormat,
    sources,
)
from hw.ir_verify import infer, mul_port_bits
from hw.mappings import words_fit
from hw.packing import geometry
from hw.packing.geometry import Cut
from hw.packing.plan import ActLane, PackPlan, WeightLane, Word
from hw.packing.table import table
from hw.stages import equal_words, stages
from tests.packing_samples import sample_plans

CHANNELS = (1, 2, 3, 4, 6)


@st.composite
def shape_graph(draw, max_layers: int = 3, max_size: int = 7) -> Graph:
    """Shape-only chains: up to `max_layers` convolutions on maps up to `max_size` wide and high."""
    height, width = draw(st.integers(2, max_size)), draw(st.integers(2, max_size))
    channels = draw(st.sampled_from((1, 2, 3)))
    nodes = [Input("image", height, width, channels, draw(bit_widths()))]
    layers = draw(st.integers(1, max_layers))
    for index in range(layers):
        kernel, w_format = draw(st.sampled_from((1, 3))), WeightFormat(draw(bit_widths()))
        depthwise = draw(st.integers(0, 2)) == 0
        out_channels = channels if depthwise else draw(st.sampled_from(CHANNELS))
        given = {"padding": kernel // 2, "groups": channels if depthwise else 1}
        conv = Conv(f"conv{index}", nodes[-1].name, out_channels, kernel, w_format, **given)
        channels = out_channels
        nodes.append(conv)
        if index == layers - 1:
            break
        nodes.append(Requant(f"act{index}", conv.name, draw(bit_widths())))
        if min(height, width) >= 4 and draw(st.booleans()):
            nodes.append(MaxPool(f"pool{index}", nodes[-1].name))
            height, width = height // 2, width // 2
    return Graph("random_chain", (*nodes, Output("output", nodes[-1].name)))


@st.composite
def small_graph(draw, max_layers: int = 3, max_size: int = 7) -> Graph:
    """Chains of `shape_graph` with seeded random parameters, ready to execute."""
    graph = draw(shape_graph(max_layers, max_size))
    return with_parameters(graph, draw(st.integers(0, 2**32 - 1)))


@st.composite
def chain_design(
    draw, graphs: st.SearchStrategy[Graph] | None = None, most: int | None = None
) -> Design:
    """Legal designs: any plan, folding and FIFO depth that a chain allows.

    `most`: multipliers of an array (None: any number).
    """
    default = st.one_of(shape_graph(), branched_graph())
    graph = draw(graphs if graphs is not None else default)
    part = device(draw(st.sampled_from(("xczu3eg", "xc7z020"))))
    chain = stages(graph)
    channels = {stage.conv.name: stage.conv.out_channels for stage in chain}
    tied = {}
    for group in equal_words(chain):
        size = draw(st.sampled_from(divisors(gcd(*(channels[name] for name in group)))))
        tied |= dict.fromkeys(group, size)
    layers, parallel = [], {graph.input.name: graph.input.channels}
    for stage in chain:
        name, in_parallel = stage.conv.name, parallel[stage.feeders[0]]
        given = {"tied": tied.get(name), "most": most}
        layers.append(draw(legal_layer(stage, part.dsp_type, in_parallel, **given)))
        parallel[name] = layers[-1].out_parallel
    return Design(graph, part, 250.0, tuple(layers))


@st.composite
def branched_graph(draw, max_size: int = 4) -> Graph:
    """Shape-only graphs whose codes part, take different ways and are concatenated again."""
    height, width = 2 * draw(st.integers(1, max_size)), 2 * draw(st.integers(1, max_size))
    a_bits, sizes = draw(bit_widths()), [draw(st.sampled_from((1, 2, 4))) for _ in range(3)]

    def conv(name: str, source: str, channels: int, kernel: int | None = None) -> Conv:
        kernel = kernel or draw(st.sampled_from((1, 3)))
        w_format = WeightFormat(draw(bit_widths()))
        return Conv(name, source, channels, kernel, w_format, padding=kernel // 2)

    nodes: list[Node] = [Input("image", height, width, 2, draw(bit_widths()))]
    nodes += [conv("conv0", "image", sizes[0]), Requant("act0", "conv0", a_bits)]
    pooled = draw(st.sampled_from(("act0", "twin0")))
    if pooled == "twin0":  # the sums of one convolution at two widths
        nodes += [Requant("twin0", "conv0", draw(bit_widths()))]
    halved = draw(st.sampled_from((MaxPool("pool0", pooled), *patches("pool0", pooled))))
    nodes += [halved, conv("conv1", "pool0", sizes[1])]
    nodes += [Requant("act1", "conv1", a_bits)]
    joined = ["act1", "reorg0"]
    nodes += [Reorg("reorg0", "act0")]
    if draw(st.booleans()):
        joined[0] = "stream"
        nodes += draw(residual("act1", sizes[1], a_bits))
    if draw(st.booleans()):
        codes = [node.name for node in nodes if node.name in ("act1", "pool0", "reorg0", "thin")]
        nodes += [conv("conv2", draw(st.sampled_from(codes)), sizes[2])]
        nodes += [Requant("act2", "conv2", a_bits)]
        joined += ["act2"]
    nodes += [Concat("join", tuple(draw(st.permutations(joined))))]
    last = "join"
    if draw(st.booleans()):
        nodes += [Reorg("flat", "join", 1), Concat("alone", ("flat",))]
        last = "alone"
    nodes += [conv("head", last, draw(st.sampled_from(CHANNELS)))]
    return Graph("branched", (*nodes, Output("output", "head")))


@st.composite
def residual(draw, source: str, channels: int, a_bits: int) -> list[Node]:
    """One residual block or two; the sums of the first are read at two widths then."""
    nodes: list[Node] = [
        Conv("around", source, channels, 3, WeightFormat(draw(bit_widths())), padding=1),
        Requant("branch", "around", draw(bit_widths())),
        Add("added", tuple(draw(st.permutations((source, "branch"))))),
    ]
    last = "added"
    if draw(st.booleans()):
        last = "twice"
        nodes += [Requant(name, "added", draw(bit_widths())) for name in ("kept", "thin")]
        nodes += [Conv("again", "thin", channels, 1, WeightFormat(draw(bit_widths())))]
        nodes += [Requant("turn", "again", draw(bit_widths()))]
        nodes += [Add(last, tuple(draw(st.permutations(("kept", "turn")))))]
    return [*nodes, Requant("stream", last, a_bits)]


def patches(name: str, source: str) -> tuple[Patches, ...]:
    """Return what halves a map by stride 2: kernels of 1, 3 and 5."""
    return tuple(Patches(name, source, kernel, 2, kernel // 2) for kernel in (1, 3, 5))


@st.composite
def legal_layer(
    draw,
    stage,
    dsp_type: str,
    in_parallel: int,
    port_bits: int = 64,
    tied: int | None = None,
    most: int | None = None,
) -> LayerDesign:
    """Any plan and folding that `stage` may have behind words of `in_parallel` channels.

    `tied`: the channels of the words that it must hand on, `most`: multipliers (None: any).
    """
    conv, source = stage.conv, stage.source
    bits = (conv.w_format.bits, source.bits)
    plans = table(dsp_type, conv.kernel, conv.w_format.narrow).plans(*bits)
    if draw(st.booleans()):  # the tables keep the best, which is not all that the hardware can do
        samples = sample_plans(conv.kernel, *bits, conv.w_format.narrow, dsp_type)
        plans += tuple(samples.values())
    mappings = [
        (plan, pe)
        for plan in plans
        for pe in divisors(conv.out_channels)
        if plan_fits(plan, conv, source, pe)
        and (not stage.depthwise or are_multiples(pe, in_parallel))
        and tied in (None, pe * plan.groups)
        and pe <= (most or pe)
        and words_fit(stage, LayerDesign(conv.name, Folding(pe, 1), plan))
    ]
    plan, pe = draw(st.sampled_from(mappings))
    lanes = draw(st.sampled_from(lane_choices(stage, pe * plan.groups, port_bits)))
    layers = [
        LayerDesign(conv.name, Folding(pe, simd, rows, lanes), plan)
        for simd in divisors(stage.fan_in)
        for rows in sorted({1, conv.kernel})
        if (stage.depthwise or are_multiples(simd, in_parallel))
        and pe * simd * rows <= (most or pe * simd * rows)
    ]
    return draw(st.sampled_from([layer for layer in layers if words_fit(stage, layer)]))


def bit_widths() -> st.SearchStrategy[int]:
    """Widths that a search chooses from."""
    return st.integers(2, 8)


def with_parameters(graph: Graph, seed: int) -> Graph:
    """Return `graph` with random weights and biases, and requantisation that uses every code."""
    rng = np.random.default_rng(seed)
    for stage in stages(graph):
        conv, channels = stage.conv, stage.conv.out_channels
        low, high = weight_range(conv.w_format.bits, conv.w_format.narrow)
        shape = (conv.kernel, conv.kernel, stage.fan_in, channels)
        weights = rng.integers(low, high, shape, endpoint=True)
        bias = rng.integers(-50, 50, channels, endpoint=True)
        graph = graph.with_node(replace(conv, weights=weights, bias=bias))
        sums = [
            (node, int(np.abs(weights).sum((0, 1, 2)).max()) * stage.source.hi + 1)
            for node in stage.requants
        ]
        sums += [(node, acc.hi) for node, acc in stage.sums]
        for requant, largest in sums:
            shift = max(0, 10 + largest.bit_length() - requant.bits)
            mul = rng.integers(512, 1024, channels) * rng.choice((-1, 1), channels)
            offset = rng.integers(-1, 1 << (shift + requant.bits), channels)
            graph = graph.with_node(replace(requant, shift=shift, mul=mul, bias=offset))
    return graph


SUM_MAX = (1 << 44) - 1  # DSP rule of docs/IR.md
SIDES = ((4, 6), (6, 4), (6, 6), (2, 4), (4, 2), (6, 5), (3, 6), (5, 3), (1, 4), (1, 1))
MAX_CHANNELS = 16  # of random graphs, so that loops in pure Python stay fast


@st.composite
def any_graph(draw, max_ops: int = 6, scale: int = 1) -> Graph:
    """Graphs of any ops in any order, with parameters that keep the DSP rule.

    Sides are up to 6 times `scale`.
    """
    height, width = draw(st.sampled_from(SIDES))
    bits = draw(st.integers(1, 8))
    port_bits = draw(st.integers(bits, 9))
    image = Input("image", scale * height, scale * width, draw(st.integers(1, 3)), bits, port_bits)
    nodes: list[Node] = [image]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    for index in range(draw(st.integers(2, max_ops))):
        nodes += draw(any_op(nodes, index, rng))
    if draw(st.booleans()):
        nodes.append(draw(any_conv(nodes, "head", rng)))
    return Graph("any", reachable((*nodes, Output("output", nodes[-1].name))))


@st.composite
def any_op(draw, nodes: list[Node], index: int, rng: np.random.Generator) -> list[Node]:
    """One op on the codes of any of `nodes`; accumulators come with one or two requantisers."""
    types = code_types(nodes)
    name = draw(st.sampled_from(list(types)[-2:]))
    source = types[name]
    alike = [n for n, t in types.items() if (t.height, t.width, t.bits) == shape_of(source)]
    width = sum(types[n].channels for n in alike)
    sizes = [size for size in (2, 3) if size <= min(source.height, source.width)]
    blocks = [
        block
        for block in sizes
        if not (source.height % block or source.width % block)
        and block * block * source.channels <= MAX_CHANNELS
    ]
    ops = ["conv"] * 3 + ["pool"] * bool(sizes) + ["reorg"] * 2 * bool(blocks)
    ops += ["add"] + ["concat"] * (width <= MAX_CHANNELS)
    match draw(st.sampled_from(ops)):
        case "conv":
            layer = draw(any_conv(nodes, f"conv{index}", rng))
            acc = infer(Graph("partial", (*nodes, layer)))[layer.name]
            names = (f"act{index}", f"twin{index}")[: draw(st.integers(1, 2))]
            return [layer, *(draw(any_requant(n, layer.name, acc, rng)) for n in names)]
        case "add":
            size = (source.height, source.width, source.channels)
            equal = [n for n, t in types.items() if (t.height, t.width, t.channels) == size]
            added = Add(f"add{index}", (name, draw(st.sampled_from(equal))))
            acc = infer(Graph("partial", (*nodes, added)))[added.name]
            return [added, draw(any_requant(f"sum{index}", added.name, acc, rng))]
        case "pool":
            return [MaxPool(f"pool{index}", name, draw(st.sampled_from(sizes)))]
        case "reorg":
            return [Reorg(f"reorg{index}", name, draw(st.sampled_from(blocks)))]
        case "concat":
            return [Concat(f"concat{index}", tuple(draw(st.permutations(alike))))]


@st.composite
def any_conv(draw, nodes: list[Node], name: str, rng: np.random.Generator) -> Conv | Linear:
    """Convolution of any kernel, stride, padding and groups, or dense layer, on any codes."""
    types = code_types(nodes)
    source_name = draw(st.sampled_from(list(types)[-2:]))
    source = types[source_name]
    w_format = WeightFormat(draw(st.integers(1, 8)), draw(st.booleans()))
    lo, hi = weight_range(w_format.bits, w_format.narrow)
    groups = draw(st.sampled_from(divisors(source.channels)))
    out_channels = groups * draw(st.integers(1, max(1, 4 // groups)))
    bias = rng.integers(-100, 101, out_channels) if draw(st.booleans()) else None

    def weights(*shape: int) -> np.ndarray:
        return rng.integers(lo, hi, shape, endpoint=True)

    if draw(st.integers(0, 4)) == 0:
        fan_in = source.height * source.width * source.channels
        return Linear(
            name, source_name, out_channels, w_format, weights(fan_in, out_channels), bias
        )
    padding = draw(st.integers(0, 2))
    kernel = draw(st.integers(1, min(3, source.height + 2 * padding, source.width + 2 * padding)))
    return Conv(
        name,
        source_name,
        out_channels,
        kernel,
        w_format,
        draw(st.sampled_from((1, 1, 2))),
        padding,
        groups,
        weights(kernel, kernel, source.channels // groups, out_channels),
        bias,
    )


@st.composite
def any_requant(draw, name: str, source: str, acc: TensorType, rng: np.random.Generator) -> Requant:
    """Requantiser whose codes are spread, or one at the edges of the DSP rule."""
    bits, reach = draw(st.integers(1, 8)), max(-acc.lo, acc.hi, 1)
    mul_max = (1 << (mul_port_bits(acc.lo, acc.hi) - 1)) - 1
    if draw(st.booleans()):
        shift = draw(st.integers(0, 43))
        mul = rng.choice((-mul_max, -1, 0, 1, mul_max), acc.channels)
        bias = rng.choice((-SUM_MAX, 0, SUM_MAX), acc.channels)
    else:
        shift = max(0, reach.bit_length() - bits + draw(st.integers(0, 16)))
        unit = min(mul_max, (2 << (shift + bits)) // reach)
        mul = rng.integers(-unit, unit, acc.channels, endpoint=True)
        bias = rng.integers(-1 << (shift + bits), 1 << (shift + bits), acc.channels)
    half = (1 << shift) >> 1
    limit = SUM_MAX - half - np.abs(mul) * reach
    return Requant(name, source, bits, shift, mul, np.clip(bias, -limit, limit))


def code_types(nodes: list[Node]) -> dict[str, TensorType]:
    """Return the types of the results that are codes, by node name."""
    types = infer(Graph("partial", tuple(nodes)))
    return {name: found for name, found in types.items() if not found.signed}


def shape_of(source: TensorType) -> tuple[int, int, int]:
    """Return what concatenated tensors must have in common."""
    return source.height, source.width, source.bits


def reachable(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Return the nodes that the last one needs (and the first)."""
    needed = {nodes[-1].name}
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(sources(node))
    return tuple(node for node in nodes if node.name in needed or node is nodes[0])


def any_pixels(graph: Graph, frames: int, seed: int) -> np.ndarray:
    """Return `frames` random frames that fill the range of the graph's port."""
    port = graph.input
    shape = (frames, port.height, port.width, port.channels)
    return np.random.default_rng(seed).integers(0, 1 << port.port_bits, shape)


def ultranet_shape(height: int = 160, width: int = 320, w_bits: int = 4, a_bits: int = 4) -> Graph:
    """Shape-only UltraNet: eight 3x3 layers, pooled after the first four, and a 1x1 head."""
    nodes = [Input("image", height, width, 3, 8)]
    for index, channels in enumerate((16, 32, 64, 64, 64, 64, 64, 64)):
        conv = Conv(f"conv{index}", nodes[-1].name, channels, 3, WeightFormat(w_bits), padding=1)
        nodes += [conv, Requant(f"act{index}", conv.name, a_bits)]
        if index < 4:
            nodes.append(MaxPool(f"pool{index}", nodes[-1].name))
    head = Conv("head", nodes[-1].name, 36, 1, WeightFormat(w_bits))
    return Graph("ultranet", (*nodes, head, Output("output", head.name)))


def bare_plan(
    kernel: int, w_bits: int, a_bits: int, groups: int = 1, taps: int = 1, columns: int = 1
) -> PackPlan:
    """A plan that has the lanes of a packing but no fields: enough to fold, not to multiply.

    Its words are runs of `taps` neighbouring taps, the last one shorter if need be.
    """
    acts = tuple(ActLane(column, 0, column) for column in range(columns))
    words = []
    for first in range(0, kernel, taps):
        run = range(first, min(first + taps, kernel))
        lanes = [(group, tap) for group in range(groups) for tap in run]
        weights = tuple(WeightLane(offset, *label) for offset, label in enumerate(lanes))
        words.append(Word(0, 27, 18, weights, acts, ()))
    parts = geometry.parts(w_bits, a_bits, True, Cut())
    numbers = (kernel, w_bits, a_bits, True, "every", 1, 0, "plain", groups, columns)
    return PackPlan("dsp48e2", *numbers, parts, tuple(words), lut_per_mac=2.0)
