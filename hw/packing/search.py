# SPDX-License-Identifier: Apache-2.0
"""Exact search of the families of `geometry` under the legality rules of docs/packing.md."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

from hw.device import Dsp, dsp
from hw.packing.geometry import (
    Geometry,
    Part,
    Placement,
    Range,
    Shape,
    cuts,
    lut_per_mac,
    parts,
)
from hw.packing.plan import PackError

KERNELS = (1, 3, 5, 7)
WIDEST_BITS = 8
CHAIN_LIMIT = 1 << 12  # decoding less often than that saves nothing any more
PLANS_PER_CELL = 12  # beyond it come low rates whose chains no layer is long enough for
COMMON_GROUPS = (1, 2, 4, 8)  # divisors that the output channels of nearly every layer have


def check_cell(kernel: int, w_bits: int, a_bits: int, narrow: bool) -> None:
    """Raise PackError for a kernel or bit width that has no plans."""
    if kernel not in KERNELS:
        raise PackError(f"no packing plans for kernel {kernel}; allowed: {KERNELS}")
    for name, bits, least in (("w_bits", w_bits, 2 if narrow else 1), ("a_bits", a_bits, 1)):
        if not least <= bits <= WIDEST_BITS:
            kind = "narrow " if narrow and name == "w_bits" else ""
            hint = "; a narrow 1-bit weight is always 0" if bits == 1 else ""
            raise PackError(
                f"no packing plans for {kind}{name} {bits}; allowed: {least}..{WIDEST_BITS}{hint}"
            )


def port_fits(port_bits: int, values: Range, lanes: int, stride: int) -> bool:
    """Tell whether every word of `lanes` values fits a signed port of `port_bits`."""
    ones = ((1 << (stride * lanes)) - 1) // ((1 << stride) - 1)
    limit = 1 << (port_bits - 1)
    return -limit <= values[0] * ones and values[1] * ones < limit


def capacity(shape: Shape, placement: Placement, spread: int, known_bits: int, p_bits: int) -> int:
    """Return how many products may be summed before decoding (0: not even one).

    `spread` is hi - lo of one product. All fields but the top one are one step wide.
    """
    top = placement.w_stride * (shape.weight_lanes - 1) + placement.a_stride * (shape.columns - 1)
    if top >= p_bits:
        return 0
    chain = ((1 << (p_bits - top)) - 1) // spread
    if top:
        step = min(placement.w_stride, placement.a_stride)
        inner = ((1 << (step + known_bits)) - 1) // (max(shape.field_terms) * spread)
        chain = min(chain, inner)
    return min(chain, CHAIN_LIMIT)


@cache
def best_placement(
    device: Dsp, shape: Shape, part: Part, known_bits: int
) -> tuple[int, Placement] | None:
    """Return the longest chain and a placement that reaches it, None if the word never fits.

    Wider steps give the inner fields room and take it from the top field: the first step that
    does not lengthen the chain ends the search of a port assignment.
    """
    spread, p_bits = part.spread, device.p_bits
    least = max(1, (max(shape.field_terms) * spread).bit_length() - known_bits)
    best = None
    for w_port, a_port in (
        (device.wide_bits, device.narrow_bits),
        (device.narrow_bits, device.wide_bits),
    ):
        longest = 0
        for step in range(least, p_bits):
            placement = Placement(w_port, *shape.strides(step))
            fits = port_fits(
                w_port, part.weights, shape.weight_lanes, placement.w_stride
            ) and port_fits(a_port, part.acts, shape.columns, placement.a_stride)
            chain = fits and capacity(shape, placement, spread, known_bits, p_bits)
            if chain <= longest:
                break
            longest = chain
            if best is None or chain > best[0]:
                best = chain, placement
    return best


@dataclass(frozen=True)
class Layout:
    """A shape that fits, its longest chain and one placement per part."""

    shape: Shape
    known_bits: int
    chain: int
    placements: tuple[Placement, ...]


def layout(
    device: Dsp, shape: Shape, cut_parts: tuple[Part, ...], known_bits: int
) -> Layout | None:
    """Return the layout of all parts with their common chain, None if one of them never fits."""
    found = []
    for part in cut_parts:
        placed = best_placement(device, shape, part, known_bits)
        if placed is None:
            return None
        found.append(placed)
    chain, placements = min(chain for chain, _ in found), tuple(place for _, place in found)
    return Layout(shape, known_bits, chain, placements)


@cache
def layouts(device: Dsp, cut_parts: tuple[Part, ...]) -> tuple[Layout, ...]:
    """Return every filter and kernel shape that fits, without and with a known bit.

    A word that fits still does after a lane is taken away or a bit becomes known, so each family
    ends at its first miss.
    """
    filters = [Shape(1, taps, 1) for taps in range(1, max(KERNELS) + 1)]
    kernels = [
        [Shape(groups, 1, 1, dense) for groups in range(2, device.p_bits)]
        for dense in (False, True)
    ]
    found: list[Layout | None] = []
    for family in (filters, *kernels):
        for shape in family:
            first = shape
            while known := layout(device, shape, cut_parts, 1):
                found += [layout(device, shape, cut_parts, 0), known]
                shape = replace(shape, columns=shape.columns + 1)
            if shape == first:
                break
    return tuple(filter(None, found))


@dataclass(frozen=True)
class Candidate:
    """A geometry and what it is judged by."""

    geometry: Geometry
    macs_per_dsp: Fraction
    lut_per_mac: float

    @property
    def groups(self) -> int:
        return self.geometry.shape.groups

    def dominates(self, other: "Candidate") -> bool:
        """Tell whether self is nowhere worse; a divisor of the other's groups is never worse."""
        return (
            self.macs_per_dsp >= other.macs_per_dsp
            and self.geometry.chain >= other.geometry.chain
            and self.lut_per_mac <= other.lut_per_mac
            and other.groups % self.groups == 0
        )

    @property
    def rank(self) -> tuple:
        """Sort key: highest rate first, then cheapest, then the least restrictive shape."""
        geometry, shape, cut = self.geometry, self.geometry.shape, self.geometry.cut
        cost = (-self.macs_per_dsp, self.lut_per_mac, len(geometry.placements))
        restrictions = (shape.groups, shape.columns, -geometry.chain, geometry.known_bits)
        return *cost, *restrictions, cut.split or "", cut.low, shape.weights_dense


