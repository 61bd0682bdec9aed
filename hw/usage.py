# SPDX-License-Identifier: Apache-2.0
"""LUT, FF, DSP and BRAM18 of one process or FIFO, from the structure of its C++ template.

DSP and BRAM18 follow by rule. LUT and FF are structural counts that no synthesis has calibrated:
the truth is expected within +-60 % (`BAND`) of a whole design's sum.
"""

from dataclasses import dataclass
from math import gcd

from hw.cycles import block_words, column_step_cycles, lane_steps, patch_rows
from hw.design import LayerDesign
from hw.design_verify import OUTPUT_VALUE_BITS
from hw.device import Dsp, dsp
from hw.intmath import ceil_div, signed_bits
from hw.ir import Requant, TensorType
from hw.mac_words import link_lanes, rom_word_bits, slice_bits, tally_bits, weight_lanes
from hw.packing.cost import lut_per_mac
from hw.packing.plan import ActLane, PackPlan, WeightLane
from hw.pipeline import (
    AddStreams,
    Concatenate,
    Fork,
    InputPort,
    MacArray,
    OutputPort,
    PatchBuffer,
    Pool,
    Process,
    Requantise,
    SpaceToDepth,
    Window,
)
from hw.stages import Stage

BAND = 0.6
BRAM18_SHAPES = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
SMALL_DEPTH = 64  # words that one LUT6 per bit stores
SMALL_BITS = 1024  # a block RAM would stay 94 % empty
SRL_DEPTH = 32  # words that one LUT per bit delays
CONTROL_LUT = 120  # flattened loop counters, handshakes and enables of one process
CONTROL_FF = 100
REQUANT_PARAMETER_BITS = 18 + 48  # multiplier and bias of one channel, at most


@dataclass(frozen=True)
class Usage:
    """Resources of a part of the design; `_low` and `_high` bound LUT and FF by the band."""

    dsp: int = 0
    lut: int = 0
    ff: int = 0
    bram18: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.dsp + other.dsp,
            self.lut + other.lut,
            self.ff + other.ff,
            self.bram18 + other.bram18,
        )

    @property
    def lut_low(self) -> int:
        return round(self.lut * (1 - BAND))

    @property
    def lut_high(self) -> int:
        return round(self.lut * (1 + BAND))

    @property
    def ff_low(self) -> int:
        return round(self.ff * (1 - BAND))

    @property
    def ff_high(self) -> int:
        return round(self.ff * (1 + BAND))


def process_usage(process: Process, stage: Stage, layer: LayerDesign, dsp: Dsp) -> Usage:
    """Return what `process` of the layer `stage`, mapped as `layer`, takes on `dsp` slices."""
    match process:
        case Window():
            return _window(process)
        case MacArray():
            return _mac_array(process, layer)
        case Requantise():
            return _requantise(process, multipliers(*stage.requantised(process.node), dsp))
        case OutputPort():
            return _output_port(process)
        case _:
            return pass_usage(process)


def pass_usage(
    process: InputPort | Pool | Fork | SpaceToDepth | PatchBuffer | Concatenate | AddStreams,
) -> Usage:
    """Return what a process takes that belongs to no convolution: it passes pixels or codes on."""
    match process:
        case InputPort():
            return input_usage(process)
        case Pool():
            return _pool(process)
        case Fork(parallel=parallel, bits=bits, columns=columns):
            width_bits = max(columns, 1) * parallel * bits
            return Usage(lut=CONTROL_LUT, ff=width_bits + CONTROL_FF)
        case SpaceToDepth(parallel=parallel, bits=bits):
            memories = _repeat(2, memory_usage(parallel * bits, block_words(process)))
            return memories + Usage(lut=parallel * bits + CONTROL_LUT, ff=CONTROL_FF)
        case PatchBuffer(parallel=parallel, bits=bits):
            depth = patch_rows(process) * process.width * process.channels // parallel
            return memory_usage(parallel * bits, depth) + Usage(
                lut=2 * parallel * bits + 2 * CONTROL_LUT, ff=CONTROL_FF
            )
        case Concatenate(parallel=parallel, bits=bits):
            return Usage(lut=parallel * bits + CONTROL_LUT, ff=parallel * bits + CONTROL_FF)
        case AddStreams(parallel=parallel, acc_bits=bits):
            return Usage(lut=parallel * bits + CONTROL_LUT, ff=parallel * bits + CONTROL_FF)


def input_usage(port: InputPort) -> Usage:
    """Return what unpacking beats takes: two beats of registers and a shifter per position."""
    positions = port.port_bits // gcd(port.port_bits, port.channels * port.pixel_bits)
    lut = port.port_bits * (1 + multiplexer(positions)) + CONTROL_LUT
    return Usage(lut=lut, ff=2 * port.port_bits + CONTROL_FF)


