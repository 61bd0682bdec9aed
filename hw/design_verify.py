# SPDX-License-Identifier: Apache-2.0
"""Legality of a design: what the C++ templates and docs/cycles.md take for granted."""

from collections.abc import Mapping

from hw.design import Design, DesignError, Folding, LayerDesign
from hw.intmath import divisors
from hw.ir import Conv, TensorType
from hw.ir_verify import infer
from hw.mac_words import rom_word_bits
from hw.packing.plan import PackPlan
from hw.stages import Stage, is_depthwise, stages

MAX_WORD_BITS = 4096  # widest ap_int we emit: what Vitis HLS accepts without a special setting
OUTPUT_VALUE_BITS = 32  # accumulators leave as int32


def verify(design: Design) -> tuple[Stage, ...]:
    """Check every layer of `design` and its ports; return the stages of its graph.

    Raise DesignError naming the layer, the value got and the allowed values.
    """
    chain = stages(design.graph)
    mapped = tuple(layer.name for layer in design.layers)
    wanted = tuple(stage.conv.name for stage in chain)
    if mapped != wanted:
        raise DesignError(
            f"design of '{design.graph.name}' maps layers {', '.join(mapped) or 'none'}; "
            f"it must map, in this order, {', '.join(wanted)}"
        )
    _check_ports(design)
    _check_result(design)
    parallel = {design.graph.input.name: design.graph.input.channels}
    for stage, layer in zip(chain, design.layers, strict=True):
        check_plan(stage, layer, design.device.dsp_type)
        parallel[layer.name] = layer.out_parallel
        check_layer(stage, layer, in_parallel(stage, parallel), design.port_bits)
    return chain


def in_parallel(stage: Stage, parallel: Mapping[str, int]) -> int:
    """Return the channels of the words that a stage reads, given those that all others hand on."""
    found = {name: parallel[name] for name in stage.feeders}
    if len(set(found.values())) > 1:
        listed = ", ".join(f"'{name}' {channels}" for name, channels in found.items())
        raise DesignError(
            f"layer '{stage.conv.name}' reads concatenated words of unequal size ({listed} "
            "channels); make pe * groups of these layers equal"
        )
    return next(iter(found.values()))


def check_layer(stage: Stage, layer: LayerDesign, in_parallel: int, port_bits: int) -> None:
    """Raise DesignError unless `layer` is a legal folding of `stage` behind `in_parallel` channels.

    `port_bits` is the output port's width; it matters for the head only.
    """
    folding, plan = layer.folding, layer.plan
    name, outs, ins = layer.name, stage.conv.out_channels, stage.fan_in
    _require(
        name, "pe", folding.pe, tuple(d for d in divisors(outs) if outs % (d * plan.groups) == 0)
    )
    _require(name, "simd", folding.simd, divisors(ins))
    fitting = (d for d in divisors(stage.source.channels) if are_multiples(d, in_parallel))
    _require(
        name,
        f"{'pe' if stage.depthwise else 'simd'} (behind {in_parallel} channels per word)",
        window_channels(stage, folding),
        tuple(fitting),
    )
    _require(name, "kernel_rows", folding.kernel_rows, tuple(sorted({1, stage.conv.kernel})))
    lanes = lane_choices(stage, layer.out_parallel, port_bits)
    _require(name, "requant_lanes", folding.requant_lanes, lanes)
    _check_widths(stage, layer, in_parallel)


def window_channels(stage: Stage, folding: Folding) -> int:
    """Return the channels of one window word: a depthwise array has one for each PE."""
    return folding.pe if stage.depthwise else folding.simd


def are_multiples(one: int, other: int) -> bool:
    """Tell whether one of two word sizes is a multiple of the other, as a window needs it."""
    return one % other == 0 or other % one == 0


def lane_choices(stage: Stage, out_parallel: int, port_bits: int) -> tuple[int, ...]:
    """Return the legal `requant_lanes` of a layer, ascending; the head's must fit one beat."""
    lanes = divisors(out_parallel)
    if not stage.requants:
        lanes = tuple(d for d in lanes if d * OUTPUT_VALUE_BITS <= port_bits)
    return lanes