def candidates(
    device: Dsp, kernel: int, w_bits: int, a_bits: int, narrow: bool
) -> Iterator[Candidate]:
    """Yield every cut, shape and number of known bits of a cell, each with its longest chain."""
    for cut in cuts(w_bits, a_bits):
        cut_parts = parts(w_bits, a_bits, narrow, cut)
        spreads = tuple(part.spread for part in cut_parts)
        for found in layouts(device, cut_parts):
            shape, known_bits, chain = found.shape, found.known_bits, found.chain
            if shape.taps <= kernel:
                yield Candidate(
                    Geometry(shape, cut, chain, known_bits, found.placements),
                    shape.macs_per_dsp(kernel, len(cut_parts)),
                    lut_per_mac(kernel, shape, spreads, chain, known_bits),
                )


def pareto(cell: Iterator[Candidate]) -> list[Candidate]:
    """Return the candidates that no other dominates, best first."""
    front: list[Candidate] = []
    for candidate in sorted(cell, key=lambda candidate: candidate.rank):
        if not any(kept.dominates(candidate) for kept in front):
            front.append(candidate)
    return front


def thin(front: list[Candidate], count: int) -> list[Candidate]:
    """Keep the `count` best, always with the fastest for each of COMMON_GROUPS and the cheapest.

    The cheapest (LUT per MAC) is taken among single-group candidates, which suit every layer.
    """
    needed = {
        next((one for one in front if one.groups == groups), front[0]) for groups in COMMON_GROUPS
    }
    needed.add(min((one for one in front if one.groups == 1), key=lambda one: one.lut_per_mac))
    others = [candidate for candidate in front if candidate not in needed]
    return sorted(needed.union(others[: count - len(needed)]), key=front.index)


def search(
    dsp_name: str, kernel: int, w_bits: int, a_bits: int, narrow: bool = True
) -> tuple[Geometry, ...]:
    """Return the Pareto set of a cell over rate, chain, LUT per MAC and groups, best rate first.

    At most PLANS_PER_CELL geometries, among them one with a single group. Raises PackError for a
    kernel or width without plans, DeviceError for an unknown DSP.
    """
    check_cell(kernel, w_bits, a_bits, narrow)
    front = pareto(candidates(dsp(dsp_name), kernel, w_bits, a_bits, narrow))
    return tuple(candidate.geometry for candidate in thin(front, PLANS_PER_CELL))