def fifo_usage(width_bits: int, depth: int) -> Usage:
    """Return what a FIFO takes: shift-register LUTs, or block RAM where it is deep."""
    control = 12 + 2 * depth.bit_length()
    if _is_small(width_bits, depth):
        return Usage(lut=width_bits * ceil_div(depth, SRL_DEPTH) + control, ff=width_bits + control)
    return Usage(lut=2 * control, ff=width_bits + control, bram18=bram18(width_bits, depth))


def memory_usage(width_bits: int, depth: int) -> Usage:
    """Return what a memory takes: distributed in LUTs while small, else block RAM."""
    if _is_small(width_bits, depth):
        return Usage(lut=width_bits * ceil_div(depth, SMALL_DEPTH))
    return Usage(bram18=bram18(width_bits, depth))


def bram18(width_bits: int, depth: int) -> int:
    """Return the 18 Kbit blocks of a `width_bits` x `depth` memory, in its best aspect ratio."""
    return min(ceil_div(width_bits, w) * ceil_div(depth, d) for w, d in BRAM18_SHAPES)


def multiplexer(inputs: int) -> int:
    """Return the LUT6 per bit of an `inputs`-to-1 multiplexer (a LUT6 selects one of four)."""
    return ceil_div(inputs - 1, 3)


def multipliers(requant: Requant, acc: TensorType, dsp: Dsp) -> int:
    """Return the DSPs of one requantiser lane: port-sized pieces of multiplier x accumulator.

    A shape-only graph is taken to keep the DSP rule of docs/IR.md (the multiplier fits its port).
    """
    mul, acc_bits = requant.mul, max(acc.bits, 2)
    if mul is None:
        return ceil_div(acc_bits - 1, dsp.wide_bits - 1)
    mul_bits = max(signed_bits(int(mul.min()), int(mul.max())), 2)
    ports = (dsp.narrow_bits - 1, dsp.wide_bits - 1)
    return min(
        ceil_div(mul_bits - 1, mul_port) * ceil_div(acc_bits - 1, acc_port)
        for mul_port, acc_port in (ports, ports[::-1])
    )


def _is_small(width_bits: int, depth: int) -> bool:
    return depth <= SMALL_DEPTH or width_bits * depth <= SMALL_BITS


def _repeat(count: int, usage: Usage) -> Usage:
    return Usage(count * usage.dsp, count * usage.lut, count * usage.ff, count * usage.bram18)


def _window(window: Window) -> Usage:
    """Row banks x columns x lanes of memories, as the template lays them out, and read muxes."""
    atom = min(window.in_parallel, window.simd)
    in_atoms, out_atoms = window.in_parallel // atom, window.simd // atom
    depth = (
        window.channels // (atom * in_atoms * out_atoms) * ceil_div(window.width, window.columns)
    )
    banks = window.kernel + 1
    memories = banks * window.columns * in_atoms * out_atoms
    word_bits = window.kernel_rows * window.columns * window.simd * window.bits
    select = multiplexer(banks) + multiplexer(in_atoms) + 1  # one more for the zero padding
    return _repeat(memories, memory_usage(atom * window.bits, depth)) + Usage(
        lut=word_bits * select + CONTROL_LUT, ff=2 * word_bits + CONTROL_FF
    )


def array_dsps(mac: MacArray, plan: PackPlan) -> int:
    """Return the DSP blocks of an array: one multiplier per PE, kernel row and input channel."""
    return ceil_div(mac.pe * mac.simd * mac.kernel_rows, plan.multipliers)


