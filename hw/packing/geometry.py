# SPDX-License-Identifier: Apache-2.0
"""Geometry: the few integers that name a plan of equal strides, and their expansion to a PackPlan.

Two families (docs/packing.md): filter packing (one group, `taps` neighbouring taps times `columns`
neighbouring columns, one stride) and kernel packing (`groups` output channels times `columns`, one
tap, every product in its own field).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Literal

from hw.device import Dsp
from hw.intmath import activation_range, ceil_div, weight_range
from hw.packing.plan import ActLane, Field, PackPlan, Piece, WeightLane, Word

REDUCTION = 256  # words summed into one result; only the LUT estimate depends on it

Range = tuple[int, int]


@dataclass(frozen=True)
class Shape:
    """Lanes of a word: `groups` x `taps` weights and `columns` activations, equal strides.

    `weights_dense` (kernel packing): neighbouring fields differ in the group, not in the column.
    """

    groups: int
    taps: int
    columns: int
    weights_dense: bool = False

    @property
    def weight_lanes(self) -> int:
        return self.groups * self.taps

    @property
    def field_terms(self) -> tuple[int, ...]:
        """How many products meet in each field, lowest offset first."""
        if self.groups > 1:
            return (1,) * (self.groups * self.columns)
        count = self.taps + self.columns - 1
        return tuple(min(k + 1, count - k, self.taps, self.columns) for k in range(count))

    def strides(self, step: int) -> tuple[int, int]:
        """Return (weight, activation) strides that put neighbouring fields `step` bits apart."""
        if self.groups == 1:
            return step, step
        return (step, self.groups * step) if self.weights_dense else (self.columns * step, step)

    def macs_per_dsp(self, kernel: int, dsps: int) -> Fraction:
        """Return useful MACs per DSP and cycle: K groups columns / (ceil(K / taps) dsps)."""
        return Fraction(kernel * self.groups * self.columns, ceil_div(kernel, self.taps) * dsps)


@dataclass(frozen=True)
class Cut:
    """An operand split: `split` names the operand, `low` the bits of its lower piece."""

    split: Literal["w", "a"] | None = None
    low: int = 0


@dataclass(frozen=True)
class Placement:
    """Port of the weights (width in bits) and lane strides of one piece."""

    w_port: int
    w_stride: int
    a_stride: int


@dataclass(frozen=True)
class Geometry:
    """A plan inside a (dsp, kernel, w_bits, a_bits, narrow) cell; one placement per piece."""

    shape: Shape
    cut: Cut
    chain: int
    known_bits: int
    placements: tuple[Placement, ...]


@dataclass(frozen=True)
class Part:
    """What one piece multiplies: bits [low, low + bits) of the split operand, ranges of both."""

    low: int
    bits: int
    weights: Range
    acts: Range

    @property
    def spread(self) -> int:
        """Width of the interval that one product spans (activations are >= 0)."""
        return (max(self.weights[1], 0) - min(self.weights[0], 0)) * self.acts[1]


def cuts(w_bits: int, a_bits: int) -> Iterator[Cut]:
    """Yield every operand split into at most two pieces."""
    yield Cut()
    yield from (Cut("w", low) for low in range(1, w_bits))
    yield from (Cut("a", low) for low in range(1, a_bits))


def parts(w_bits: int, a_bits: int, narrow: bool, cut: Cut) -> tuple[Part, ...]:
    """Return the parts of a cut, lowest first; only the uppermost part of a weight is signed."""
    weights, acts, low = weight_range(w_bits, narrow), activation_range(a_bits), cut.low
    match cut.split:
        case None:
            return (Part(0, w_bits, weights, acts),)
        case "w":
            upper = (weights[0] >> low, weights[1] >> low)
            return (
                Part(0, low, activation_range(low), acts),
                Part(low, w_bits - low, upper, acts),
            )
        case "a":
            return (
                Part(0, low, weights, activation_range(low)),
                Part(low, a_bits - low, weights, activation_range(a_bits - low)),
            )


def build_word(
    device: Dsp, shape: Shape, part: Part, placement: Placement, known_bits: int
) -> Word:
    """Expand a placement into lanes and fields; legality is the business of `prove`.

    Taps run backwards along the word, so that products which meet agree in column - tap.
    """
    weights = tuple(
        WeightLane(
            placement.w_stride * lane, lane // shape.taps, shape.taps - 1 - lane % shape.taps
        )
        for lane in range(shape.weight_lanes)
    )
    acts = tuple(ActLane(placement.a_stride * c, 0, c) for c in range(shape.columns))
    return Word(
        w_port=placement.w_port,
        a_port=device.wide_bits + device.narrow_bits - placement.w_port,
        weights=weights,
        acts=acts,
        fields=build_fields(weights, acts, part, known_bits, device.p_bits),
        w_lo=part.weights[0],
        w_hi=part.weights[1],
        a_lo=part.acts[0],
        a_hi=part.acts[1],
    )


def build_fields(
    weights: tuple[WeightLane, ...],
    acts: tuple[ActLane, ...],
    part: Part,
    known_bits: int,
    p_bits: int,
) -> tuple[Field, ...]:
    """Collect the products of a word by offset and bound each sum after one multiplication."""
    terms: dict[int, list[tuple[int, int]]] = {}
    for i, weight in enumerate(weights):
        for j, act in enumerate(acts):
            terms.setdefault(weight.offset + act.offset, []).append((i, j))
    offsets = sorted(terms)
    products = [w * a for w in part.weights for a in part.acts]
    return tuple(
        Field(
            offset=offset,
            bits=p_bits - offset if above is None else above - offset + known_bits,
            terms=tuple(terms[offset]),
            lo=len(terms[offset]) * min(products),
            hi=len(terms[offset]) * max(products),
        )
        for offset, above in zip(offsets, [*offsets[1:], None], strict=True)
    )


def build_plan(
    device: Dsp, kernel: int, w_bits: int, a_bits: int, narrow: bool, geometry: Geometry
) -> PackPlan:
    """Expand a geometry into a plan without a proof."""
    shape, cut, known_bits = geometry.shape, geometry.cut, geometry.known_bits
    cut_parts = parts(w_bits, a_bits, narrow, cut)
    pieces = tuple(
        Piece(
            build_word(device, shape, part, placement, known_bits), cut.split, part.low, part.bits
        )
        for part, placement in zip(cut_parts, geometry.placements, strict=True)
    )
    spreads = tuple(part.spread for part in cut_parts)
    return PackPlan(
        dsp=device.name,
        kernel=kernel,
        w_bits=w_bits,
        a_bits=a_bits,
        narrow=narrow,
        technique="filter" if shape.groups == 1 else "kernel",
        mode="every" if geometry.chain == 1 else "chain",
        chain=geometry.chain,
        known_bits=known_bits,
        pieces=pieces,
        lut_per_mac=lut_per_mac(kernel, shape, spreads, geometry.chain, known_bits),
    )


@cache
def lut_per_mac(
    kernel: int, shape: Shape, spreads: tuple[int, ...], chain: int, known_bits: int
) -> float:
    """Estimate the LUTs per useful MAC of decoding and accumulating (structural, +-60 %).

    Per field: an accumulator as wide as a sum of REDUCTION words (one LUT a bit), used once per
    `chain` products. A known bit adds, per field but the lowest, one LUT6 per three terms of the
    parity in every cycle and one LUT per decode. Packing the words is not counted.
    """
    per_decode = per_cycle = 0
    for spread in spreads:
        for index, terms in enumerate(shape.field_terms):
            per_decode += (terms * spread * REDUCTION).bit_length()
            if known_bits and index:
                per_decode += 1
                per_cycle += ceil_div(2 * terms + (chain > 1), 6)
    luts = Fraction(per_decode, chain) + per_cycle
    return round(float(luts / shape.macs_per_dsp(kernel, 1)), 2)