def check_plan(stage: Stage, layer: LayerDesign, dsp_type: str) -> None:
    """Raise DesignError unless the packing plan of `layer` was made for the numbers of `stage`."""
    plan, conv = layer.plan, stage.conv
    rules = (
        ("DSP", plan.dsp, dsp_type),
        ("kernel", plan.kernel, conv.kernel),
        ("weight bits", plan.w_bits, conv.w_format.bits),
        ("activation bits", plan.a_bits, stage.source.bits),
        ("narrow weights", plan.narrow, plan.narrow and conv.w_format.narrow),
    )
    for what, value, needed in rules:
        if value != needed:
            raise DesignError(
                f"layer '{layer.name}': its packing plan has {what} {value}, the layer needs "
                f"{needed}; take a plan from the table of this cell"
            )
    if not plan_fits(plan, conv, stage.source):
        kind = "depthwise " if stage.depthwise else ""
        raise DesignError(
            f"layer '{layer.name}': its plan packs {plan.groups} output channels, {plan.columns} "
            f"columns and {_rows(plan)} rows per tile; {conv.out_channels} {kind}output channels "
            f"and {stage.source.width} columns must hold whole tiles of one row"
        )


def plan_fits(plan: PackPlan, conv: Conv, source: TensorType, pe: int = 1) -> bool:
    """Tell whether `pe` arrays can run `plan` on `conv`, which reads maps of type `source`.

    They share the output channels evenly, a tile is not wider than the map and spans a single row.
    Depthwise channels share no activation, so that a tile holds one of them.
    """
    if is_depthwise(conv, source) and plan.groups > 1:
        return False
    whole = conv.out_channels % (pe * plan.groups) == 0
    return whole and plan.columns <= source.width and _rows(plan) == 1


def _rows(plan: PackPlan) -> int:
    return 1 + max(lane.row for word in plan.words for lane in word.acts)


def _check_ports(design: Design) -> None:
    image, name = design.graph.input, design.graph.input.name
    _require(name, "port_bits", design.port_bits, (32, 64, 128, 256, 512, 1024))
    if image.channels * image.port_bits > design.port_bits:
        raise DesignError(
            f"input '{name}': a pixel of {image.channels} x {image.port_bits} bits must fit one "
            f"beat of the {design.port_bits}-bit port; widen port_bits"
        )


def _check_result(design: Design) -> None:
    head = design.graph.output.source
    bits = infer(design.graph)[head].bits
    if bits > OUTPUT_VALUE_BITS:
        raise DesignError(
            f"head '{head}': its results have {bits} bits, the output port sends "
            f"{OUTPUT_VALUE_BITS}-bit integers; use fewer bits for its weights or activations"
        )


def word_bits(stage: Stage, layer: LayerDesign, in_parallel: int) -> dict[str, int]:
    """Return the widths of the words that `layer` moves, by what they are."""
    folding, plan, a_bits = layer.folding, layer.plan, stage.source.bits
    products, channels = folding.kernel_rows * folding.simd, window_channels(stage, folding)
    sums = max((acc.bits for _, acc in stage.sums), default=0)
    return {
        "word of sums": layer.out_parallel * sums,
        "input word": in_parallel * a_bits,
        "window word": folding.kernel_rows * channels * plan.columns * a_bits,
        "accumulator word": plan.columns * layer.out_parallel * stage.acc.bits,
        "weight word": rom_word_bits(plan, products),
    }


def _check_widths(stage: Stage, layer: LayerDesign, in_parallel: int) -> None:
    for what, bits in word_bits(stage, layer, in_parallel).items():
        if bits > MAX_WORD_BITS:
            raise DesignError(
                f"layer '{layer.name}': its {what} is {bits} bits wide, at most {MAX_WORD_BITS} "
                "are allowed; lower pe, simd or kernel_rows"
            )


def _require(layer: str, what: str, value: int, allowed: tuple[int, ...]) -> None:
    if value not in allowed:
        choices = ", ".join(map(str, allowed)) or "none"
        raise DesignError(f"layer '{layer}': {what} is {value}; allowed: {choices}")