def _mac_array(mac: MacArray, layer: LayerDesign) -> Usage:
    """DSPs, weight ROMs, operands, decode and accumulation, sliding sums and their start values.

    Decoding and what it needs of known bits, canaries and accumulation are the plan's LUT per MAC
    with as many multipliers on one accumulator as the array has.
    All but plain plans start from values of their own for every channel.
    """
    plan, parallel, lanes = layer.plan, mac.pe * mac.groups, mac.simd * mac.kernel_rows
    own_luts, shared_luts, rom_bits, starts = array_prices(plan, lanes)
    operands = mac.pe if mac.depthwise else 1
    depth = (mac.out_channels // parallel) * column_step_cycles(mac)
    sums_bits = parallel * (mac.columns + mac.kernel - 1) * mac.acc_bits
    memories = _repeat(mac.pe, memory_usage(rom_bits, depth))
    if starts:
        memories += _repeat(parallel, memory_usage(mac.acc_bits, mac.out_channels // parallel))
    return memories + Usage(
        dsp=array_dsps(mac, plan),
        lut=lanes * (round(mac.pe * own_luts) + operands * shared_luts) + sums_bits + CONTROL_LUT,
        ff=2 * sums_bits
        + mac.pe * ceil_div(lanes, mac.link) * _remembered_bits(mac, plan)
        + operands * lanes * mac.columns * plan.a_bits
        + CONTROL_FF,
    )


def array_prices(plan: PackPlan, lanes: int) -> tuple[float, int, int, bool]:
    """Return what `plan` costs an array of `lanes` multipliers a PE, the same for every `pe`.

    LUTs of one multiplier, LUTs of the operand that it shares with those of other PEs, bits of a
    ROM word of one PE, and whether the sums start from stored values.
    """
    macs = plan.macs_per_dsp / plan.multipliers
    luts = float(macs) * lut_per_mac(plan, link=link_lanes(plan, lanes)) + _weight_operand(plan)
    return luts, _act_operand(plan), rom_word_bits(plan, lanes), plan.zero != "plain"


def _weight_operand(plan: PackPlan) -> int:
    """Return the LUTs that pack the weights of one multiplier: adders, and a choice of layouts."""
    layouts = {(word.w_port, word.w_add, _offsets(word.weights)) for word in plan.words}
    port_bits = max(word.w_port for word in plan.words)
    return (weight_lanes(plan) - 1) * slice_bits(plan) + port_bits * multiplexer(len(layouts))


def _act_operand(plan: PackPlan) -> int:
    """Return the LUTs that choose the activations of one multiplier (shared by all PEs).

    Lanes of activations do not overlap, so that packing them is wiring. Centring them is an adder
    where the port has no pre-adder.
    """
    columns = [tuple(lane.column for lane in word.acts) for word in plan.words]
    layouts = {
        (word.a_port, word.a_sub, plan.parts[word.part].a_low, _offsets(word.acts), chosen)
        for word, chosen in zip(plan.words, columns, strict=True)
    }
    primitive, choice = dsp(plan.dsp), multiplexer(len(layouts))
    added = (
        plan.zero == "centred" and not (primitive.pre_adder and word.a_port == primitive.wide_bits)
        for word in plan.words
    )
    return max(word.a_port for word in plan.words) * (choice + any(added))


def _offsets(lanes: tuple[WeightLane, ...] | tuple[ActLane, ...]) -> tuple[int, ...]:
    return tuple(lane.offset for lane in lanes)


def _remembered_bits(mac: MacArray, plan: PackPlan) -> int:
    """Return the registers beside one accumulator: carries of canaries or sums of known bits.

    An accumulator that is decoded in every cycle remembers nothing.
    """
    if not plan.known_bits or mac.decode_cycles == 1:
        return 0
    return (max(len(word.fields) for word in plan.words) - 1) * tally_bits(plan, mac.decode_cycles)


def _requantise(requant: Requantise, lane_dsps: int) -> Usage:
    """Lanes of multiplexer, DSPs and clip; parameter ROMs; registers of the words it joins."""
    lanes, sources = requant.lanes, requant.columns * lane_steps(requant)
    lane_lut = requant.acc_bits * multiplexer(sources) + requant.acc_bits // 2 + requant.bits
    parameters = memory_usage(REQUANT_PARAMETER_BITS, requant.out_channels // lanes)
    held_bits = requant.out_parallel * (requant.columns * requant.acc_bits + requant.bits)
    return _repeat(lanes, parameters) + Usage(
        dsp=lanes * lane_dsps,
        lut=lanes * lane_lut + CONTROL_LUT,
        ff=held_bits + lanes * requant.acc_bits + CONTROL_FF,
    )


def _pool(pool: Pool) -> Usage:
    """Two maxima (compare and select) per channel and half a row of horizontal maxima."""
    word_bits = pool.parallel * pool.bits
    row = memory_usage(word_bits, pool.width // 2 * (pool.out_channels // pool.parallel))
    return row + Usage(lut=3 * word_bits + CONTROL_LUT, ff=2 * word_bits + CONTROL_FF)


def _output_port(port: OutputPort) -> Usage:
    """Lanes of multiplexer and bias adder, bias ROMs, registers of one accumulator word."""
    values, sources = port.values_per_beat, port.columns * lane_steps(port)
    lane_lut = port.acc_bits * multiplexer(sources) + OUTPUT_VALUE_BITS
    biases = memory_usage(OUTPUT_VALUE_BITS, port.out_channels // values)
    held_bits = port.columns * port.out_parallel * port.acc_bits
    return _repeat(values, biases) + Usage(
        lut=values * lane_lut + CONTROL_LUT, ff=held_bits + port.port_bits + CONTROL_FF
    )
